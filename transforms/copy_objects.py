"""CopyObjects: units of small or medium objects into batches of integrity records.

Copies run on the process's engine; several units overlap. A failure of one object is its record's
status. What this run has recorded already (a repeated bundle) costs a query, not a GET.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam

from ledger import queries
from model.objects import CopyUnit, ObjectRef, unpack_unit
from model.records import IntegrityRecord
from model.status import SizeClass, Status
from storage.config import TransferLimits
from storage.copier import CopyMode, ObjectCopy
from storage.limits import body_cost
from storage.server_copy import copy_on_server
from transforms.context import JobContext
from transforms.records import OTHER_OBJECT, unread_record
from transforms.worker import Worker
from transforms.worker_dofn import EngineDoFn


class CopyObjects(beam.PTransform):
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
        return units | "Copy" >> beam.ParDo(_CopyFn(self._job, self._kind))


class UnitDoFn(EngineDoFn):
    """A step over units: `handle` is run on the engine for each object this run has not finished yet."""

    def __init__(self, job: JobContext, kind: SizeClass) -> None:
        super().__init__(job)
        self._kind = kind

    def process(self, element: CopyUnit) -> Iterator[list[IntegrityRecord]]:
        settled, wanted = settled_and_wanted(self.worker, unpack_unit(element), self._kind)
        if settled:
            yield settled
        self.bundle.submit(self.handle, self.prepared(wanted))
        yield from self.finished(most_pending(self.worker.limits, self._kind))

    def outputs(self, results: list[IntegrityRecord]) -> Iterable[list[IntegrityRecord]]:
        return [results]

    def prepared(self, refs: list[ObjectRef]) -> Sequence[Any]:
        """What `handle` gets of each object."""
        return refs

    async def handle(self, one: Any) -> IntegrityRecord:
        """Bring one object to its end."""
        raise NotImplementedError


class _CopyFn(UnitDoFn):
    async def handle(self, one: ObjectRef) -> IntegrityRecord:
        return await copy_object(self.worker, one, self._kind)


async def copy_object(worker: Worker, ref: ObjectRef, kind: SizeClass) -> IntegrityRecord:
    """Copy one object that fits one request, once it is admitted, by whom the run's rules say; count it."""
    cost = body_cost(ref.size, worker.limits.whole_body_bytes, worker.limits.window_bytes)
    async with worker.admission.admit(kind, cost):
        if worker.copies.rules.copy_mode is CopyMode.STREAM:
            record = await ObjectCopy(worker.copies, ref, kind).run()
        else:
            record = await copy_on_server(worker.multipart, ref, kind)
    worker.count_record(record)
    return record


def most_pending(limits: TransferLimits, kind: SizeClass) -> int:
    """How many objects of a class may be under way before a bundle waits for some of them."""
    return {
        SizeClass.SMALL: limits.small_in_flight,
        SizeClass.MEDIUM: limits.medium_in_flight,
        SizeClass.LARGE: limits.parts_in_flight,
    }[kind]


def settled_and_wanted(
    worker: Worker, refs: Sequence[ObjectRef], kind: SizeClass
) -> tuple[list[IntegrityRecord], list[ObjectRef]]:
    """Records of the objects this run has finished already, and the objects left to do. One query."""
    run, keys = worker.job.run, [ref.destination_key for ref in refs]
    finished = worker.ledger.call(lambda conn: queries.finished_in_run(conn, run, keys))
    settled = [
        settled_record(worker.job, finished[ref.destination_key], ref, kind)
        for ref in refs
        if ref.destination_key in finished
    ]
    return settled, [ref for ref in refs if ref.destination_key not in finished]


def settled_record(job: JobContext, recorded: IntegrityRecord, ref: ObjectRef, kind: SizeClass) -> IntegrityRecord:
    """The record of `ref` when this run has already finished `recorded` under its destination key.

    The same row again is what it was, another row of the same source object is a DUPLICATE of the size it states, and
    another object is FAILED: nothing may be written over what is proven.
    """
    source = (recorded.source_bucket, recorded.source_key, recorded.source_version)
    if source != (ref.bucket, ref.key, ref.version_id):
        return unread_record(job, ref, kind, Status.FAILED, OTHER_OBJECT)
    if (recorded.file_number, recorded.row_number) == (ref.file_number, ref.row_number):
        return recorded._replace(recorded=True)
    return recorded._replace(
        file_number=ref.file_number,
        row_number=ref.row_number,
        size=ref.size,
        size_class=kind,
        status=Status.DUPLICATE,
        recorded=True,
    )
