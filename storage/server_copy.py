"""Copies that the server makes itself, where source and destination are one endpoint and one principal.

No byte passes here, so there are no digests of our own: what the server says of both objects is compared, and is
all the evidence there is. CopyObject takes up to 5 GiB, UploadPartCopy copies the parts of larger ones; both are
pinned by `x-amz-copy-source-if-match`.
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
from storage.checksums import (
    CRC32C,
    CRC64NVME,
    SHA256,
    etag_of,
    etag_shows_md5,
    expected_of,
    is_md5_etag,
    stored_checksums,
)
from storage.config import COPY
from storage.copier import CopyContext, CopyMode, ObjectCopy, status_of
from storage.multipart import Multipart, PinnedSource
from storage.retry import repeated
from storage.source_layout import parts_in_etag
from storage.written import NOTHING_REPLACED, head_written, look_before, read_back, remove_written

_KEPT = (CRC64NVME, SHA256, CRC32C)
"""Stored checksums that have a column in the ledger."""


class Shown(NamedTuple):
    """What two answers about one object, at the source and at the destination, show together."""

    source: SourceEvidence
    destination: DestinationEvidence


NOTHING_SHOWN = Shown(SourceEvidence.NONE, DestinationEvidence.NONE)


def shown_by(source: Mapping[str, str], destination: Mapping[str, str], *, etag_is_md5: bool) -> Shown:
    """The evidence of a copy in the headers of both objects. Raises Mismatch where they contradict each other.

    `etag_is_md5`: ETags of the source that look like MD5s are believed to be made of them.
    """
    sizes = source.get("content-length"), destination.get("content-length")
    if sizes[0] != sizes[1]:
        raise Mismatch(f"destination: the object has {sizes[1]} bytes, the source {sizes[0]}")
    stated, copied = stored_checksums(source), stored_checksums(destination)
    for name in stated.keys() & copied.keys():
        if stated[name] != copied[name]:
            raise Mismatch(f"destination: its stored {name.upper()} is {copied[name]}, the source's {stated[name]}")
        return Shown(SourceEvidence.STORED_CHECKSUM, DestinationEvidence.STORED_CHECKSUM)
    if etag_is_md5 and etag_shows_md5(source) and etag_shows_md5(destination):
        same = source.get("etag") == destination.get("etag")
        if same and is_md5_etag(source):
            return Shown(SourceEvidence.ETAG_MD5, DestinationEvidence.ETAG_MD5)
        if same and parts_in_etag(etag_of(source)):
            return Shown(SourceEvidence.MULTIPART_ETAG, DestinationEvidence.MULTIPART_ETAG)
        if is_md5_etag(source) and is_md5_etag(destination):
            raise Mismatch(f"destination: the ETag is {destination.get('etag')}, the source's {source.get('etag')}")
    return Shown(SourceEvidence.LENGTH, DestinationEvidence.NONE)


async def show_copy(
    context: CopyContext, ref: ObjectRef, source: Mapping[str, str], destination: Mapping[str, str]
) -> Shown:
    """`shown_by` of a copy the server has made, or, where the rules ask for it, what reading the copy shows."""
    rules = context.rules
    shown = shown_by(source, destination, etag_is_md5=rules.source_etag_md5)
    if rules.evidence is not Grade.READBACK:
        return shown
    expected = expected_of(source, etag_is_md5=rules.source_etag_md5)
    if expected.algorithm is None:
        return shown
    found = await read_back(context, ref.destination_key, expected.algorithm)
    if not expected.agrees(found):
        raise Mismatch(f"destination: the bytes read back do not have the source's {expected.evidence}")
    return Shown(expected.evidence, DestinationEvidence.READBACK)


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


def is_provable(context: CopyContext, source: Mapping[str, str]) -> bool:
    """Whether a whole copy by the server could be proven as the rules ask, by what the server says of both objects.

    A stored checksum is kept by the copy; an MD5 in the ETag is shown only where the destination's ETags are MD5s.
    """
    rules = context.rules
    if rules.evidence is Grade.READBACK:
        return False
    if stored_checksums(source):
        return True
    return is_etag_proof(context, source) and is_md5_etag(source)


def is_etag_proof(context: CopyContext, source: Mapping[str, str]) -> bool:
    """Whether an ETag that stays the same counts as the proof the rules ask for."""
    rules, can = context.rules, context.destination_can
    enough = rules.evidence is None or meets(DestinationEvidence.MULTIPART_ETAG, rules.evidence)
    return enough and rules.source_etag_md5 and can.etag_is_md5 and etag_shows_md5(source)


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
        self._replaced = NOTHING_REPLACED
        self._touched = False

    async def pin(self) -> None:
        self._ref, self._pinned = await self._steps.pin_as_told(self._ref)

    @property
    def is_provable(self) -> bool:
        return is_provable(self._context, self._pinned.headers)

    async def run(self) -> IntegrityRecord:
        context = self._context
        self._replaced = await look_before(context, self._ref.destination_key)
        await self._copy()
        self._headers = await head_written(context, self._ref.destination_key)
        try:
            self._shown = await show_copy(context, self._ref, self._pinned.headers, self._headers)
        except Mismatch as error:
            removed = await remove_written(context, self._ref.destination_key, version=self._version, etag=self._etag)
            raise Mismatch(f"{error.message}; {removed}") from None
        proven = meets(self._shown.destination, context.rules.evidence or Grade.ETAG)
        return self.record(Status.VERIFIED if proven else Status.COPIED, None)

    async def _copy(self) -> None:
        context, key = self._context, self._ref.destination_key
        # the source's own algorithm, so that both can be compared
        algorithm = next(iter(stored_checksums(self._pinned.headers)), CRC64NVME)
        more: dict[str, Any] = (
            {"ChecksumAlgorithm": algorithm.upper()} if context.destination_can.full_object_crc else {}
        )

        async def copy() -> None:
            self._attempts += 1
            await context.requests.take(1)
            try:
                answer = await self._steps.control(
                    "CopyObject", "copy_object", key, side=COPY, **copy_source(self._ref, self._pinned.etag), **more
                )
            except TransferError as error:
                self._touched |= not error.no_effect
                raise
            self._touched = True
            self._etag = _etag_of(answer, "CopyObjectResult")
            self._version = answer.get("VersionId")

        await repeated(copy, context.limits.attempts)

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
            untouched=not self._touched,
            **self._replaced._asdict(),
            **(stated_digests(self._headers) if done else {}),
        )


def stated_digests(headers: Mapping[str, str]) -> dict[str, str]:
    """The digests a server states of a whole object, as the ledger writes them."""
    stated = {name: value for name, value in stored_checksums(headers).items() if name in _KEPT}
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
    # S3 takes no range of a source of up to 5 MB
    if upload.part_count > 1:
        more["CopySourceRange"] = f"bytes={part.offset}-{part.offset + part.length - 1}"

    attempts = 0

    async def copy() -> PartRecord:
        nonlocal attempts
        attempts += 1
        await steps.context.requests.take(1)
        answer = await steps.control(
            "UploadPartCopy",
            "upload_part_copy",
            upload.source.destination_key,
            side=COPY,
            UploadId=upload.upload_id,
            PartNumber=part.number,
            **copy_source(upload.source, upload.source_etag),
            **more,
        )
        etag = _etag_of(answer, "CopyPartResult")
        return PartRecord(part.number, part.length, etag, None, None, answer["CopyPartResult"].get("ChecksumCRC64NVME"))

    try:
        record = await repeated(copy, steps.context.limits.attempts)
    except TransferError as error:
        failed = PartOutcome.FAILED
        return PartResult(upload, part.number, failed, None, status_of(error), error.message, attempts)
    return PartResult(upload, part.number, PartOutcome.DONE, record, attempts=attempts)
