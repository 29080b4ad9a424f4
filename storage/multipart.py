"""Multipart uploads seen from the control plane: pin the source, create, list, abort. All repeatable.

These requests are rare and go through boto3 on threads, but for Create, whose headers must arrive as the
source gave them; part bodies go through `storage.part_copy`, the end of an upload through `storage.completion`.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from model.errors import (
    AccessDenied,
    Archived,
    OutcomeUnknown,
    Refused,
    SourceChanged,
    TransferError,
    Transient,
    UploadGone,
)
from model.objects import ObjectRef
from storage.checksums import etag_of
from storage.config import DESTINATION
from storage.copier import CopyContext, require_listed
from storage.errors import map_boto
from storage.metadata import carried_headers
from storage.open_uploads import abort_upload, list_parts, uploads_of
from storage.retry import pause_s, repeated

T = TypeVar("T")

_LOG = logging.getLogger(__name__)
_CLOCK_SKEW_S = 300.0
_ABORTS = 3
_ARCHIVE_CLASSES = frozenset({"GLACIER", "DEEP_ARCHIVE"})

CONTROL_THREADS = 32
"""Control-plane requests under way at once, so that many uploads open and complete side by side."""


class UploadEnd(StrEnum):
    """What is to become of an upload: kept for the next run, completed, or of no more use."""

    OPEN = "open"
    COMPLETED = "completed"
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True)
class PinnedSource:
    """What one HEAD said of a large object: its ETag, and the headers to carry."""

    etag: str
    headers: Mapping[str, str]


async def pinned_source(context: CopyContext, ref: ObjectRef) -> PinnedSource:
    """HEAD the source, archived or not; raises SourceChanged where it is not what the inventory says."""
    headers = await head_source(context, ref, etag=ref.etag, version=ref.version_id)
    require_listed(ref, headers)
    return PinnedSource(etag_of(headers), headers)


async def head_source(
    context: CopyContext, ref: ObjectRef, *, etag: str | None = None, version: str | None = None
) -> Mapping[str, str]:
    """HEAD the source, of this ETag and version where they are given."""
    checksum_mode = context.source_can.checksum_mode

    async def head() -> Mapping[str, str]:
        await context.requests.take(1)
        return await context.source.head(ref.bucket, ref.key, etag=etag, version=version, checksum_mode=checksum_mode)

    return await repeated(head, context.limits.attempts)


class Multipart:
    """The multipart steps of one process.

    `threads` runs the control-plane requests; `once` makes a control client of the destination that repeats nothing.
    """

    def __init__(self, context: CopyContext, threads: ThreadPoolExecutor, once: Callable[[], Any]) -> None:
        self._context = context
        self._control = context.destination_control
        self._threads = threads
        self._make_once = once
        self._once: Any = None
        self._lock = threading.Lock()
        self._told = False
        self._bucket = context.rules.destination_bucket

    @property
    def context(self) -> CopyContext:
        return self._context

    async def pin(self, ref: ObjectRef) -> PinnedSource:
        """HEAD the source; raises SourceChanged where it is not what the inventory says, and Archived."""
        pinned = await pinned_source(self._context, ref)
        if _is_archived(pinned.headers):
            storage_class = pinned.headers.get("x-amz-storage-class")
            raise Archived(f"source: the object is archived ({storage_class}); restore it first")
        return pinned

    async def pin_as_told(self, ref: ObjectRef) -> tuple[ObjectRef, PinnedSource]:
        """The source as it is to be copied: as the inventory says, or as it is now with `--on_change=copy`."""
        try:
            return ref, await self.pin(ref)
        except SourceChanged:
            if not self._context.rules.copy_changed:
                raise
        current = await head_source(self._context, ref)
        ref = ref._replace(etag=current["etag"].strip('"'), size=int(current["content-length"]), version_id=None)
        return ref, await self.pin(ref)

    async def create(
        self, ref: ObjectRef, pinned: PinnedSource, *, full_object_crc: bool, known: Collection[str] = ()
    ) -> str:
        """Create an upload with the source's metadata and return its id.

        `full_object_crc`: every part will bring its CRC64NVME, and Complete that of the whole. After an answer that
        does not tell whether there is an upload now, one that is none of `known` is looked for before it is repeated.
        """
        context, headers, since = self._context, carried_headers(pinned.headers), time.time()
        if full_object_crc:
            headers |= {"x-amz-checksum-algorithm": "CRC64NVME", "x-amz-checksum-type": "FULL_OBJECT"}
        asked = False

        async def find_or_create() -> str:
            nonlocal asked
            found = await self.find_upload(ref.destination_key, since, known) if asked else None
            if found is not None:
                return found
            await context.requests.take(1)
            try:
                return await context.destination.create_upload(self._bucket, ref.destination_key, headers)
            except TransferError as error:
                asked = asked or not error.no_effect
                if isinstance(error, OutcomeUnknown):
                    raise Transient(error.message) from None
                raise

        return await repeated(find_or_create, context.limits.attempts)

    async def find_upload(self, key: str, since: float, known: Collection[str]) -> str | None:
        """The first upload without parts under exactly `key`, not `known`, begun at `since` (epoch) or later.

        Servers' clocks are given five minutes. One with parts is somebody's who goes on with it. None where there is
        none, or the server cannot list or does not let us; Transient where it may say another time.
        """
        try:
            found = await self.on_thread(lambda: uploads_of(self._control, self._bucket, key, since - _CLOCK_SKEW_S))
            for one in found:
                if one.upload_id not in known and await self._is_empty(key, one.upload_id):
                    return one.upload_id
        except AccessDenied as error:
            self._warn_once(error)
        except Refused:
            # a server without such lists
            return None
        return None

    async def _is_empty(self, key: str, upload_id: str) -> bool:
        try:
            return not await self.stored_parts(key, upload_id)
        except UploadGone:
            return False

    def _warn_once(self, error: AccessDenied) -> None:
        with self._lock:
            told, self._told = self._told, True
        if not told:
            _LOG.warning(
                "%s: uploads whose creation was not recorded are not found; grant s3:ListBucketMultipartUploads on the "
                "bucket and s3:ListMultipartUploadParts on its objects",
                error.message,
            )

    async def abort(self, key: str, upload_id: str) -> None:
        """Abort an upload until the destination no longer lists it; one that is gone already is fine.

        Parts that arrive meanwhile may outlive an abort (API reference, «AbortMultipartUpload»). Raises Transient
        where the upload outlives all of them.
        """
        for attempt in range(1, _ABORTS + 1):
            await self.on_thread(lambda: abort_upload(self._control, self._bucket, key, upload_id))
            try:
                await self.stored_parts(key, upload_id)
            except (UploadGone, AccessDenied, Refused):
                # gone, or not to be asked: no more can be done
                return
            if attempt < _ABORTS:
                await asyncio.sleep(pause_s(attempt))
        raise Transient(
            f"destination: upload {upload_id} of {self._bucket}/{key} is still there after {_ABORTS} aborts"
        )

    async def stored_parts(self, key: str, upload_id: str) -> dict[int, tuple[str, int]]:
        """(ETag, size) of each part the destination holds. Raises UploadGone."""
        return await self.on_thread(lambda: list_parts(self._control, self._bucket, key, upload_id))

    async def control(self, name: str, method: str, key: str, *, side: str = DESTINATION, **arguments: Any) -> Any:
        """One control-plane request at the destination about `key`, sent once; `side` is whose its refusals are."""

        def ask() -> Any:
            return getattr(self._sending_once(), method)(Bucket=self._bucket, Key=key, **arguments)

        what = f"{name} {self._bucket}/{key}"
        return await self.on_thread(lambda: map_boto(ask, side=side, what=what))

    async def complete_once(self, key: str, **arguments: Any) -> Any:
        """One CompleteMultipartUpload, sent once. Raises OutcomeUnknown where its answer is lost."""

        def complete() -> Any:
            return self._sending_once().complete_multipart_upload(Bucket=self._bucket, Key=key, **arguments)

        what = f"CompleteMultipartUpload {self._bucket}/{key}"
        return await self.on_thread(lambda: map_boto(complete, side=DESTINATION, what=what, repeatable=False))

    def _sending_once(self) -> Any:
        """The control client that repeats nothing."""
        with self._lock:
            self._once = self._once or self._make_once()
        return self._once

    async def on_thread(self, call: Callable[[], T]) -> T:
        """Run a blocking call on the control threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


def _is_archived(headers: Mapping[str, str]) -> bool:
    """Whether a HEAD shows an archived object that is not restored (API reference, «HeadObject»)."""
    archived = headers.get("x-amz-storage-class") in _ARCHIVE_CLASSES or "x-amz-archive-status" in headers
    return archived and 'ongoing-request="false"' not in headers.get("x-amz-restore", "")
