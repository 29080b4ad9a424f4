"""Part plans of multipart uploads. Pure functions, from S3's limits.

Limits: S3 user guide, «Multipart upload limits»: 5 MiB to 5 GiB a part (the last may be smaller),
10,000 parts, so 48.8 TiB an object.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from model.errors import InvalidInput
from model.routing import GIB, MIB

MIN_PART = 5 * MIB
MAX_PART = 5 * GIB
MAX_PARTS = 10_000
MAX_OBJECT = MAX_PART * MAX_PARTS


@dataclass(frozen=True, slots=True)
class PartPlan:
    """Equal parts of `part_size` bytes but for the last; `count` parts cover `size` bytes."""

    size: int
    part_size: int

    @property
    def count(self) -> int:
        return max(1, -(-self.size // self.part_size))

    def spans(self) -> Iterator[tuple[int, int, int]]:
        """(number from 1, offset, length) of each part, in order."""
        for index in range(self.count):
            offset = index * self.part_size
            yield index + 1, offset, min(self.part_size, self.size - offset)


def plan_parts(size: int, wanted: int) -> PartPlan:
    """The plan for an object of `size` bytes with parts of about `wanted` bytes.

    `wanted` is raised to the smallest whole MiB that keeps 10,000 parts and never leaves 5 MiB..5 GiB.
    Raises InvalidInput for an object no plan can hold (above 48.8 TiB).
    """
    if size > MAX_OBJECT:
        raise InvalidInput(
            f"an object of {size} bytes is above S3's limit of {MAX_OBJECT} bytes (10,000 parts of 5 GiB)"
        )
    least = -(-size // MAX_PARTS)
    part_size = max(wanted, least, MIN_PART)
    part_size = min(-(-part_size // MIB) * MIB, MAX_PART)
    return PartPlan(size, part_size)
