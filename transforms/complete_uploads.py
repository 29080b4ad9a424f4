"""CompleteUploads: Complete, verify, and the integrity record of each large object.

Repeatable: what this run has recorded is not completed again, and an upload that is gone is looked
for at the destination. An upload is closed in the ledger only after it is of no more use.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, TypeVar

import apache_beam as beam

from ledger import queries, uploads
from ledger.uploads import UploadState
from model.errors import TransferError
from model.records import IntegrityRecord, Upload
from model.status import AT_DESTINATION, SizeClass
from storage.completion import complete, fail
from storage.multipart import UploadEnd
from transforms.assemble_parts import Assembly
from transforms.context import JobContext
from transforms.copy_objects import settled_record
from transforms.worker_dofn import EngineDoFn

T = TypeVar("T")

_COMPLETING_AT_ONCE = 32


class CompleteUploads(beam.PTransform):
    """PCollection of `Assembly` to lists of `IntegrityRecord`.

    Args:
      job: the run's context.
    """

    def __init__(self, job: JobContext) -> None:
        super().__init__()
        self._job = job

    def expand(self, assemblies: Any) -> Any:
        return assemblies | "Complete" >> beam.ParDo(_CompleteFn(self._job))


class _CompleteFn(EngineDoFn):
    def process(self, element: Assembly) -> Iterator[list[IntegrityRecord]]:
        self.bundle.submit(self._complete, [element])
        yield from self.finished(_COMPLETING_AT_ONCE)

    def outputs(self, results: list[IntegrityRecord]) -> Iterable[list[IntegrityRecord]]:
        return [results]

    async def _complete(self, assembly: Assembly) -> IntegrityRecord:
        worker, upload, run = self.worker, assembly.upload, self._job.run
        finished = await self._ledger(lambda conn: queries.finished_in_run(conn, run, [upload.source.destination_key]))
        row = finished.get(upload.source.destination_key)
        if row is not None:
            if not _is_of(row, upload):
                with suppress(TransferError):
                    await worker.multipart.abort(upload.source.destination_key, upload.upload_id)
                    await self._close(upload, UploadState.ABORTED)
            elif row.status in AT_DESTINATION:
                # what came between its record and this may have been a crash
                await self._close(upload, UploadState.COMPLETED)
            return settled_record(self._job, row, upload.source, SizeClass.LARGE)
        if assembly.failure is not None:
            record, end = await fail(worker.multipart, upload, assembly.failure, assembly.error, assembly.attempts)
        else:
            record, end = await complete(worker.multipart, upload, assembly.parts, assembly.attempts)
        if end is UploadEnd.ABORTED:
            await self._close(upload, UploadState.ABORTED)
        elif end is UploadEnd.COMPLETED:
            # the record first: a crash in between finds the upload open, gone, and its object provable
            ticket = await asyncio.to_thread(worker.record, [record])
            await asyncio.to_thread(ticket.wait)
            await self._close(upload, UploadState.COMPLETED)
        worker.count(SizeClass.LARGE, record.status)
        return record

    async def _close(self, upload: Upload, state: UploadState) -> None:
        run = self._job.run
        await self._ledger(lambda conn: uploads.close_upload(conn, run, upload.identity, upload.upload_id, state))

    async def _ledger(self, call: Callable[[Any], T]) -> T:
        return await asyncio.to_thread(self.worker.ledger.call, call)


def _is_of(row: IntegrityRecord, upload: Upload) -> bool:
    """Whether what the run has recorded under the upload's key is the object it was opened for."""
    ref = upload.source
    recorded = (row.source_bucket, row.source_key, row.source_version, row.source_etag)
    return recorded == (ref.bucket, ref.key, ref.version_id, upload.source_etag)
