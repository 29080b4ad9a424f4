"""Which branch an object takes, and how objects are packed into units. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass

from model.status import SizeClass

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

MAX_SINGLE_PUT = 5 * GIB
"""The largest body of one PutObject; anything above goes by parts (S3 user guide, «Uploading objects»)."""

_UNITS_PER_WORKER = 32
"""So many, and one unit more or less is a thirtieth of a worker's time."""

CLASSES = (SizeClass.SMALL, SizeClass.MEDIUM, SizeClass.LARGE)
"""The order of the branches, as `beam.Partition` numbers them: small first."""


@dataclass(frozen=True, slots=True)
class Boundaries:
    """Small is below `small_below` bytes, medium up to and including `medium_up_to`, large above."""

    small_below: int = MIB
    medium_up_to: int = 100 * MIB


def size_class(size: int, boundaries: Boundaries) -> SizeClass:
    """The class of an object of `size` bytes. Total: every size from 0 up has one."""
    if size > boundaries.medium_up_to or size > MAX_SINGLE_PUT:
        return SizeClass.LARGE
    return SizeClass.SMALL if size < boundaries.small_below else SizeClass.MEDIUM


def branch(size: int, boundaries: Boundaries) -> int:
    """The number of the branch for `beam.Partition`."""
    return CLASSES.index(size_class(size, boundaries))


def unit_objects(most: int, rows: int, workers: int) -> int:
    """Objects in one unit: `most`, or fewer where a slice of `rows` would give its workers too few units to share.

    A unit is done by one worker from its first object to its last, so the last ones decide how long all wait.
    """
    return max(1, min(most, rows // (workers * _UNITS_PER_WORKER)))
