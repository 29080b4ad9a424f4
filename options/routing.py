"""Size classes, units and parts: how the work is cut."""

from __future__ import annotations

import argparse

from options import values
from options.config import RoutingOptions
from options.errors import UsageError
from options.flags import add_flags, choice_flag, number_flag, size_flag
from options.sizes import format_size

MIB = 1024**2
GIB = 1024**3
# One PutObject takes 5 GiB, a part 5 MiB to 5 GiB (S3 user guide, «Multipart upload limits»).
MAX_SINGLE_PUT = 5 * GIB
MIN_PART = 5 * MIB
MAX_PART = 5 * GIB
MAX_PARTS = 10_000
PART_LAYOUT = ("size", "source")
_DEFAULT = RoutingOptions()

ROUTING_FLAGS = (
    size_flag(
        "small_below",
        _DEFAULT.small_below_bytes,
        "objects below this size in bytes are small; 1MiB, 100MB, 5GiB and the like are understood",
        values.size(0, MAX_SINGLE_PUT),
    ),
    size_flag(
        "medium_up_to",
        _DEFAULT.medium_up_to_bytes,
        "objects up to this size in bytes are medium, those above are large and go by parts; at most 5GiB",
        values.size(0, MAX_SINGLE_PUT),
    ),
    size_flag(
        "part_size",
        _DEFAULT.part_size_bytes,
        "bytes in one part of a large object, 5MiB to 5GiB; raised where an object would need over 10,000 parts",
        values.size(MIN_PART, MAX_PART),
    ),
    choice_flag(
        "part_layout",
        _DEFAULT.part_layout,
        "how large objects are cut; size: into parts of --part_size, source: as the source object was, so that its "
        "ETag and the copy's agree",
        values.one_of(*PART_LAYOUT),
        PART_LAYOUT,
    ),
    number_flag(
        "max_parts",
        _DEFAULT.max_parts,
        "most parts of one upload the destination takes; S3 takes 10000",
        values.whole(1, MAX_PARTS),
    ),
    number_flag(
        "small_unit_objects",
        _DEFAULT.small_unit_objects,
        "most small objects in one unit of work",
        values.whole(1, 10_000),
    ),
    size_flag(
        "small_unit_bytes",
        _DEFAULT.small_unit_bytes,
        "most bytes of small objects in one unit of work",
        values.size(1, 1024 * GIB),
    ),
    number_flag(
        "medium_unit_objects",
        _DEFAULT.medium_unit_objects,
        "most medium objects in one unit of work",
        values.whole(1, 1_000),
    ),
    number_flag(
        "slice_rows",
        _DEFAULT.slice_rows,
        "rows of the manifest in one pipeline run of a local runner; more rows need more memory in the driver",
        values.whole(1, 100_000_000),
        shown="500000",
    ),
)


def add_routing_flags(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of this theme."""
    add_flags(parser, "size classes and units", ROUTING_FLAGS)


def read_routing(given: argparse.Namespace) -> RoutingOptions:
    """The flags of this theme. Raises UsageError for boundaries in the wrong order."""
    if given.small_below > given.medium_up_to:
        raise UsageError(
            "--small_below",
            f"{format_size(given.small_below)} is above --medium_up_to, {format_size(given.medium_up_to)}; "
            "lower it or raise --medium_up_to",
        )
    return RoutingOptions(
        small_below_bytes=given.small_below,
        medium_up_to_bytes=given.medium_up_to,
        small_unit_objects=given.small_unit_objects,
        small_unit_bytes=given.small_unit_bytes,
        medium_unit_objects=given.medium_unit_objects,
        part_size_bytes=given.part_size,
        part_layout=given.part_layout,
        max_parts=given.max_parts,
        slice_rows=given.slice_rows,
    )
