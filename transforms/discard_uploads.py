"""The end of uploads that nobody will go on with: aborted at the destination, closed in the ledger. Repeatable."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from ledger import uploads
from ledger.uploads import StoredUpload, UploadState
from model.errors import TransferError
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
    await asyncio.to_thread(
        worker.ledger.call,
        partial(
            uploads.close_upload,
            ref=worker.job.run,
            identity=stored.identity,
            upload_id=stored.upload_id,
            state=UploadState.ABORTED,
        ),
    )


async def discard_superseded(worker: Worker) -> None:
    """Discard the job's uploads to keys that got their object in another way; what cannot be is told and left."""
    found = await asyncio.to_thread(worker.ledger.call, partial(uploads.superseded, ref=worker.job.run))

    async def one(stored: StoredUpload) -> None:
        try:
            await discard_upload(worker, stored)
        except TransferError as error:
            _LOG.warning("%s: the upload stays; `s3ferry sweep` shows and aborts it", error.message)

    await asyncio.gather(*map(one, found))
