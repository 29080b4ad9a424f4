"""The end of a multipart upload: complete it, verify the object, or give it up. Repeatable.

A lost answer is never repeated blindly: only where the upload is gone the object there counts as its own.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from model.errors import (
    Archived,
    Mismatch,
    OutcomeUnknown,
    Refused,
    SourceChanged,
    SourceGone,
    TransferError,
    Transient,
    UploadGone,
)
from model.parts import plan_as
from model.records import IntegrityRecord, Layout, PartRecord, Upload
from model.status import DestinationEvidence, Grade, SizeClass, SourceEvidence, Status, meets
from storage.checksums import (
    CRC32C,
    CRC64NVME,
    Expected,
    combine_crc32c,
    combine_crc64nvme,
    etag_of,
    etag_shows_md5,
    expected_of,
    is_md5_etag,
    multipart_etag,
)
from storage.copier import status_of, wanted_grade
from storage.multipart import Multipart, PinnedSource, UploadEnd
from storage.retry import pause_s
from storage.server_copy import show_copy
from storage.source_layout import is_cut_as
from storage.written import NOTHING_REPLACED, head_written, look_before, read_back, remove_written

_LOGGER = logging.getLogger("s3ferry")
_USELESS = (SourceChanged, SourceGone, Archived, Mismatch, UploadGone)
"""Errors after which no later run can use the upload."""
_LOST = (OutcomeUnknown, Transient)
"""Errors after which Complete may have taken effect, and may be repeated if it has not."""


async def complete(
    steps: Multipart, upload: Upload, parts: Sequence[PartRecord], attempts: int
) -> tuple[IntegrityRecord, UploadEnd]:
    """Complete the upload from all its parts and verify the object; the failure of it is a value.

    May be repeated: an upload that is gone is looked for at the destination.
    """
    finish = _Completion(steps, upload, parts, attempts)
    try:
        return await finish.run(), UploadEnd.COMPLETED
    except TransferError as error:
        await finish.look_for_upload()
        record = finish.record(status_of(error), error.message)
        return record, await _give_up(steps, upload, error, finish.completed)


async def fail(
    steps: Multipart, upload: Upload, status: Status, error: str | None, attempts: int
) -> tuple[IntegrityRecord, UploadEnd]:
    """The end of an object one of whose parts failed for good."""
    finish = _Completion(steps, upload, (), attempts)
    await finish.look_for_upload()
    record = finish.record(status, error)
    if status is Status.FAILED:
        return record, UploadEnd.OPEN
    return record, await _discard(steps, upload)


async def _give_up(steps: Multipart, upload: Upload, error: TransferError, completed: bool) -> UploadEnd:
    if completed:
        return UploadEnd.COMPLETED
    return await _discard(steps, upload) if isinstance(error, _USELESS) else UploadEnd.OPEN


async def _discard(steps: Multipart, upload: Upload) -> UploadEnd:
    try:
        await steps.abort(upload.source.destination_key, upload.upload_id)
    except TransferError:
        return UploadEnd.OPEN
    return UploadEnd.ABORTED


class _Completion:
    """The end of one upload: plan from the parts, complete, verify, clean up."""

    def __init__(self, steps: Multipart, upload: Upload, parts: Sequence[PartRecord], attempts: int) -> None:
        self._steps = steps
        self._context = steps.context
        self._upload = upload
        self._parts = sorted(parts)
        self._attempts = attempts
        self._crc: str | None = None
        self._crc32c: str | None = None
        self._etag: str | None = None
        self._stated_etag: str | None = None
        self._version: str | None = None
        self._pinned = PinnedSource("", {})
        self._expected = Expected(SourceEvidence.LENGTH)
        self._evidence = DestinationEvidence.NONE
        self._replaced = NOTHING_REPLACED
        self._touched = False
        self.completed = False

    async def run(self) -> IntegrityRecord:
        # off the loop: combining 10,000 parts takes too long on it
        await self._steps.on_thread(self._plan)
        await self._check_source()
        await self._complete()
        try:
            await self._verify()
        except Mismatch as error:
            raise Mismatch(f"{error.message}; {await self._clean_up()}") from None
        rules, can = self._context.rules, self._context.destination_can
        if self._upload.on_server:
            wanted = rules.evidence or Grade.ETAG
        else:
            wanted = wanted_grade(rules, can, server_proves=can.full_object_crc)
        return self.record(Status.VERIFIED if meets(self._evidence, wanted) else Status.COPIED, self._note())

    @property
    def _keeps_etag(self) -> bool:
        """Whether the parts are cut as the source's, so that ETags made of MD5s stay the same."""
        upload = self._upload
        return not upload.on_server and upload.layout is not Layout.OWN and self._context.rules.source_etag_md5

    def _note(self) -> str | None:
        """What is to be said of a copy that is proven: that it has another ETag than a source cut as it is."""
        source, stated = self._upload.source_etag, self._stated_etag
        if not self._keeps_etag or stated == source:
            return None
        note = etag_apart(source, stated, _composed([part.md5 for part in self._parts]))
        _LOGGER.warning("%s: %s", self._upload.source.destination_key, note)
        return note

    def _plan(self) -> None:
        covered = sum(part.size for part in self._parts)
        if covered != self._upload.source.size or len(self._parts) != self._upload.part_count:
            raise Refused(
                f"{len(self._parts)} of {self._upload.part_count} parts with {covered} of "
                f"{self._upload.source.size} bytes are in the ledger; run again"
            )
        sizes = [part.size for part in self._parts]
        self._crc = _combined(combine_crc64nvme, [part.crc64nvme for part in self._parts], sizes)
        self._crc32c = _combined(combine_crc32c, [part.crc32c for part in self._parts], sizes)

    async def _check_source(self) -> None:
        """Compare what the parts make with what the source states before anything is replaced."""
        pinned = await self._steps.pin(self._upload.source)
        self._pinned = pinned
        if pinned.etag != self._upload.source_etag:
            raise SourceChanged(
                f"source: the ETag is {pinned.etag}, the upload was opened for {self._upload.source_etag}"
            )
        expected = expected_of(pinned.headers, etag_is_md5=False)
        read = {CRC64NVME: self._crc, CRC32C: self._crc32c}.get(expected.algorithm or "")
        if read is not None:
            self._expected = expected
            if expected.value != read:
                name = (expected.algorithm or "").upper()
                raise Mismatch(f"source: its stored {name} is {expected.value}, the parts read have {read}")
        if self._keeps_etag:
            await self._compare_source_etag(pinned.headers)

    async def _compare_source_etag(self, headers: Mapping[str, str]) -> None:
        """Compare the ETag that the parts read compose with the source's: parts are cut as its own were."""
        upload = self._upload
        composed = _composed([part.md5 for part in self._parts])
        if composed is None:
            # parts of an earlier run that kept no MD5
            return
        proven = self._expected.evidence is SourceEvidence.STORED_CHECKSUM
        if composed == upload.source_etag:
            self._expected = self._expected if proven else Expected(SourceEvidence.MULTIPART_ETAG)
        elif not proven and upload.layout is Layout.SOURCE and etag_shows_md5(headers):
            cut = plan_as([part.size for part in self._parts])
            if cut is None or await is_cut_as(self._context, upload.source, upload.source_etag, cut):
                raise Mismatch(
                    f"source: its ETag is {upload.source_etag}, the parts read have {composed}; "
                    "where ETags are not made of MD5s, use --source_etag=opaque"
                )

    async def look_for_upload(self) -> None:
        """Whether the destination still holds the upload: one that is gone may have been completed before."""
        if self._touched:
            return
        try:
            await self._steps.stored_parts(self._upload.source.destination_key, self._upload.upload_id)
        except TransferError:
            self._touched = True

    async def _complete(self) -> None:
        upload, key = self._upload, self._upload.source.destination_key
        try:
            stored = await self._steps.stored_parts(key, upload.upload_id)
        except UploadGone as error:
            # what stands there now may be what an earlier try made of the upload, and not what it replaced
            self._touched = True
            return await self._look(error)
        self._replaced = await look_before(self._context, key)
        missing = [part.number for part in self._parts if stored.get(part.number, ("", -1))[1] != part.size]
        if missing:
            raise Refused(f"destination: it does not hold part {missing[0]} of upload {upload.upload_id}; run again")
        arguments: dict[str, Any] = {}
        if upload.full_object_crc and self._crc:
            arguments = {
                "ChecksumCRC64NVME": self._crc,
                "ChecksumType": "FULL_OBJECT",
                "MpuObjectSize": upload.source.size,
            }
        named = []
        for part in self._parts:
            entry: dict[str, Any] = {"PartNumber": part.number, "ETag": f'"{stored[part.number][0]}"'}
            if upload.full_object_crc:
                entry["ChecksumCRC64NVME"] = part.crc64nvme
            named.append(entry)
        arguments |= {"UploadId": upload.upload_id, "MultipartUpload": {"Parts": named}}
        self._touched = True
        for attempt in range(1, self._context.limits.attempts + 1):
            try:
                answer = await self._steps.complete_once(key, **arguments)
            except TransferError as error:
                # an error may come under a 200, or after the work is done; the same bytes may have been there before
                if await self._is_gone(error):
                    return await self._look(error)
                if not isinstance(error, _LOST):
                    raise
                if attempt == self._context.limits.attempts:
                    raise type(error)(f"{error.message}; run again") from None
                await asyncio.sleep(pause_s(attempt))
            else:
                self.completed = True
                self._etag = str(answer.get("ETag", "")).strip('"')
                self._version = answer.get("VersionId")
                return None
        return None

    async def _is_gone(self, error: TransferError) -> bool:
        """Whether the destination says the upload has ended; where it cannot be asked, Complete is repeated."""
        if isinstance(error, UploadGone):
            return True
        try:
            await self._steps.stored_parts(self._upload.source.destination_key, self._upload.upload_id)
        except UploadGone:
            return True
        except TransferError:
            return False
        return False

    async def _look(self, lost: TransferError) -> None:
        """Once the upload is gone: the object there must be provably ours, else there is nothing to go on with."""
        if not await self._is_there(lost):
            kind = UploadGone if isinstance(lost, _LOST) else type(lost)
            raise kind(f"{lost.message}; the destination holds another object, or none; run again")

    async def _is_there(self, lost: TransferError) -> bool:
        """Whether the destination holds what Complete makes. Raises `lost` where it cannot be asked."""
        try:
            headers = await self._head()
        except Refused:
            return False
        except TransferError as error:
            raise type(lost)(f"{lost.message}; {error.message}; run again") from None
        etag = etag_of(headers)
        ours = etag == self._composed_etag or (
            self._crc is not None and headers.get("x-amz-checksum-crc64nvme") == self._crc
        )
        if headers.get("content-length") != str(self._upload.source.size) or not ours:
            return False
        self.completed = True
        self._etag = etag
        self._version = headers.get("x-amz-version-id")
        return True

    @property
    def _composed_etag(self) -> str | None:
        return _composed([part.etag for part in self._parts])

    async def _head(self) -> Mapping[str, str]:
        return await head_written(self._context, self._upload.source.destination_key)

    async def _verify(self) -> None:
        """One HEAD: size, ETag composed from the parts, full-object CRC. Raises Mismatch."""
        headers = await self._head()
        self._stated_etag = etag_of(headers)
        size = headers.get("content-length")
        if size != str(self._upload.source.size):
            raise Mismatch(f"destination: the object has {size} bytes, {self._upload.source.size} were sent")
        stored = headers.get("x-amz-checksum-crc64nvme")
        if stored and "-" not in stored and self._crc is not None:
            if stored != self._crc:
                raise Mismatch(f"destination: its stored CRC64NVME is {stored}, the bytes sent have {self._crc}")
            if self._upload.full_object_crc:
                self._evidence = DestinationEvidence.FULL_OBJECT_CRC64NVME
        if (
            self._evidence is DestinationEvidence.NONE
            and all(part.md5 == part.etag for part in self._parts)
            and etag_of(headers) == self._composed_etag
            and not is_md5_etag(headers)
        ):
            self._evidence = DestinationEvidence.MULTIPART_ETAG
        asked = self._context.rules.evidence
        if self._upload.on_server:
            await self._verify_server_copy(headers)
        elif asked is Grade.READBACK or (asked is None and self._evidence is DestinationEvidence.NONE):
            found = await read_back(self._context, self._upload.source.destination_key, CRC64NVME)
            if found.base64(CRC64NVME) != self._crc:
                raise Mismatch("destination: the bytes read back are not the bytes sent")
            self._evidence = DestinationEvidence.READBACK

    async def _verify_server_copy(self, headers: Mapping[str, str]) -> None:
        """No byte passed here: what the server says of both objects is compared. Raises Mismatch."""
        shown = await show_copy(self._context, self._upload.source, self._pinned.headers, headers)
        self._expected, self._evidence = Expected(shown.source), shown.destination

    async def _clean_up(self) -> str:
        key = self._upload.source.destination_key
        return await remove_written(self._context, key, version=self._version, etag=self._etag or "")

    def record(self, status: Status, error: str | None) -> IntegrityRecord:
        """How the object ended. MD5 and SHA-256 are of the parts only: whole ones cannot be combined from them."""
        ref, upload = self._upload.source, self._upload
        done = status in (Status.VERIFIED, Status.COPIED)
        return IntegrityRecord.of(
            ref,
            upload.destination_bucket,
            SizeClass.LARGE,
            status,
            source_etag=upload.source_etag or ref.etag,
            destination_etag=self._etag,
            destination_version=self._version,
            crc64nvme=self._crc if done else None,
            crc32c=self._crc32c if done else None,
            source_evidence=self._expected.evidence if done else SourceEvidence.NONE,
            destination_evidence=self._evidence if done else DestinationEvidence.NONE,
            attempts=max(1, self._attempts),
            started_at=upload.started_at,
            finished_at=time.time(),
            error=error,
            untouched=not self._touched,
            **self._replaced._asdict(),
        )


def etag_apart(source: str, stated: str | None, composed: str | None) -> str:
    """Why a copy cut as its source is believed to be has not its ETag; `composed` is what the parts read make."""
    if composed is None:
        why = "not all of its parts have an MD5 to tell why"
    elif composed == source:
        why = "its parts make the source's, so the destination's ETags are not made of MD5s"
    else:
        why = f"its parts make {composed}, so the source was cut otherwise, or its ETags are not made of MD5s"
    return f"the copy's ETag is {stated}, the source's {source}: {why}"


def _composed(md5s: Sequence[str | None]) -> str | None:
    """The ETag of a multipart object whose parts have these MD5s; None where one is no MD5."""
    known = [md5 for md5 in md5s if md5 is not None and len(md5) == 32]
    return multipart_etag(known) if len(known) == len(md5s) else None


def _combined(
    combine: Callable[[list[tuple[str, int]]], str], values: Sequence[str | None], sizes: Sequence[int]
) -> str | None:
    """The whole object's CRC, None where a part has none."""
    known = [(value, size) for value, size in zip(values, sizes, strict=True) if value]
    return combine(known) if known and len(known) == len(values) else None
