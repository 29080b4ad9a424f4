"""Part plans of multipart uploads. Pure functions, from the limits of S3 and of stores that differ from it.

Limits of S3: user guide, «Multipart upload limits»: 5 MiB to 5 GiB a part (the last may be smaller),
10,000 parts, so 48.8 TiB an object.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby, repeat

from model.errors import InvalidInput
from model.routing import GIB, MIB

MIN_PART = 5 * MIB
MAX_PART = 5 * GIB
MAX_PARTS = 10_000
MAX_OBJECT = MAX_PART * MAX_PARTS

Runs = tuple[tuple[int, int], ...]
"""Parts in order, as runs of (bytes of one part, how many such parts)."""


@dataclass(frozen=True, slots=True)
class PartLimits:
    """What an endpoint takes as parts; sizes in bytes. Only the last part may be below `least`."""

    least: int = MIN_PART
    most: int = MAX_PART
    count: int = MAX_PARTS
    equal: bool = False
    """Whether all parts but the last must have the same size."""

    @property
    def largest_object(self) -> int:
        return self.most * self.count


S3_LIMITS = PartLimits()

_LIMITS_OF_HOSTS = {
    # Cloudflare R2, «Limits» and «Upload objects»
    "r2.cloudflarestorage.com": PartLimits(most=5 * GIB - 5 * MIB, equal=True),
    # Backblaze B2, «S3-Compatible API»: decimal megabytes and gigabytes
    "backblazeb2.com": PartLimits(least=5_000_000, most=5_000_000_000),
    # Scaleway Object Storage, «Limits»
    "scw.cloud": PartLimits(count=1_000),
}


def limits_of(host: str) -> PartLimits:
    """The limits of the store at `host`, as its documentation has them; S3's where nothing else is known."""
    for suffix, limits in _LIMITS_OF_HOSTS.items():
        if host == suffix or host.endswith(f".{suffix}"):
            return limits
    return S3_LIMITS


@dataclass(frozen=True, slots=True)
class PartPlan:
    """How `size` bytes are cut: parts of `part_size` bytes and a last one with the rest, or as `runs` say."""

    size: int
    part_size: int
    runs: Runs = ()
    """Empty where all parts but the last are of `part_size` bytes."""

    @property
    def count(self) -> int:
        if self.runs:
            return sum(parts for _, parts in self.runs)
        return max(1, -(-self.size // self.part_size))

    @property
    def name(self) -> str:
        """The plan in words, equal for equal plans: part of an upload's identity."""
        return ",".join(f"{length}x{parts}" for length, parts in self.runs) or str(self.part_size)

    def spans(self) -> Iterator[tuple[int, int, int]]:
        """(number from 1, offset, length) of each part, in order."""
        offset = 0
        for number, length in enumerate(self._lengths(), start=1):
            yield number, offset, length
            offset += length

    def _lengths(self) -> Iterator[int]:
        if self.runs:
            return chain.from_iterable(repeat(length, parts) for length, parts in self.runs)
        last = self.size - (self.count - 1) * self.part_size
        return chain(repeat(self.part_size, self.count - 1), (last,))


def plan_parts(size: int, wanted: int, limits: PartLimits = S3_LIMITS) -> PartPlan:
    """The plan for an object of `size` bytes with equal parts of about `wanted` bytes.

    `wanted` is raised to the smallest whole MiB that keeps to the endpoint's number of parts, and never leaves its
    least and most. Raises InvalidInput for an object no plan can hold (above 48.8 TiB on S3).
    """
    if size > limits.largest_object:
        raise InvalidInput(
            f"an object of {size} bytes is above the limit of {limits.largest_object} bytes "
            f"({limits.count:,} parts of {limits.most} bytes)"
        )
    fewest = -(-size // limits.count)
    part_size = -(-max(wanted, fewest, limits.least) // MIB) * MIB
    return PartPlan(size, min(part_size, limits.most))


def plan_as(lengths: Sequence[int], limits: PartLimits = S3_LIMITS) -> PartPlan | None:
    """The plan with parts of exactly these lengths, in order; None where the endpoint does not take them."""
    *but_last, last = lengths
    fits = (
        len(lengths) <= limits.count
        and max(lengths) <= limits.most
        and all(length >= limits.least for length in but_last)
    )
    equal = len(set(but_last)) <= 1 and (not but_last or 0 < last <= but_last[0])
    if not fits or (limits.equal and not equal):
        return None
    if equal:
        return PartPlan(sum(lengths), but_last[0] if but_last else max(last, 1))
    return PartPlan(sum(lengths), max(lengths), tuple((length, len(list(run))) for length, run in groupby(lengths)))


def plan_equal(size: int, part_size: int, limits: PartLimits = S3_LIMITS) -> PartPlan | None:
    """The plan with parts of exactly `part_size` bytes but for the last; None where the endpoint does not take it."""
    plan = PartPlan(size, part_size)
    if plan.count > limits.count or part_size > limits.most or (plan.count > 1 and part_size < limits.least):
        return None
    return plan


_USUAL_PART_SIZES = (8 * MIB, 16 * MIB, 5 * MIB, 15 * MIB)
"""What aws-cli and boto3, the console, rclone and s3cmd cut objects into unless told otherwise."""


def guessed_part_size(size: int, count: int) -> int | None:
    """The part size an object of `size` bytes and `count` parts was probably uploaded with.

    A usual one if it fits, else the only whole number of MiB that does, else the smallest; None where none fits.
    """
    if count == 1:
        return max(size, 1)
    least = -(-size // count)
    for usual in _USUAL_PART_SIZES:
        if -(-size // usual) == count:
            return usual
    rounded = -(-least // MIB) * MIB
    return rounded if -(-size // rounded) == count else None
