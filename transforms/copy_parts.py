"""CopyParts: each part by a ranged conditional GET teed into UploadPart.

A part with a durable row under the same upload, with the digests to keep, is not sent again, whoever asks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import apache_beam as beam

from ledger import uploads
from model.records import Part, PartOutcome, PartResult
from model.status import SizeClass
from storage.limits import body_cost
from storage.part_copy import copy_part
from storage.server_copy import copy_part_on_server
from transforms.context import JobContext
from transforms.worker_dofn import EngineDoFn


class CopyParts(beam.PTransform):
    """PCollection of `Part` to `PartResult`s.

    Args:
      job: the run's context.
    """

    def __init__(self, job: JobContext) -> None:
        super().__init__()
        self._job = job

    def expand(self, parts: Any) -> Any:
        return parts | "Copy" >> beam.ParDo(_CopyPartsFn(self._job))


class _CopyPartsFn(EngineDoFn):
    def process(self, element: Part) -> Iterator[PartResult]:
        self.bundle.submit(self._copy, [element])
        for results in self.finished(self.worker.limits.parts_in_flight):
            yield from results

    async def _copy(self, part: Part) -> PartResult:
        worker = self.worker
        cost = body_cost(part.length, 0, worker.limits.window_bytes)
        async with worker.admission.admit(SizeClass.LARGE, cost):
            upload = part.upload
            recorded = await asyncio.to_thread(
                worker.ledger.call,
                lambda conn: uploads.recorded_part(conn, upload.identity, upload.upload_id, part.number),
            )
            if recorded is not None and recorded.has(upload.digests(worker.copies.rules.digests)):
                return PartResult(upload, part.number, PartOutcome.ALREADY_DONE, recorded)
            if upload.on_server:
                result = await copy_part_on_server(worker.multipart, part)
            else:
                result = await copy_part(worker.copies, part)
            if result.part is not None:
                worker.count_bytes(SizeClass.LARGE, result.part.size)
            return result
