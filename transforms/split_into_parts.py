"""SplitIntoParts: an open upload into its parts; stateful, so one split per object however often delivered.

Parts an earlier run left go straight into assembly. Keyed by upload identity; put a Reshuffle before
and after, because a stateful stage is one bundle on one worker with everything fused to it.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.coders import BytesCoder
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec

from model.parts import PartPlan
from model.records import IntegrityRecord, Part, PartOutcome, PartResult, Upload
from model.status import SizeClass, Status
from transforms.context import JobContext
from transforms.records import unread_record
from transforms.tallies import RECORDS

ALREADY_DONE = "already_done"
"""The tag of part results that need no copy."""


class SplitIntoParts(beam.PTransform):
    """PCollection of (identity, `Upload`) to `Part`s; finished `PartResult`s and records beside them.

    Args:
      job: the run's context.
    """

    def __init__(self, job: JobContext) -> None:
        super().__init__()
        self._job = job

    def expand(self, uploads: Any) -> Any:
        return uploads | "Split" >> beam.ParDo(_SplitFn(self._job)).with_outputs(ALREADY_DONE, RECORDS, main="parts")


class _SplitFn(beam.DoFn):
    FIRST = ReadModifyWriteStateSpec("first", BytesCoder())

    def __init__(self, job: JobContext) -> None:
        self._job = job

    def process(self, element: tuple[str, Upload], first: Any = beam.DoFn.StateParam(FIRST)) -> Iterator[Any]:
        _, upload = element
        row = (upload.source.file_number, upload.source.row_number)
        seen = first.read()
        if seen is None:
            first.write(pickle.dumps(row))
            yield from _parts(upload)
        elif pickle.loads(seen) != row:
            yield beam.pvalue.TaggedOutput(RECORDS, [self._duplicate(upload)])

    def _duplicate(self, upload: Upload) -> IntegrityRecord:
        return unread_record(
            self._job,
            upload.source,
            SizeClass.LARGE,
            Status.DUPLICATE,
            "another row of this run is the same object",
        )


def _parts(upload: Upload) -> Iterator[Any]:
    recorded = {part.number: part for part in upload.recorded}
    bare = upload._replace(recorded=(), runs=())
    for number, offset, length in PartPlan(upload.source.size, upload.part_size, upload.runs).spans():
        if number in recorded:
            done = PartResult(bare, number, PartOutcome.ALREADY_DONE, recorded[number])
            yield beam.pvalue.TaggedOutput(ALREADY_DONE, done)
        else:
            yield Part(bare, number, offset, length)
