"""The end of uploads that nobody will go on with: aborted at the destination, closed in the ledger. Repeatable."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from ledger import uploads
from ledger.uploads import StoredUpload, UploadState
from model.errors import LeaseLost, TransferError, UploadGone
from transforms.worker import Worker

_LOG = logging.getLogger(__name__)


async def unrecorded_upload(worker: Worker, stored: StoredUpload) -> str | None:
    """The upload whose creation a crash left unrecorded, if the destination lists one that is no other's."""
    known = await asyncio.to_thread(
        worker.ledger.call, partial(uploads.known_ids, place=stored.place, identity=stored.identity)
    )
    return await worker.multipart.find_upload(stored.destination_key, stored.started_at, known)


async def discard_upload(worker: Worker, stored: StoredUpload, kept: str = "") -> None:
    """Abort an upload, unless its id is `kept`, and close its row. Raises by meaning, and leaves the row open then."""
    upload_id = stored.upload_id or await unrecorded_upload(worker, stored)
    if upload_id and upload_id != kept:
        await worker.multipart.abort(stored.destination_key, upload_id)
    await _close(worker, stored, UploadState.ABORTED)


async def discard_superseded(worker: Worker) -> None:
    """Discard the job's uploads to keys that got their object in another way; what cannot be is told and left."""
    endpoint = worker.job.config.destination_endpoint.endpoint_url or ""
    look = partial(uploads.superseded, ref=worker.job.run, destination_endpoint=endpoint)
    found = await asyncio.to_thread(worker.ledger.call, look)

    async def one(stored: StoredUpload, is_same: bool) -> None:
        try:
            if is_same and stored.upload_id and await _is_gone(worker, stored):
                # the object that is there was made of it: only its row was not closed
                await _close(worker, stored, UploadState.COMPLETED)
            else:
                await discard_upload(worker, stored)
        except LeaseLost:
            # the run has ended, and this is a repetition of its end; another run's lease is found out by what follows
            return
        except TransferError as error:
            _LOG.warning("%s: the upload stays; `s3ferry sweep` shows and aborts it", error.message)

    await asyncio.gather(*(one(*each) for each in found))


async def _is_gone(worker: Worker, stored: StoredUpload) -> bool:
    try:
        await worker.multipart.stored_parts(stored.destination_key, stored.upload_id)
    except UploadGone:
        return True
    return False


async def _close(worker: Worker, stored: StoredUpload, state: UploadState) -> None:
    close = partial(uploads.close_upload, identity=stored.identity, upload_id=stored.upload_id, state=state)
    await asyncio.to_thread(worker.ledger.call, partial(close, ref=worker.job.run))
