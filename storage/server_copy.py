"""Copies that the server makes itself, where source and destination are one endpoint and one principal.

No byte passes here, so there are no digests of our own: what the server says of both objects is compared, and is
all the evidence there is. CopyObject takes up to 5 GiB, UploadPartCopy copies the parts of larger ones; both are
pinned by `x-amz-copy-source-if-match`. Requests that fail for a moment are repeated by the control client.
Repeatable: the same bytes are written again.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from model.errors import Mismatch, TransferError, Transient
from model.objects import ObjectRef
from model.records import IntegrityRecord, Part, PartOutcome, PartRecord, PartResult
from model.status import DestinationEvidence, Grade, SizeClass, SourceEvidence, Status, meets
from storage.checksums import CRC32C, CRC64NVME, SHA256, expected_of, is_md5_etag
from storage.config import SOURCE
from storage.copier import CopyMode, ObjectCopy, status_of
from storage.multipart import Multipart, PinnedSource
from storage.written import head_written, read_back, remove_written

_STORED = (CRC64NVME, SHA256, CRC32C)
"""Stored checksums that have a column in the ledger."""


class Shown(NamedTuple):
    """What two answers about one object, at the source and at the destination, show together."""

    source: SourceEvidence
    destination: DestinationEvidence


NOTHING_SHOWN = Shown(SourceEvidence.NONE, DestinationEvidence.NONE)


def shown_by(source: Mapping[str, str], destination: Mapping[str, str]) -> Shown:
    """The evidence of a copy in the headers of both objects. Raises Mismatch where they contradict each other."""
    sizes = source.get("content-length"), destination.get("content-length")
    if sizes[0] != sizes[1]:
        raise Mismatch(f"destination: the object has {sizes[1]} bytes, the source {sizes[0]}")
    if _is_whole(source) and _is_whole(destination):
        for name in _STORED:
            stored = source.get(f"x-amz-checksum-{name}"), destination.get(f"x-amz-checksum-{name}")
            if None not in stored and "-" not in str(stored[0]):
                if stored[0] != stored[1]:
                    raise Mismatch(f"destination: its stored {name.upper()} is {stored[1]}, the source's {stored[0]}")
                return Shown(SourceEvidence.STORED_CHECKSUM, DestinationEvidence.STORED_CHECKSUM)
    if source.get("etag") == destination.get("etag"):
        if is_md5_etag(source):
            return Shown(SourceEvidence.ETAG_MD5, DestinationEvidence.ETAG_MD5)
        if "-" in source.get("etag", ""):
            return Shown(SourceEvidence.MULTIPART_ETAG, DestinationEvidence.MULTIPART_ETAG)
    elif is_md5_etag(source) and is_md5_etag(destination):
        raise Mismatch(f"destination: the ETag is {destination.get('etag')}, the source's {source.get('etag')}")
    return Shown(SourceEvidence.LENGTH, DestinationEvidence.NONE)


def _is_whole(headers: Mapping[str, str]) -> bool:
    return headers.get("x-amz-checksum-type", "FULL_OBJECT") == "FULL_OBJECT"


async def copy_on_server(steps: Multipart, ref: ObjectRef, size_class: SizeClass) -> IntegrityRecord:
    """Copy one object of up to 5 GiB by CopyObject and say how it ended. A failure of it is a value.

    With `CopyMode.PROVEN` an object whose copy would prove nothing is streamed instead. Raises RunBroken and
    Stopped, which are not about this object.
    """
    work = _ServerCopy(steps, ref, size_class)
    try:
        await work.pin()
        if steps.context.rules.copy_mode is CopyMode.PROVEN and not work.is_provable:
            return await ObjectCopy(steps.context, ref, size_class).run()
        return await work.run()
    except TransferError as error:
        return work.record(status_of(error), error.message)


def is_provable(source: Mapping[str, str]) -> bool:
    """Whether a whole copy by the server could be compared with the object of these headers."""
    return expected_of(source, etag_is_md5=True).algorithm is not None


class _ServerCopy:
    """One object on its way within its server: plan, act, verify, clean up."""

    def __init__(self, steps: Multipart, ref: ObjectRef, size_class: SizeClass) -> None:
        self._steps = steps
        self._context = steps.context
        self._ref = ref
        self._size_class = size_class
        self._started_at = time.time()
        self._attempts = 0
        self._pinned = PinnedSource(ref.etag or "", {})
        self._etag = ""
        self._version: str | None = None
        self._headers: Mapping[str, str] = {}
        self._shown = NOTHING_SHOWN

    async def pin(self) -> None:
        self._ref, self._pinned = await self._steps.pin_as_told(self._ref)

    @property
    def is_provable(self) -> bool:
        return is_provable(self._pinned.headers)

    async def run(self) -> IntegrityRecord:
        context = self._context
        await self._copy()
        self._headers = await head_written(context, self._ref.destination_key)
        try:
            self._shown = shown_by(self._pinned.headers, self._headers)
            if context.rules.evidence is Grade.READBACK:
                self._shown = await self._read_back()
        except Mismatch as error:
            removed = await remove_written(context, self._ref.destination_key, version=self._version, etag=self._etag)
            raise Mismatch(f"{error.message}; {removed}") from None
        proven = meets(self._shown.destination, context.rules.evidence or Grade.ETAG)
        return self.record(Status.VERIFIED if proven else Status.COPIED, None)

    async def _copy(self) -> None:
        context, key = self._context, self._ref.destination_key
        self._attempts = 1
        await context.requests.take(1)
        more: dict[str, Any] = {"ChecksumAlgorithm": "CRC64NVME"} if context.destination_can.full_object_crc else {}
        # its refusals are about the source: gone, changed, not to be read
        answer = await self._steps.control(
            "CopyObject", "copy_object", key, side=SOURCE, **copy_source(self._ref, self._pinned.etag), **more
        )
        self._etag = _etag_of(answer, "CopyObjectResult")
        self._version = answer.get("VersionId")

    async def _read_back(self) -> Shown:
        """Read the copy and compare it with what the source says of itself."""
        expected = expected_of(self._pinned.headers, etag_is_md5=self._context.rules.source_etag_md5)
        if expected.algorithm is None:
            return self._shown
        found = await read_back(self._context, self._ref.destination_key, expected.algorithm)
        if not expected.agrees(found):
            raise Mismatch(f"destination: the bytes read back do not have the source's {expected.evidence}")
        return Shown(expected.evidence, DestinationEvidence.READBACK)

    def record(self, status: Status, error: str | None) -> IntegrityRecord:
        """How the object ended. Digests are the destination server's word, as the evidence says."""
        ref, done = self._ref, status in (Status.VERIFIED, Status.COPIED)
        return IntegrityRecord.of(
            ref,
            self._context.rules.destination_bucket,
            self._size_class,
            status,
            source_etag=self._pinned.etag or ref.etag,
            destination_etag=self._etag or None,
            destination_version=self._version,
            source_evidence=self._shown.source if done else SourceEvidence.NONE,
            destination_evidence=self._shown.destination if done else DestinationEvidence.NONE,
            attempts=self._attempts,
            started_at=self._started_at,
            finished_at=time.time(),
            error=error,
            **(stated_digests(self._headers) if done else {}),
        )


def stated_digests(headers: Mapping[str, str]) -> dict[str, str]:
    """The digests a server states of a whole object, as the ledger writes them."""
    if not _is_whole(headers):
        return {}
    values = {name: headers.get(f"x-amz-checksum-{name}", "-") for name in _STORED}
    # a value of the parts alone ends in -n
    stated = {name: value for name, value in values.items() if "-" not in value}
    if SHA256 in stated:
        stated[SHA256] = base64.b64decode(stated[SHA256]).hex()
    return stated


def copy_source(ref: ObjectRef, etag: str) -> dict[str, Any]:
    """The arguments that name and pin what CopyObject and UploadPartCopy read."""
    source = {"Bucket": ref.bucket, "Key": ref.key} | ({"VersionId": ref.version_id} if ref.version_id else {})
    return {"CopySource": source, "CopySourceIfMatch": f'"{etag}"'}


def _etag_of(answer: Mapping[str, Any], result: str) -> str:
    """The ETag in the body of a 200. Raises Transient where there is none: an error may come under a 200."""
    etag = str(answer.get(result, {}).get("ETag", "")).strip('"')
    if not etag:
        raise Transient(f"destination: the answer holds no {result}")
    return etag


async def copy_part_on_server(steps: Multipart, part: Part) -> PartResult:
    """Copy one part by UploadPartCopy. A failure of it is a value; RunBroken and Stopped come out."""
    upload = part.upload
    more: dict[str, Any] = {}
    if upload.source.size:
        more["CopySourceRange"] = f"bytes={part.offset}-{part.offset + part.length - 1}"

    try:
        await steps.context.requests.take(1)
        answer = await steps.control(
            "UploadPartCopy",
            "upload_part_copy",
            upload.source.destination_key,
            side=SOURCE,
            UploadId=upload.upload_id,
            PartNumber=part.number,
            **copy_source(upload.source, upload.source_etag),
            **more,
        )
        etag = _etag_of(answer, "CopyPartResult")
    except TransferError as error:
        failed = PartOutcome.FAILED
        return PartResult(upload, part.number, failed, None, status_of(error), error.message, attempts=1)
    crc = answer["CopyPartResult"].get("ChecksumCRC64NVME")
    record = PartRecord(part.number, part.length, etag, None, None, crc)
    return PartResult(upload, part.number, PartOutcome.DONE, record, attempts=1)
