"""OpenUploads: for each large object one multipart upload at the destination, found or created.

An upload an earlier run or bundle left is found by its identity in the ledger, and its parts are
trusted when both the ledger and the destination hold them and none of the digests to keep is missing.
Two workers that open the same object end with one upload: the ledger's row decides, and the loser aborts
its own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

import apache_beam as beam

from ledger import uploads
from ledger.uploads import Place, StoredUpload, UploadState
from model.errors import Archived, InvalidInput, SourceChanged, SourceGone, TransferError, UploadGone
from model.objects import ObjectRef
from model.parts import PartLimits, PartPlan, limits_of, plan_parts
from model.records import IntegrityRecord, Layout, PartRecord, Upload, upload_identity
from model.routing import MAX_SINGLE_PUT
from model.status import SizeClass, Status
from storage.checksums import is_md5_etag
from storage.copier import CopyMode, status_of
from storage.multipart import PinnedSource
from storage.server_copy import is_etag_proof, is_provable
from storage.source_layout import parts_in_etag, source_layout
from transforms.context import JobContext
from transforms.copy_objects import copy_object, settled_and_wanted
from transforms.discard_uploads import discard_upload, unrecorded_upload
from transforms.records import unread_record
from transforms.tallies import RECORDS
from transforms.worker_dofn import EngineDoFn

T = TypeVar("T")

_OPENING_AT_ONCE = 32


class OpenUploads(beam.PTransform):
    """PCollection of `ObjectRef` to `Upload`s; records of objects that end here beside them.

    Args:
      job: the run's context.
    """

    def __init__(self, job: JobContext) -> None:
        super().__init__()
        self._job = job

    def expand(self, refs: Any) -> Any:
        return refs | "Open" >> beam.ParDo(_OpenFn(self._job)).with_outputs(RECORDS, main="uploads")


class _OpenFn(EngineDoFn):
    def process(self, element: ObjectRef) -> Iterator[Any]:
        self.bundle.submit(self._open, [element])
        for results in self.finished(_OPENING_AT_ONCE):
            yield from self.outputs(results)

    def outputs(self, results: list[Any]) -> Iterable[Any]:
        for result in results:
            yield beam.pvalue.TaggedOutput(RECORDS, [result]) if isinstance(result, IntegrityRecord) else result

    async def _open(self, ref: ObjectRef) -> Upload | IntegrityRecord:
        worker, started_at = self.worker, time.time()
        async with worker.admission.admit(SizeClass.LARGE, 0):
            recorded = await self._recorded(ref)
            if recorded is not None:
                return recorded
            try:
                ref, pinned = await worker.multipart.pin_as_told(ref)
                if not self._goes_whole(ref, pinned):
                    return await self._find_or_create(ref, pinned, started_at)
                await self._discard_others(ref, None)
            except (TransferError, InvalidInput) as error:
                return await self._refused(ref, error)
        return await copy_object(worker, ref, SizeClass.LARGE)

    async def _refused(self, ref: ObjectRef, error: TransferError | InvalidInput) -> IntegrityRecord:
        """The record of an object that cannot be begun; what was begun of one that has gone or changed ends."""
        status = status_of(error) if isinstance(error, TransferError) else Status.FAILED
        if isinstance(error, SourceChanged | SourceGone | Archived):
            with suppress(TransferError):
                await self._discard_others(ref, None)
        self.worker.count(SizeClass.LARGE, status)
        return unread_record(self._job, ref, SizeClass.LARGE, status, error.message)

    def _goes_whole(self, ref: ObjectRef, pinned: PinnedSource) -> bool:
        """Whether one request shows more than parts would: the ETag stays, or the server's word can be compared."""
        if ref.size > min(MAX_SINGLE_PUT, self._limits.most):
            return False
        keeps_etag = self._job.config.routing.part_layout == "source"
        if self._mode is not CopyMode.STREAM:
            return is_provable(self.worker.copies, pinned.headers) and not (keeps_etag and parts_in_etag(pinned.etag))
        return keeps_etag and is_md5_etag(pinned.headers)

    async def _recorded(self, ref: ObjectRef) -> IntegrityRecord | None:
        settled, _ = await asyncio.to_thread(settled_and_wanted, self.worker, [ref], SizeClass.LARGE)
        return settled[0] if settled else None

    async def _find_or_create(self, ref: ObjectRef, pinned: PinnedSource, started_at: float) -> Upload:
        job = self._job
        plan, layout = await self._plan(ref, pinned)
        on_server = self._goes_on_server(pinned, layout)
        upload = Upload(
            identity=upload_identity(
                job.config.destination_endpoint.endpoint_url or "",
                job.config.destination.bucket,
                job.config.source.endpoint_url or "",
                ref,
                pinned.etag,
                f"{plan.name} on the server" if on_server else plan.name,
            ),
            upload_id="",
            source=ref,
            source_etag=pinned.etag,
            destination_bucket=job.config.destination.bucket,
            part_size=plan.part_size,
            part_count=plan.count,
            # what the server copies brings no CRC, and MinIO refuses parts without in an upload that announced them
            full_object_crc=job.destination_can.full_object_crc and not on_server,
            started_at=started_at,
            layout=layout,
            runs=plan.runs,
            on_server=on_server,
        )
        opened = await self._resumed(upload) or await self._claim(upload, pinned)
        await self._discard_others(ref, opened)
        return opened

    async def _resumed(self, upload: Upload) -> Upload | None:
        """The open upload of an earlier run or bundle, as it was created; None where there is none of use."""
        stored = await self._ledger(lambda conn: uploads.find_upload(conn, upload.identity))
        if stored is None or stored.state is not UploadState.OPEN or not stored.upload_id:
            return None
        if not self._can_end(stored):
            await discard_upload(self.worker, stored)
            return None
        return await self._resume(_as_stored(upload, stored))

    def _can_end(self, stored: StoredUpload) -> bool:
        """Whether the destination still takes what was announced when the upload was created."""
        return self._job.destination_can.trailing_checksum or not stored.full_object_crc

    async def _discard_others(self, ref: ObjectRef, kept: Upload | None) -> None:
        """Abort what was begun of the same object as it was, or by earlier runs cut otherwise: nobody will end it."""
        run, source = self._job.run, None
        if kept is not None:
            await self._ledger(partial(uploads.take_up, ref=run, identity=kept.identity))
            source = (kept.source.version_id, kept.source_etag, kept.source.size)
        others = await self._ledger(partial(uploads.open_before, ref=run, place=self._place(ref), kept=source))
        for other in others:
            if kept is None or other.identity != kept.identity:
                await discard_upload(self.worker, other, kept.upload_id if kept else "")

    def _place(self, ref: ObjectRef) -> Place:
        config = self._job.config
        return Place(
            source_endpoint=config.source.endpoint_url or "",
            source_bucket=ref.bucket,
            source_key=ref.key,
            destination_endpoint=config.destination_endpoint.endpoint_url or "",
            destination_bucket=config.destination.bucket,
            destination_key=ref.destination_key,
        )

    async def _plan(self, ref: ObjectRef, pinned: PinnedSource) -> tuple[PartPlan, Layout]:
        routing = self._job.config.routing
        if routing.part_layout == "source" or self._mode is not CopyMode.STREAM:
            found = await source_layout(self.worker.copies, ref, pinned.etag, self._limits)
            if found is not None:
                return found.plan, Layout.SOURCE if found.certain else Layout.GUESSED
        return plan_parts(ref.size, routing.part_size_bytes, self._limits), Layout.OWN

    def _goes_on_server(self, pinned: PinnedSource, layout: Layout) -> bool:
        """Whether the server copies the parts. Parts cut as the source's keep its ETag, which proves the copy."""
        if self._mode is CopyMode.PROVEN:
            return layout is Layout.SOURCE and is_etag_proof(self.worker.copies, pinned.headers)
        return self._mode is CopyMode.SERVER

    @property
    def _mode(self) -> CopyMode:
        return self.worker.copies.rules.copy_mode

    @property
    def _limits(self) -> PartLimits:
        """What the destination takes as parts."""
        config = self._job.config
        known = limits_of(urlsplit(config.destination_endpoint.endpoint_url or "").hostname or "")
        return replace(known, count=min(known.count, config.routing.max_parts))

    async def _resume(self, upload: Upload) -> Upload | None:
        """The upload the ledger knows, with the parts both sides hold; None where it is of no use."""
        run = self._job.run
        parts = await self._ledger(lambda conn: uploads.parts_of(conn, [upload.identity]))
        recorded = parts.get(upload.identity, ())
        try:
            held = await self.worker.multipart.stored_parts(upload.source.destination_key, upload.upload_id)
        except UploadGone:
            # all parts in and the upload gone: it may be completed, which only CompleteUploads can tell
            if len(recorded) == upload.part_count:
                return upload._replace(recorded=recorded)
            await self._ledger(
                lambda conn: uploads.close_upload(conn, run, upload.identity, upload.upload_id, UploadState.ABORTED)
            )
            return None
        lacking = [part for part in recorded if not _is_held(part, held)]
        if lacking:
            # CopyParts sends no part that has a row
            await self._ledger(lambda conn: uploads.forget_parts(conn, run, upload.identity, lacking))
        wanted = upload.digests(self.worker.copies.rules.digests)
        usable = tuple(part for part in recorded if _is_held(part, held) and part.has(wanted))
        return upload._replace(recorded=usable)

    async def _claim(self, upload: Upload, pinned: PinnedSource) -> Upload:
        """The one upload all that open this object agree on.

        The ledger's row comes first, without an id, so that an upload whose creation was not recorded
        (a crash in between) is looked for under its exact key and taken over rather than left behind.
        """
        steps, run, key = self.worker.multipart, self._job.run, upload.source.destination_key
        intent = self._stored(upload, "")
        stored = await self._ledger(lambda conn: uploads.adopt_upload(conn, run, intent))
        if stored.upload_id:
            return _as_stored(upload, stored)
        left = None
        if stored.started_at != intent.started_at:
            left = await unrecorded_upload(self.worker, stored)
        if left is not None and not self._can_end(stored):
            await steps.abort(key, left)
            left = None
        upload_id = left or await self._create(upload, pinned, stored)
        settled = await self._ledger(lambda conn: uploads.settle_upload(conn, run, upload.identity, upload_id))
        if settled.upload_id != upload_id:
            await steps.abort(key, upload_id)
        return _as_stored(upload, settled)

    async def _create(self, upload: Upload, pinned: PinnedSource, stored: StoredUpload) -> str:
        run, crc = self._job.run, upload.full_object_crc
        if stored.full_object_crc != crc:
            # who finds the upload unrecorded goes by what the row says of it
            await self._ledger(partial(uploads.announce_upload, ref=run, identity=upload.identity, full_object_crc=crc))
        known = await self._ledger(partial(uploads.known_ids, place=stored.place, identity=upload.identity))
        return await self.worker.multipart.create(upload.source, pinned, full_object_crc=crc, known=known)

    def _stored(self, upload: Upload, upload_id: str) -> StoredUpload:
        ref = upload.source
        return StoredUpload(
            identity=upload.identity,
            upload_id=upload_id,
            source_version=ref.version_id,
            source_etag=upload.source_etag,
            size=ref.size,
            part_size=upload.part_size,
            part_count=upload.part_count,
            full_object_crc=upload.full_object_crc,
            started_at=upload.started_at,
            **self._place(ref)._asdict(),
        )

    async def _ledger(self, call: Callable[[Any], T]) -> T:
        return await asyncio.to_thread(self.worker.ledger.call, call)


def _as_stored(upload: Upload, stored: StoredUpload) -> Upload:
    """`upload` under the id and the promises its row was created with, whatever the destination can do by now."""
    return upload._replace(upload_id=stored.upload_id, full_object_crc=stored.full_object_crc)


def _is_held(part: PartRecord, held: dict[int, tuple[str, int]]) -> bool:
    return held.get(part.number) == (part.etag, part.size)
