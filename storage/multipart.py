"""Multipart copies: open an upload, copy one part, complete, verify. Each step may be repeated.

Requests that are rare go through boto3 on threads; part bodies go through the data plane.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from model.errors import (
    Mismatch,
    OutcomeUnknown,
    Refused,
    SourceChanged,
    TransferError,
    Transient,
    UploadGone,
)
from model.objects import ObjectRef
from model.records import IntegrityRecord, Part, PartOutcome, PartRecord, PartResult, Upload
from model.status import DestinationEvidence, Grade, SizeClass, SourceEvidence, Status, meets
from storage.checksums import (
    CRC64NVME,
    MD5,
    SHA256,
    Digests,
    Expected,
    combine_crc64nvme,
    expected_of,
    is_md5_etag,
    multipart_etag,
)
from storage.config import Capabilities
from storage.copier import CopyContext, CopyRules, status_of
from storage.errors import map_boto
from storage.metadata import carried_headers, create_arguments
from storage.retry import repeated
from storage.signing import UNSIGNED, UNSIGNED_TRAILER
from storage.tee import framed, framed_length, tee
from storage.transport import Buffer

T = TypeVar("T")

CONTROL_THREADS = 32
"""Control-plane requests under way at once, so that many uploads open and complete side by side."""


@dataclass(frozen=True, slots=True)
class PinnedSource:
    """What one HEAD said of a large object: its ETag, and the headers to carry."""

    etag: str
    headers: Mapping[str, str]


def wanted_grade(rules: CopyRules, can: Capabilities) -> Grade:
    """The grade a large object is held to."""
    if rules.evidence is not None:
        return rules.evidence
    if can.full_object_crc:
        return Grade.SERVER
    return Grade.ETAG if can.etag_is_md5 else Grade.READBACK


class Multipart:
    """The multipart steps of one process. `threads` runs the control-plane requests."""

    def __init__(self, context: CopyContext, threads: ThreadPoolExecutor) -> None:
        self._context = context
        self._threads = threads
        self._bucket = context.rules.destination_bucket
        self._crc = context.destination_can.full_object_crc

    @property
    def context(self) -> CopyContext:
        return self._context

    async def pin(self, ref: ObjectRef) -> PinnedSource:
        """HEAD the source; raises SourceChanged where it is not what the inventory says."""
        context = self._context

        async def head() -> Mapping[str, str]:
            await context.requests.take(1)
            return await context.source.head(
                ref.bucket,
                ref.key,
                etag=ref.etag,
                version=ref.version_id,
                checksum_mode=context.source_can.checksum_mode,
            )

        headers = await repeated(head, context.limits.attempts)
        etag = headers.get("etag", "").strip('"')
        if ref.etag is not None and etag != ref.etag:
            raise SourceChanged(f"source: the ETag is {etag}, the inventory says {ref.etag}")
        if headers.get("content-length") != str(ref.size):
            raise SourceChanged(
                f"source: the object has {headers.get('content-length')} bytes, the inventory says {ref.size}"
            )
        return PinnedSource(etag, headers)

    async def create(self, ref: ObjectRef, pinned: PinnedSource) -> str:
        """Create an upload with the source's metadata and return its id."""
        arguments = create_arguments(carried_headers(pinned.headers))
        if self._crc:
            arguments |= {"ChecksumAlgorithm": "CRC64NVME", "ChecksumType": "FULL_OBJECT"}
        answer = await self._control("CreateMultipartUpload", "create_multipart_upload", ref.destination_key, **arguments)
        return str(answer["UploadId"])

    async def abort(self, key: str, upload_id: str) -> None:
        """Abort an upload; one that is gone already is fine."""
        try:
            await self._control("AbortMultipartUpload", "abort_multipart_upload", key, UploadId=upload_id)
        except UploadGone:
            return

    async def stored_parts(self, key: str, upload_id: str) -> dict[int, tuple[str, int]]:
        """(ETag, size) of each part the destination holds. Raises UploadGone."""
        parts: dict[int, tuple[str, int]] = {}
        marker = 0
        while True:
            answer = await self._control("ListParts", "list_parts", key, UploadId=upload_id, PartNumberMarker=marker)
            for part in answer.get("Parts", []):
                parts[part["PartNumber"]] = (part["ETag"].strip('"'), part["Size"])
            following = answer.get("NextPartNumberMarker")
            if not answer.get("IsTruncated") or not following:
                return parts
            marker = int(following)

    async def copy_part(self, part: Part) -> PartResult:
        """Copy one part. A failure of the part is a value; RunBroken and Stopped come out."""
        work = _PartCopy(self._context, part)
        try:
            record = await repeated(work.run, self._context.limits.attempts)
        except TransferError as error:
            return PartResult(
                part.upload, part.number, PartOutcome.FAILED, None, status_of(error), error.message, work.attempts
            )
        return PartResult(part.upload, part.number, PartOutcome.DONE, record, attempts=work.attempts)

    async def complete(self, upload: Upload, parts: Sequence[PartRecord], attempts: int) -> IntegrityRecord:
        """Complete the upload from all its parts and verify the object; the failure of it is a value."""
        finish = _Completion(self, upload, parts, attempts)
        try:
            return await finish.run()
        except TransferError as error:
            return finish.record(status_of(error), error.message)

    def failed(self, upload: Upload, status: Status, error: str | None, attempts: int) -> IntegrityRecord:
        """The record of an object one of whose parts failed for good."""
        return _Completion(self, upload, (), attempts).record(status, error)

    async def _control(self, name: str, method: str, key: str, *, repeatable: bool = True, **arguments: Any) -> Any:
        call = getattr(self._context.destination_control, method)
        return await self.on_thread(
            lambda: map_boto(
                lambda: call(Bucket=self._bucket, Key=key, **arguments),
                side="destination",
                what=f"{name} {self._bucket}/{key}",
                repeatable=repeatable,
            )
        )

    async def on_thread(self, call: Callable[[], T]) -> T:
        """Run a blocking call on the control threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


class _PartCopy:
    """One part on its way: ranged conditional GET, tee, UploadPart."""

    def __init__(self, context: CopyContext, part: Part) -> None:
        self._context = context
        self._part = part
        self.attempts = 0

    async def run(self) -> PartRecord:
        context, part = self._context, self._part
        source = part.upload.source
        self.attempts += 1
        await context.requests.take(2)
        await context.bytes.take(part.length)
        trailing = context.destination_can.trailing_checksum
        digests = Digests(frozenset({SHA256, CRC64NVME} if trailing else {SHA256, CRC64NVME, MD5}))

        def approve() -> None:
            if digests.length != part.length:
                raise Transient(f"source: {digests.length} of {part.length} bytes of part {part.number} arrived")

        span = (part.offset, part.length) if part.upload.source.size else None
        async with context.source.get(
            source.bucket,
            source.key,
            etag=part.upload.source_etag,
            version=source.version_id,
            span=span,
            checksum_mode=False,
        ) as reply:
            if reply.headers.get("content-length") != str(part.length):
                raise SourceChanged(
                    f"source: part {part.number} has {reply.headers.get('content-length')} bytes, not {part.length}"
                )
            body: AsyncIterator[Buffer] = tee(reply, digests, context.limits.window_bytes, approve)
            length, payload, headers = part.length, UNSIGNED, {}
            if trailing:
                body = framed(body, digests)
                length, payload = framed_length(part.length, context.limits.window_bytes), UNSIGNED_TRAILER
                headers = {
                    "x-amz-trailer": "x-amz-checksum-crc64nvme",
                    "x-amz-decoded-content-length": str(part.length),
                }
            etag = await self._put(body, length, payload, headers)
        return self._verified(etag, digests, trailing)

    async def _put(self, body: AsyncIterator[Buffer], length: int, payload: str, headers: Mapping[str, str]) -> str:
        upload = self._part.upload
        try:
            answer = await self._context.destination.put(
                upload.destination_bucket,
                upload.source.destination_key,
                body,
                length=length,
                payload=payload,
                headers=headers,
                query=f"partNumber={self._part.number}&uploadId={upload.upload_id}",
            )
        except OutcomeUnknown as error:
            raise Transient(error.message) from None
        return answer.get("etag", "").strip('"')

    def _verified(self, etag: str, digests: Digests, trailing: bool) -> PartRecord:
        md5 = digests.hex(MD5)
        if md5 is not None and self._context.destination_can.etag_is_md5 and etag != md5 and not trailing:
            raise Mismatch(
                f"destination: the ETag of part {self._part.number} is {etag}, the MD5 of the bytes sent is {md5}"
            )
        return PartRecord(
            self._part.number, self._part.length, etag, md5, digests.hex(SHA256), digests.base64(CRC64NVME)
        )


class _Completion:
    """The end of one upload: plan from the parts, complete, verify, clean up."""

    def __init__(self, steps: Multipart, upload: Upload, parts: Sequence[PartRecord], attempts: int) -> None:
        self._steps = steps
        self._context = steps.context
        self._upload = upload
        self._parts = sorted(parts)
        self._attempts = attempts
        self._crc: str | None = None
        self._etag: str | None = None
        self._version: str | None = None
        self._expected = Expected(SourceEvidence.LENGTH)
        self._evidence = DestinationEvidence.NONE

    async def run(self) -> IntegrityRecord:
        self._plan()
        await self._check_source()
        await self._complete()
        try:
            await self._verify()
        except Mismatch as error:
            raise Mismatch(f"{error.message}; {await self._clean_up()}") from None
        wanted = wanted_grade(self._context.rules, self._context.destination_can)
        return self.record(Status.VERIFIED if meets(self._evidence, wanted) else Status.COPIED, None)

    def _plan(self) -> None:
        covered = sum(part.size for part in self._parts)
        if covered != self._upload.source.size or len(self._parts) != self._upload.part_count:
            raise Refused(
                f"{len(self._parts)} of {self._upload.part_count} parts with {covered} of "
                f"{self._upload.source.size} bytes are in the ledger; run again"
            )
        if all(part.crc64nvme for part in self._parts):
            self._crc = combine_crc64nvme([(part.crc64nvme or "", part.size) for part in self._parts])

    async def _check_source(self) -> None:
        """Compare the combined CRC with the source's stored one before anything is replaced."""
        pinned = await self._steps.pin(self._upload.source)
        if pinned.etag != self._upload.source_etag:
            raise SourceChanged(f"source: the ETag is {pinned.etag}, the upload was opened for {self._upload.source_etag}")
        expected = expected_of(pinned.headers, etag_is_md5=False)
        if expected.algorithm == CRC64NVME and self._crc is not None:
            self._expected = expected
            if expected.value != self._crc:
                raise Mismatch(f"source: its stored CRC64NVME is {expected.value}, the parts read have {self._crc}")

    async def _complete(self) -> None:
        upload, key = self._upload, self._upload.source.destination_key
        try:
            stored = await self._steps.stored_parts(key, upload.upload_id)
        except UploadGone:
            return await self._look("the upload is gone")
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
        try:
            answer = await self._steps._control(  # noqa: SLF001 - two halves of one module
                "CompleteMultipartUpload",
                "complete_multipart_upload",
                key,
                repeatable=False,
                UploadId=upload.upload_id,
                MultipartUpload={"Parts": named},
                **arguments,
            )
        except (OutcomeUnknown, UploadGone) as error:
            return await self._look(error.message)
        self._etag = str(answer.get("ETag", "")).strip('"')
        self._version = answer.get("VersionId")
        return None

    async def _look(self, why: str) -> None:
        """After a lost answer: the object there must be provably ours, or the outcome stays unknown."""
        try:
            headers = await self._head()
        except TransferError as error:
            raise OutcomeUnknown(f"{why}, and {error.message}; run again") from None
        etag = headers.get("etag", "").strip('"')
        ours = etag == self._composed_etag or (
            self._crc is not None and headers.get("x-amz-checksum-crc64nvme") == self._crc
        )
        if headers.get("content-length") != str(self._upload.source.size) or not ours:
            raise OutcomeUnknown(f"{why}, and the destination holds another object; run again")
        self._etag = etag
        self._version = headers.get("x-amz-version-id")

    @property
    def _composed_etag(self) -> str | None:
        etags = [part.etag for part in self._parts]
        return multipart_etag(etags) if all(len(etag) == 32 for etag in etags) else None

    async def _head(self) -> Mapping[str, str]:
        context = self._context

        async def head() -> Mapping[str, str]:
            return await context.destination.head(
                self._upload.destination_bucket, self._upload.source.destination_key, checksum_mode=True
            )

        return await repeated(head, context.limits.attempts)

    async def _verify(self) -> None:
        """One HEAD: size, ETag composed from the parts, full-object CRC. Raises Mismatch."""
        headers = await self._head()
        size = headers.get("content-length")
        if size != str(self._upload.source.size):
            raise Mismatch(f"destination: the object has {size} bytes, {self._upload.source.size} were sent")
        stored = headers.get("x-amz-checksum-crc64nvme")
        if stored and "-" not in stored and self._crc is not None:
            if stored != self._crc:
                raise Mismatch(f"destination: its stored CRC64NVME is {stored}, the bytes sent have {self._crc}")
            if self._upload.full_object_crc:
                self._evidence = DestinationEvidence.FULL_OBJECT_CRC64NVME
        if self._evidence is DestinationEvidence.NONE and all(
            part.md5 == part.etag for part in self._parts
        ) and headers.get("etag", "").strip('"') == self._composed_etag and not is_md5_etag(headers):
            self._evidence = DestinationEvidence.MULTIPART_ETAG
        asked = self._context.rules.evidence
        if asked is Grade.READBACK or (asked is None and self._evidence is DestinationEvidence.NONE):
            await repeated(self._read_back, self._context.limits.attempts)
            self._evidence = DestinationEvidence.READBACK

    async def _read_back(self) -> None:
        found = Digests(frozenset({CRC64NVME}))
        bucket, key = self._upload.destination_bucket, self._upload.source.destination_key
        async with self._context.destination.get(bucket, key, checksum_mode=False) as reply:
            while (piece := await reply.read(self._context.limits.window_bytes)) is not None:
                found.update(piece)
        if found.base64(CRC64NVME) != self._crc:
            raise Mismatch("destination: the bytes read back are not the bytes sent")

    async def _clean_up(self) -> str:
        if not self._context.rules.remove_mismatch:
            return "the object written is kept"
        which = {"VersionId": self._version} if self._version else {"IfMatch": self._etag or ""}
        key = self._upload.source.destination_key
        try:
            await self._steps._control("DeleteObject", "delete_object", key, **which)  # noqa: SLF001
        except TransferError as error:
            return f"the object written could not be removed: {error.message}"
        return f"the object written was removed ({next(iter(which))})"

    def record(self, status: Status, error: str | None) -> IntegrityRecord:
        """How the object ended. SHA-256 is of the parts only: a whole one cannot be combined from them."""
        ref, upload = self._upload.source, self._upload
        done = status in (Status.VERIFIED, Status.COPIED)
        return IntegrityRecord(
            file_number=ref.file_number,
            row_number=ref.row_number,
            source_bucket=ref.bucket,
            source_key=ref.key,
            source_version=ref.version_id,
            destination_bucket=upload.destination_bucket,
            destination_key=ref.destination_key,
            size=ref.size,
            size_class=SizeClass.LARGE,
            status=status,
            source_etag=upload.source_etag or ref.etag,
            destination_etag=self._etag,
            destination_version=self._version,
            crc64nvme=self._crc if done else None,
            source_evidence=self._expected.evidence if done else SourceEvidence.NONE,
            destination_evidence=self._evidence if done else DestinationEvidence.NONE,
            attempts=max(1, self._attempts),
            started_at=upload.started_at,
            finished_at=time.time(),
            error=error,
        )
