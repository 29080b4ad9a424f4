"""CopyObjects: units of small or medium objects into integrity records.

Copies run on the process's engine; several units overlap. A failure of one object is its record's
status. What this run has recorded already (a repeated bundle) costs a query, not a GET.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import apache_beam as beam

from ledger import queries
from model.objects import CopyUnit, ObjectRef, RowId, unpack_unit
from model.records import IntegrityRecord
from model.status import SizeClass, Status
from storage.copier import ObjectCopy
from storage.limits import body_cost
from transforms.context import JobContext
from transforms.worker_dofn import EngineDoFn


class CopyObjects(beam.PTransform):
    """PCollection of `CopyUnit` to `IntegrityRecord`s.

    Args:
      job: the run's context.
      kind: the size class of this branch, whose in-flight limit holds.
    """

    def __init__(self, job: JobContext, kind: SizeClass) -> None:
        super().__init__()
        self._job = job
        self._kind = kind

    def expand(self, units: Any) -> Any:
        return units | "Copy" >> beam.ParDo(_CopyFn(self._job, self._kind))


class _CopyFn(EngineDoFn):
    def __init__(self, job: JobContext, kind: SizeClass) -> None:
        super().__init__(job)
        self._kind = kind

    def process(self, element: CopyUnit) -> Iterator[IntegrityRecord]:
        refs = unpack_unit(element)
        recorded = self._recorded(refs)
        yield from recorded.values()
        self.bundle.submit(self._copy, [ref for ref in refs if ref.row_id not in recorded])
        yield from self.finished(self._most_pending)

    @property
    def _most_pending(self) -> int:
        limits = self.worker.limits
        return limits.small_in_flight if self._kind is SizeClass.SMALL else limits.medium_in_flight

    def _recorded(self, refs: list[ObjectRef]) -> dict[RowId, IntegrityRecord]:
        run = self._job.run
        keys = [ref.destination_key for ref in refs]
        finished = self.worker.ledger.call(lambda conn: queries.finished_in_run(conn, run, keys))
        known = ((ref, finished[ref.destination_key]) for ref in refs if ref.destination_key in finished)
        return {ref.row_id: recorded_record(row, ref) for ref, row in known if is_same_source(row, ref)}

    async def _copy(self, ref: ObjectRef) -> IntegrityRecord:
        worker = self.worker
        cost = body_cost(ref.size, worker.limits.whole_body_bytes, worker.limits.window_bytes)
        async with worker.admission.admit(self._kind, cost):
            record = await ObjectCopy(worker.copies, ref, self._kind).run()
        worker.count(self._kind, record.status, record.size)
        return record


def is_same_source(record: IntegrityRecord, ref: ObjectRef) -> bool:
    """Whether `record` is of the source object `ref` names."""
    return (record.source_bucket, record.source_key, record.source_version) == (ref.bucket, ref.key, ref.version_id)


def recorded_record(record: IntegrityRecord, ref: ObjectRef) -> IntegrityRecord:
    """The record of `ref` when this run already holds `record` of the same source object.

    The same row again is what it was; another row of it is a DUPLICATE.
    """
    same_row = (record.file_number, record.row_number) == (ref.file_number, ref.row_number)
    return replace(
        record,
        file_number=ref.file_number,
        row_number=ref.row_number,
        status=record.status if same_row else Status.DUPLICATE,
        recorded=True,
    )
