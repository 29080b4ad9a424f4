"""VerifyObjects: units of objects into batches of integrity records of what is found at the destination.

Looks and reads run on the process's engine, admitted as copies are. Nothing is written at the destination. What this
run has recorded already (a repeated bundle) costs a query.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import apache_beam as beam

from ledger import destination_rows, queries
from model.objects import ObjectRef
from model.records import IntegrityRecord
from model.status import SizeClass
from options.config import VerifyOptions
from storage.limits import body_cost
from storage.verification import Known, Listed, ObjectVerification
from transforms.context import JobContext
from transforms.copy_objects import UnitDoFn


class VerifyObjects(beam.PTransform):
    """PCollection of `CopyUnit` to lists of `IntegrityRecord`.

    Args:
      job: the run's context.
      kind: the size class of this branch, whose in-flight limit holds.
    """

    def __init__(self, job: JobContext, kind: SizeClass) -> None:
        super().__init__()
        self._job = job
        self._kind = kind

    def expand(self, units: Any) -> Any:
        return units | "Verify" >> beam.ParDo(_VerifyFn(self._job, self._kind))


class _Look(NamedTuple):
    ref: ObjectRef
    known: Known


class _VerifyFn(UnitDoFn):
    def __init__(self, job: JobContext, kind: SizeClass) -> None:
        super().__init__(job, kind)
        self._asked = job.config.verify or VerifyOptions()

    def prepared(self, refs: list[ObjectRef]) -> list[_Look]:
        """The objects, with what the ledger and the destination's inventory know of them: a query each."""
        run, keys = self._job.run, [ref.destination_key for ref in refs]
        recorded = self.worker.ledger.call(lambda conn: queries.recorded(conn, run, keys))
        listed: dict[str, destination_rows.ListedObject] = {}
        if self._asked.is_joined:
            listed = self.worker.ledger.call(lambda conn: destination_rows.listed(conn, run, keys))

        def known(key: str) -> Known:
            row = listed.get(key)
            return Known(recorded.get(key), Listed(row.size, row.etag) if row is not None else None)

        return [_Look(ref, known(ref.destination_key)) for ref in refs]

    async def handle(self, one: _Look) -> IntegrityRecord:
        worker, deep = self.worker, self._asked.deep
        limits = worker.limits
        cost = body_cost(one.ref.size, limits.whole_body_bytes, limits.window_bytes) if deep else 0
        async with worker.admission.admit(self._kind, cost):
            work = ObjectVerification(worker.copies, one.ref, self._kind, one.known, deep=deep)
            record = await work.run()
        worker.count_record(record)
        return record
