"""The verification of one object at the destination: nothing is written there.

By one HEAD, or none where the destination's inventory settles it, or by a read of the whole object. The source is
asked only for what ledger and inventory do not tell. All of it may be repeated.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from model.errors import DestinationGone, Mismatch, SourceChanged, TransferError, Transient
from model.objects import ObjectRef
from model.records import IntegrityRecord
from model.status import DestinationEvidence, Grade, SizeClass, SourceEvidence, Status
from storage.checksums import CRC32C, CRC64NVME, MD5, SHA256, Digests, etag_of, expected_of, written
from storage.copier import CopyContext, open_source, status_of
from storage.findings import (
    Finding,
    concluded,
    digest_to_compare,
    is_of,
    require_size,
    shown_by_record,
    shown_by_row,
    shown_by_source,
)
from storage.multipart import pinned_source
from storage.retry import repeated
from storage.server_copy import Shown, stated_digests
from storage.transport import Reply

_IN_HEX = frozenset({MD5, SHA256})
_IN_BASE64 = frozenset({CRC64NVME, CRC32C})


class Listed(NamedTuple):
    """What the destination's inventory says of an object: bytes, and its ETag without quotes."""

    size: int
    etag: str | None


class Known(NamedTuple):
    """What is known of an object before the destination is asked."""

    record: IntegrityRecord | None
    """The ledger's row of it."""
    listed: Listed | None = None


class ObjectVerification:
    """One object to look at. Made for one `run()`."""

    def __init__(
        self, context: CopyContext, ref: ObjectRef, size_class: SizeClass, known: Known, *, deep: bool = False
    ) -> None:
        self._context = context
        self._ref = ref
        self._size_class = size_class
        self._known = known
        self._deep = deep
        self._started_at = time.time()
        self._source: Mapping[str, str] | None = None
        self._headers: Mapping[str, str] = {}
        self._digests: dict[str, str] = {}
        self._record: IntegrityRecord | None = None
        """The ledger's row, where it is about the source as the inventory has it."""

    async def run(self) -> IntegrityRecord:
        """Look and say how it ended. What is wrong with the object is a value.

        Raises RunBroken and Stopped, which are not about this object.
        """
        try:
            finding = await self._find()
        except DestinationGone as error:
            finding = Finding(Status.DESTINATION_GONE, error=error.message)
        except TransferError as error:
            finding = Finding(status_of(error), error=error.message)
        return self._recorded(finding)

    async def _find(self) -> Finding:
        await self._plan()
        if self._deep:
            return await self._read()
        return self._settled() or await self._look()

    # plan

    async def _plan(self) -> None:
        if self._ref.etag is None:
            # without an ETag the row says nothing of change
            self._ref = self._ref._replace(etag=etag_of(await self._ask_source()))
        record = self._known.record
        self._record = record if record is not None and is_of(record, self._ref) else None

    @property
    def _etag_is_md5(self) -> bool:
        return self._context.rules.source_etag_md5

    @property
    def _wanted(self) -> Grade:
        return self._context.rules.evidence or Grade.ETAG

    async def _ask_source(self) -> Mapping[str, str]:
        if self._source is None:
            self._source = (await pinned_source(self._context, self._ref)).headers
        return self._source

    # look

    def _settled(self) -> Finding | None:
        """What the destination's inventory proves; None where the destination itself must be asked.

        Inventories are hours old and may lack the newest objects (S3 user guide, «Amazon S3 Inventory»), so what
        they show to be wrong is looked at before it is said.
        """
        listed = self._known.listed
        if listed is None:
            return None
        headers = {"content-length": str(listed.size)} | ({"etag": f'"{listed.etag}"'} if listed.etag else {})
        try:
            finding = self._judged(headers)
        except Mismatch:
            return None
        if finding is None or finding.status is not Status.VERIFIED:
            return None
        self._headers = headers
        return finding

    async def _look(self) -> Finding:
        self._headers = headers = await self._head()
        finding = self._judged(headers)
        if finding is None:
            source = await self._ask_source()
            shown = shown_by_source(self._record, source, headers, etag_is_md5=self._etag_is_md5)
            self._digests = stated_digests(headers)
            finding = concluded(shown, self._record, headers, self._wanted)
        return finding

    def _judged(self, headers: Mapping[str, str]) -> Finding | None:
        """What ledger and inventory show of the destination object; None where the source must be asked."""
        require_size(self._ref, headers)
        record = self._record
        if record is not None:
            evidence = shown_by_record(record, headers)
            if evidence is not DestinationEvidence.NONE:
                self._digests = _digests_of(record)
                return concluded(Shown(record.source_evidence, evidence), record, headers, self._wanted)
        shown = shown_by_row(self._ref, headers, etag_is_md5=self._etag_is_md5)
        if shown is None:
            return None
        self._digests = stated_digests(headers)
        return concluded(shown, record, headers, self._wanted)

    async def _head(self) -> Mapping[str, str]:
        context = self._context

        async def head() -> Mapping[str, str]:
            await context.requests.take(1)
            return await context.destination.head(
                context.rules.destination_bucket,
                self._ref.destination_key,
                checksum_mode=context.destination_can.checksum_mode,
            )

        return await repeated(head, context.limits.attempts)

    # read

    async def _read(self) -> Finding:
        """Read the object and compare it with the ledger's digest, the source's own, or the source's bytes."""
        expected = await self._expected()
        found = await self._destination_digests(expected.name)
        if found.raw(expected.name) != expected.raw:
            # once more, for a read may go wrong too
            found = await self._destination_digests(expected.name)
        if found.raw(expected.name) != expected.raw:
            raise Mismatch(f"destination: the bytes read do not have the {expected.name.upper()} {expected.of}")
        self._digests = written(found)
        shown = Shown(expected.evidence, DestinationEvidence.READBACK)
        return concluded(shown, self._record, self._headers, self._wanted)

    async def _expected(self) -> _Expected:
        record = self._record
        name = digest_to_compare(record) if record is not None else None
        if record is not None and name is not None:
            return _Expected(name, _raw(name, getattr(record, name)), record.source_evidence, "in the ledger")
        stated = expected_of(await self._ask_source(), etag_is_md5=self._etag_is_md5)
        if stated.algorithm is not None and stated.value is not None:
            hexadecimal = stated.evidence is SourceEvidence.ETAG_MD5
            raw = bytes.fromhex(stated.value) if hexadecimal else base64.b64decode(stated.value)
            return _Expected(stated.algorithm, raw, stated.evidence, "the source states")
        return _Expected(SHA256, await self._source_digest(SHA256), SourceEvidence.LENGTH, "of the source's bytes")

    async def _source_digest(self, name: str) -> bytes | None:
        context, ref = self._context, self._ref

        async def read() -> Digests:
            digests = Digests(frozenset({name}))
            async with open_source(context, ref) as reply:
                if etag_of(reply.headers) != ref.etag:
                    raise SourceChanged(f"source: the ETag is {etag_of(reply.headers)}, the inventory says {ref.etag}")
                await self._digest(reply, digests)
            return digests

        await context.requests.take(1)
        return (await repeated(read, context.limits.attempts)).raw(name)

    async def _destination_digests(self, name: str) -> Digests:
        context, ref = self._context, self._ref
        names = context.rules.digests | {name}

        async def read() -> Digests:
            digests = Digests(names)
            await context.requests.take(1)
            async with context.destination.get(
                context.rules.destination_bucket,
                ref.destination_key,
                checksum_mode=context.destination_can.checksum_mode,
            ) as reply:
                self._headers = reply.headers
                require_size(ref, reply.headers)
                await self._digest(reply, digests)
            return digests

        return await repeated(read, context.limits.attempts)

    async def _digest(self, reply: Reply, digests: Digests) -> None:
        """Hash a body a window at a time."""
        await self._context.bytes.take(self._ref.size)
        while (piece := await reply.read(self._context.limits.window_bytes)) is not None:
            await self._context.pace.update(digests, piece)
        if digests.length != self._ref.size:
            raise Transient(f"{digests.length} of {self._ref.size} bytes arrived")

    def _recorded(self, finding: Finding) -> IntegrityRecord:
        proven = finding.status is Status.VERIFIED
        return IntegrityRecord.of(
            self._ref,
            self._context.rules.destination_bucket,
            self._size_class,
            finding.status,
            source_etag=self._ref.etag,
            destination_etag=etag_of(self._headers) or None,
            destination_version=self._headers.get("x-amz-version-id"),
            source_evidence=finding.source,
            destination_evidence=finding.destination,
            attempts=1,
            started_at=self._started_at,
            finished_at=time.time(),
            error=finding.error,
            **(self._digests if proven else {}),
        )


class _Expected(NamedTuple):
    """The digest the bytes at the destination must have; `of` says whose word it is."""

    name: str
    raw: bytes | None
    evidence: SourceEvidence
    of: str


def _digests_of(record: IntegrityRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in _IN_HEX | _IN_BASE64}


def _raw(name: str, text: str) -> bytes:
    return bytes.fromhex(text) if name in _IN_HEX else base64.b64decode(text)
