"""SelectObjects: rows of an inventory into the objects to copy.

Delete markers and versions that are not the latest are EXCLUDED, bad rows go to the dead letters.
A row without a size is completed by one HEAD. Objects in an archive class are tried all the same: an
inventory does not say what has been restored since.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import apache_beam as beam

from model.errors import TransferError
from model.objects import BadRow, InventoryRow, ObjectRef
from model.records import DeadLetter, IntegrityRecord
from model.routing import size_class
from model.status import SizeClass, Status
from storage.copier import status_of
from storage.retry import repeated
from transforms.context import JobContext, boundaries
from transforms.read_inventory import RowBatch
from transforms.records import unread_record
from transforms.tallies import RECORDS, TALLIES, TallyBook
from transforms.worker_dofn import WorkerDoFn

_HEADS_AT_ONCE = 64


class SelectObjects(beam.PTransform):
    """`RowBatch`es to lists of `ObjectRef`; beside them integrity records of rows that end here, and tallies.

    Args:
      job: the run's context.
    """

    def __init__(self, job: JobContext) -> None:
        super().__init__()
        self._job = job

    def expand(self, batches: Any) -> Any:
        return batches | "Select" >> beam.ParDo(_SelectFn(self._job)).with_outputs(RECORDS, TALLIES, main="refs")


class _SelectFn(WorkerDoFn):
    def start_bundle(self) -> None:
        super().start_bundle()
        self._tallies = TallyBook()
        self._tickets: list[Any] = []

    def process(self, element: RowBatch) -> Iterator[Any]:
        job, refs, unsized, letters = self._job, [], [], []
        for row in element:
            if isinstance(row, BadRow):
                self._tallies.add(row.file_number, None, Status.BAD_ROW, 1, 0)
                letters.append(DeadLetter(row.file_number, row.row_number, Status.BAD_ROW, row.reason, row.text))
            elif row.is_delete_marker or not row.is_latest:
                kind = size_class(row.size or 0, boundaries(job.config))
                self._tallies.add(row.file_number, kind, Status.EXCLUDED, 1, row.size or 0)
            elif row.size is None:
                unsized.append(row)
            else:
                refs.append(_reference(row, row.size, row.etag, job.config.destination.prefix))
        self.worker.pass_over(len(element) - len(refs) - len(unsized))
        if letters:
            self._tickets.append(self.worker.ledger.write_dead_letters(letters))
        if unsized:
            found = self.worker.engine.run(self._complete(unsized))
            sized = [one for one in found if isinstance(one, ObjectRef)]
            for ref in sized:
                # its bytes count as read, as those of rows that state a size
                self._tallies.add(ref.file_number, None, None, 0, ref.size)
            refs += sized
            ended = [one for one in found if isinstance(one, IntegrityRecord)]
            if ended:
                yield beam.pvalue.TaggedOutput(RECORDS, ended)
        if refs:
            yield refs

    def finish_bundle(self) -> Iterator[Any]:
        for ticket in self._tickets:
            ticket.wait()
        yield from self._tallies.close_tagged()

    async def _complete(self, rows: list[InventoryRow]) -> list[ObjectRef | IntegrityRecord]:
        """Size and ETag of each row by HEAD, in order."""
        places = asyncio.Semaphore(_HEADS_AT_ONCE)

        async def one(row: InventoryRow) -> ObjectRef | IntegrityRecord:
            async with places:
                return await self._head(row)

        return list(await asyncio.gather(*(one(row) for row in rows)))

    async def _head(self, row: InventoryRow) -> ObjectRef | IntegrityRecord:
        copies, config = self.worker.copies, self._job.config

        async def head() -> Any:
            await copies.requests.take(1)
            return await copies.source.head(
                row.bucket,
                row.key,
                etag=row.etag,
                version=row.version_id,
                checksum_mode=copies.source_can.checksum_mode,
            )

        try:
            headers = await repeated(head, copies.limits.attempts)
        except TransferError as error:
            ref = _reference(row, 0, row.etag, config.destination.prefix)
            return unread_record(self._job, ref, SizeClass.SMALL, status_of(error), error.message)
        etag = headers["etag"].strip('"')
        return _reference(row, int(headers["content-length"]), etag, config.destination.prefix)


def _reference(row: InventoryRow, size: int, etag: str | None, prefix: str) -> ObjectRef:
    return ObjectRef(row.file_number, row.row_number, row.bucket, row.key, row.version_id, size, etag, prefix + row.key)
