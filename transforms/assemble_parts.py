"""AssembleParts: decides, per upload, that all parts are in or that one failed for good; stateful.

A bitmap tells how many different parts were seen, so repeated results count once and the bag is read
once, at the end. Keyed by upload identity, with a Reshuffle before and after.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.coders import BytesCoder, PickleCoder
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec

from model.records import PartOutcome, PartRecord, PartResult, Upload
from model.status import Status

_DECIDED = b"decided"


class Assembly(NamedTuple):
    """An upload whose fate is known: all `parts`, or the `failure` that one of them decided."""

    upload: Upload
    parts: tuple[PartRecord, ...]
    failure: Status | None
    error: str | None
    attempts: int


class AssembleParts(beam.PTransform):
    """PCollection of (identity, `PartResult`) to one `Assembly` per upload."""

    def expand(self, results: Any) -> Any:
        return results | "Assemble" >> beam.ParDo(_AssembleFn())


class _AssembleFn(beam.DoFn):
    PARTS = BagStateSpec("parts", PickleCoder())
    SEEN = ReadModifyWriteStateSpec("seen", BytesCoder())

    def process(
        self,
        element: tuple[str, PartResult],
        parts: Any = beam.DoFn.StateParam(PARTS),
        seen: Any = beam.DoFn.StateParam(SEEN),
    ) -> Iterator[Assembly]:
        _, result = element
        bitmap = seen.read()
        if bitmap == _DECIDED:
            return
        upload = result.upload
        if result.outcome is PartOutcome.FAILED or result.part is None:
            seen.write(_DECIDED)
            yield Assembly(upload, (), result.failure or Status.FAILED, result.error, result.attempts)
            return
        marked = mark(bitmap, result.number, upload.part_count)
        if marked is None:
            return
        parts.add((result.part, result.attempts))
        if count(marked) < upload.part_count:
            seen.write(marked)
            return
        seen.write(_DECIDED)
        collected = list(parts.read())
        attempts = max(tries for _, tries in collected)
        yield Assembly(
            upload, tuple(sorted({part.number: part for part, _ in collected}.values())), None, None, attempts
        )


def mark(bitmap: bytes | None, number: int, part_count: int) -> bytes | None:
    """`bitmap` with part `number` (from 1) set; None where it was set already."""
    bits = bytearray(bitmap or bytes(-(-part_count // 8)))
    index, bit = divmod(number - 1, 8)
    if bits[index] & (1 << bit):
        return None
    bits[index] |= 1 << bit
    return bytes(bits)


def count(bitmap: bytes) -> int:
    """How many parts are set."""
    return int.from_bytes(bitmap, "big").bit_count()
