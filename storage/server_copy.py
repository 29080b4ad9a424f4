"""Copies that the server makes itself, where source and destination are one endpoint and one principal.

No byte passes here, so there are no digests of our own: what the server says of both objects is compared, and is
all the evidence there is. CopyObject takes up to 5 GiB, UploadPartCopy copies the parts of larger ones; both are
pinned by `x-amz-copy-source-if-match`. Repeatable: the same bytes are written again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from model.errors import Mismatch, SourceChanged, TransferError, Transient
from model.objects import ObjectRef
from model.records import IntegrityRecord, Part, PartOutcome, PartRecord, PartResult
from model.status import DestinationEvidence, Grade, SizeClass, SourceEvidence, Status, meets
from storage.checksums import CRC32C, CRC64NVME, MD5, SHA256, Digests, Expected, expected_of, is_md5_etag
from storage.config import SOURCE
from storage.copier import status_of
from storage.multipart import Multipart, PinnedSource
from storage.retry import repeated

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
            if None not in stored:
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

    Raises RunBroken and Stopped, which are not about this object.
    """
    work = _ServerCopy(steps, ref, size_class)
    try:
        return await work.run()
    except TransferError as error:
        return work.record(status_of(error), error.message)


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
        self._answer: Mapping[str, Any] = {}
        self._headers: Mapping[str, str] = {}
        self._shown = NOTHING_SHOWN

    async def run(self) -> IntegrityRecord:
        context, most = self._context, self._context.limits.attempts
        self._ref, self._pinned = await self._steps.pin_as_told(self._ref)
        await repeated(self._copy, most)
        self._headers = await self._steps.head_destination(self._ref.destination_key)
        try:
            self._shown = shown_by(self._pinned.headers, self._headers)
            if context.rules.evidence is Grade.READBACK:
                await repeated(self._read_back, most)
        except Mismatch as error:
            which = {"VersionId": self._answer.get("VersionId"), "IfMatch": self._etag}
            raise Mismatch(f"{error.message}; {await self._steps.remove(self._ref.destination_key, **which)}") from None
        proven = meets(self._shown.destination, context.rules.evidence or Grade.ETAG)
        return self.record(Status.VERIFIED if proven else Status.COPIED, None)

    @property
    def _etag(self) -> str:
        return str(self._answer.get("CopyObjectResult", {}).get("ETag", "")).strip('"')

    async def _copy(self) -> None:
        self._attempts += 1
        await self._context.requests.take(1)
        more = {"ChecksumAlgorithm": "CRC64NVME"} if self._context.destination_can.full_object_crc else {}
        self._answer = await self._steps.control(
            "CopyObject",
            "copy_object",
            self._ref.destination_key,
            side=SOURCE,
            **copy_source(self._ref, self._pinned.etag),
            **more,
        )

    async def _read_back(self) -> None:
        """Read the copy and compare it with what the source says of itself."""
        expected = expected_of(self._pinned.headers, etag_is_md5=self._context.rules.source_etag_md5)
        if expected.algorithm is None:
            raise Mismatch("source: it has neither a stored checksum nor an MD5 to compare a copy with")
        found = await self._steps.read_destination(self._ref.destination_key, frozenset({expected.algorithm}))
        if not expected.agrees(found):
            raise Mismatch(f"destination: the bytes read back do not have the source's {expected.evidence}")
        self._shown = Shown(expected.evidence, DestinationEvidence.READBACK)

    def record(self, status: Status, error: str | None) -> IntegrityRecord:
        """How the object ended; digests are those the destination's server states."""
        ref, done = self._ref, status in (Status.VERIFIED, Status.COPIED)
        stated = _stated(self._headers) if done else {}
        return IntegrityRecord.of(
            ref,
            self._context.rules.destination_bucket,
            self._size_class,
            status,
            source_etag=self._pinned.etag or ref.etag,
            destination_etag=self._etag or None,
            destination_version=self._answer.get("VersionId"),
            source_evidence=self._shown.source if done else SourceEvidence.NONE,
            destination_evidence=self._shown.destination if done else DestinationEvidence.NONE,
            attempts=self._attempts,
            started_at=self._started_at,
            finished_at=time.time(),
            error=error,
            **stated,
        )
