"""The copy of one object that fits one PUT: plan, act, verify, clean up, in that order on the page.

One GET and one PUT, nothing else, unless something goes wrong. Small bodies are read whole, verified,
and sent signed with their SHA-256 or, where nobody asks for that, with a trailing CRC64NVME; larger ones
stream through the tee with a trailing CRC64NVME.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
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
)
from model.objects import ObjectRef
from model.records import IntegrityRecord
from model.routing import MAX_SINGLE_PUT
from model.status import DestinationEvidence, Grade, SizeClass, SourceEvidence, Status, meets
from storage.body_plan import AUTO, BodyPlan, BodyPlans, body_plans
from storage.checksums import (
    CRC64NVME,
    MD5,
    NOTHING_EXPECTED,
    SHA256,
    Digests,
    etag_of,
    expected_of,
    is_md5_etag,
    written,
)
from storage.client import S3Client
from storage.config import Capabilities, TransferLimits
from storage.limits import Rate
from storage.metadata import carried_headers
from storage.pace import Pace
from storage.retry import repeated
from storage.signing import UNSIGNED, UNSIGNED_TRAILER
from storage.tee import framed, framed_length, framed_whole, tee, trailer_headers
from storage.transport import Buffer, Reply
from storage.written import NOTHING_REPLACED, look_before, read_back, remove_written

_STATUS_OF: dict[type[TransferError], Status] = {
    SourceGone: Status.SOURCE_GONE,
    SourceChanged: Status.SOURCE_CHANGED,
    Archived: Status.ARCHIVED,
    Mismatch: Status.MISMATCH,
}


class CopyMode(StrEnum):
    """Who moves the bytes of a run."""

    STREAM = "stream"
    SERVER = "server"
    PROVEN = "proven"
    """The server, for objects whose copy its own words prove; other objects are streamed."""


@dataclass(frozen=True, slots=True)
class CopyRules:
    """What counts as proof and what happens when something is off."""

    destination_bucket: str
    evidence: Grade | None = None
    """The least destination evidence of VERIFIED; None asks for the best without a second read."""
    copy_changed: bool = False
    remove_mismatch: bool = True
    source_etag_md5: bool = True
    digests: frozenset[str] = AUTO
    """What the ledger is to keep at least."""
    copy_mode: CopyMode = CopyMode.STREAM
    record_replaced: bool = False


@dataclass(frozen=True, slots=True)
class CopyContext:
    """Everything the copies of one process share."""

    source: S3Client
    destination: S3Client
    destination_control: Any
    source_can: Capabilities
    destination_can: Capabilities
    rules: CopyRules
    limits: TransferLimits
    requests: Rate
    bytes: Rate
    pace: Pace = field(default_factory=Pace)
    plans: BodyPlans = field(init=False)
    """How bodies are hashed and sent; follows from rules and destination."""

    def __post_init__(self) -> None:
        plans = body_plans(self.rules.digests, self.destination_can, self.rules.evidence)
        object.__setattr__(self, "plans", plans)


def status_of(error: TransferError) -> Status:
    """The terminal status an error means for its object."""
    return _STATUS_OF.get(type(error), Status.FAILED)


def wanted_grade(rules: CopyRules, can: Capabilities, *, server_proves: bool) -> Grade:
    """The grade a copy is held to: what the user asked, else the best this endpoint gives unread.

    `server_proves` says that the server itself refuses a wrong body of this kind.
    """
    if rules.evidence is not None:
        return rules.evidence
    if server_proves:
        return Grade.SERVER
    return Grade.ETAG if can.etag_is_md5 else Grade.READBACK


def require_listed(ref: ObjectRef, headers: Mapping[str, str]) -> None:
    """Raises SourceChanged where the source's answer is about another object than the inventory names."""
    etag, size = etag_of(headers), headers.get("content-length")
    if ref.etag is not None and etag != ref.etag:
        raise SourceChanged(f"source: the ETag is {etag}, the inventory says {ref.etag}")
    if size != str(ref.size):
        raise SourceChanged(f"source: the object has {size} bytes, the inventory says {ref.size}")


def open_source(context: CopyContext, ref: ObjectRef) -> AbstractAsyncContextManager[Reply]:
    """The whole object at the source, pinned as the inventory has it."""
    return context.source.get(
        ref.bucket,
        ref.key,
        etag=ref.etag,
        version=ref.version_id,
        checksum_mode=context.source_can.checksum_mode,
    )


class ObjectCopy:
    """One object on its way. Made for one `run()`; may be repeated by making another."""

    __slots__ = (
        "_answer",
        "_approved",
        "_attempts",
        "_context",
        "_destination_evidence",
        "_digests",
        "_expected",
        "_mismatches",
        "_pins",
        "_ref",
        "_replaced",
        "_size_class",
        "_source_headers",
        "_started_at",
        "_streamed",
        "_touched",
    )

    def __init__(self, context: CopyContext, ref: ObjectRef, size_class: SizeClass) -> None:
        self._context = context
        self._ref = ref
        self._size_class = size_class
        self._streamed = ref.size > context.limits.whole_body_bytes
        self._attempts = 0
        self._approved = False
        self._touched = False
        self._mismatches = 0
        self._pins = 0
        self._replaced = NOTHING_REPLACED
        self._started_at = time.time()
        self._digests: Digests | None = None
        self._expected = NOTHING_EXPECTED
        self._source_headers: Mapping[str, str] = {}
        self._answer: Mapping[str, str] = {}
        self._destination_evidence = DestinationEvidence.NONE

    async def run(self) -> IntegrityRecord:
        """Copy the object and say how it ended. Failures of this object are values, not exceptions.

        Raises RunBroken and Stopped, which are not about this object.
        """
        try:
            await self._run()
        except TransferError as error:
            return self._record(status_of(error), error.message)
        proves = self._body_plan.server_proves
        wanted = wanted_grade(self._context.rules, self._context.destination_can, server_proves=proves)
        proven = meets(self._destination_evidence, wanted)
        return self._record(Status.VERIFIED if proven else Status.COPIED, None)

    async def _run(self) -> None:
        if self._ref.size > MAX_SINGLE_PUT:
            raise Refused(f"{self._ref.size} bytes are above S3's limit for one PUT; it should have gone by parts")
        self._replaced = await look_before(self._context, self._ref.destination_key)
        copy = self._copy_streamed if self._streamed else self._copy_whole
        while True:
            try:
                await copy()
                await self._verify()
                return
            except SourceChanged:
                if not self._context.rules.copy_changed or not await self._pin_again():
                    raise
            except Mismatch as error:
                removed = await self._clean_up()
                self._mismatches += 1
                if self._mismatches > 1:
                    raise Mismatch(f"{error.message}; {removed}") from None

    # plan

    async def _pin_again(self) -> bool:
        """Pin the source as it is now; False where nothing new is to be had, or it never stays the same."""
        context, ref = self._context, self._ref
        self._pins += 1
        if self._pins > context.limits.attempts:
            return False

        async def head() -> Mapping[str, str]:
            await context.requests.take(1)
            return await context.source.head(ref.bucket, ref.key, checksum_mode=context.source_can.checksum_mode)

        headers = await repeated(head, context.limits.attempts)
        current, size = etag_of(headers) or None, int(headers.get("content-length", "0"))
        if (current, size) == (ref.etag, ref.size):
            return False
        self._ref = ref._replace(etag=current, size=size, version_id=None)
        self._streamed = self._ref.size > self._context.limits.whole_body_bytes
        return True

    def _plan(self, reply: Reply) -> Digests:
        """Check the response against the pin and decide which digests the body needs."""
        context, headers = self._context, reply.headers
        require_listed(self._ref, headers)
        self._source_headers = headers
        self._expected = expected_of(headers, etag_is_md5=context.rules.source_etag_md5)
        self._digests = Digests(self._body_plan.with_source(self._expected.algorithm))
        return self._digests

    @property
    def _body_plan(self) -> BodyPlan:
        plans = self._context.plans
        return plans.streamed if self._streamed else plans.whole

    # act

    async def _copy_whole(self) -> None:
        context = self._context
        body = await repeated(self._read_whole, context.limits.attempts)
        self._approve()
        digests = self._made_digests
        headers = carried_headers(self._source_headers)
        if self._body_plan.shows is DestinationEvidence.TRAILING_CRC64NVME:
            headers |= trailer_headers(len(body))
            body, payload = framed_whole(body, digests), UNSIGNED_TRAILER
        else:
            payload = digests.hex(SHA256) or UNSIGNED
            if context.destination_can.trailing_checksum and (crc := digests.base64(CRC64NVME)):
                headers["x-amz-checksum-crc64nvme"] = crc

        async def put() -> None:
            await self._put(body, len(body), payload, headers)

        await repeated(put, context.limits.attempts)

    async def _read_whole(self) -> Buffer:
        ref = self._ref
        await self._begin()
        async with open_source(self._context, self._ref) as reply:
            digests = self._plan(reply)
            body = await reply.read_all()
        if len(body) != ref.size:
            raise Transient(f"source: {len(body)} of {ref.size} bytes arrived")
        await self._context.pace.update(digests, body)
        return body

    async def _copy_streamed(self) -> None:
        await repeated(self._stream, self._context.limits.attempts)

    async def _stream(self) -> None:
        context, ref = self._context, self._ref
        await self._begin()
        async with open_source(self._context, self._ref) as reply:
            digests = self._plan(reply)
            body: AsyncIterator[Buffer] = tee(reply, digests, context.limits.window_bytes, self._approve, context.pace)
            headers = carried_headers(self._source_headers)
            length, payload = ref.size, UNSIGNED
            if context.destination_can.trailing_checksum:
                body = framed(body, digests)
                length, payload = framed_length(ref.size, context.limits.window_bytes), UNSIGNED_TRAILER
                headers |= trailer_headers(ref.size)
            await self._put(body, length, payload, headers)

    async def _begin(self) -> None:
        self._attempts += 1
        self._approved = False
        await self._context.requests.take(2)
        await self._context.bytes.take(self._ref.size)

    def _approve(self) -> None:
        """The last window may go only when the bytes read are the source's."""
        digests = self._made_digests
        if digests.length != self._ref.size:
            raise Transient(f"source: {digests.length} of {self._ref.size} bytes arrived")
        if not self._expected.agrees(digests):
            raise Mismatch(f"source: the bytes read do not have its {self._expected.evidence} {self._expected.value}")
        self._approved = True

    async def _put(
        self, body: Buffer | AsyncIterator[Buffer], length: int, payload: str, headers: Mapping[str, str]
    ) -> None:
        context = self._context
        try:
            self._answer = await context.destination.put(
                context.rules.destination_bucket,
                self._ref.destination_key,
                body,
                length=length,
                payload=payload,
                headers=headers,
            )
        except OutcomeUnknown as error:
            self._touched = True
            landed = await self._look()
            if landed is None:
                raise Transient(error.message) from None
            self._answer = landed
        except TransferError as error:
            # without its last window a body is never whole
            self._touched |= self._approved and not error.no_effect
            raise
        else:
            self._touched = True
            self._destination_evidence = self._body_plan.shows

    async def _look(self) -> Mapping[str, str] | None:
        """What the destination holds after a lost answer, if it is provably what we sent."""
        digests = self._made_digests
        try:
            headers = await self._context.destination.head(
                self._context.rules.destination_bucket, self._ref.destination_key
            )
        except TransferError:
            return None
        if digests.length != self._ref.size or headers.get("content-length") != str(self._ref.size):
            return None
        if carried_headers(headers) != carried_headers(self._source_headers):
            return None
        crc = digests.base64(CRC64NVME)
        if crc is not None and headers.get("x-amz-checksum-crc64nvme") == crc:
            self._destination_evidence = DestinationEvidence.TRAILING_CRC64NVME
            return headers
        md5 = digests.hex(MD5)
        return headers if md5 is not None and etag_of(headers) == md5 else None

    # verify

    async def _verify(self) -> None:
        """Compare what the destination says, or holds, with what was read. Raises Mismatch."""
        context, digests = self._context, self._made_digests
        md5 = digests.hex(MD5)
        if md5 is not None and context.destination_can.etag_is_md5 and is_md5_etag(self._answer):
            etag = self._answer["etag"].strip('"')
            if etag != md5:
                raise Mismatch(f"destination: the ETag is {etag}, the MD5 of the bytes sent is {md5}")
            if self._destination_evidence is DestinationEvidence.NONE:
                self._destination_evidence = DestinationEvidence.ETAG_MD5
        asked = context.rules.evidence is Grade.READBACK
        if asked or (context.rules.evidence is None and self._destination_evidence is DestinationEvidence.NONE):
            name = self._body_plan.readback
            found = await read_back(context, self._ref.destination_key, name)
            if found.raw(name) != digests.raw(name):
                raise Mismatch("destination: the bytes read back are not the bytes sent")
            self._destination_evidence = DestinationEvidence.READBACK

    # clean up

    async def _clean_up(self) -> str:
        """Remove the wrong object just written, unless told to keep it; says what was done."""
        answer = self._answer
        if not answer:
            return "nothing was written"
        if self._context.rules.remove_mismatch:
            self._answer, self._destination_evidence = {}, DestinationEvidence.NONE
        version, etag = answer.get("x-amz-version-id"), answer.get("etag", "")
        return await remove_written(self._context, self._ref.destination_key, version=version, etag=etag)

    @property
    def _made_digests(self) -> Digests:
        if self._digests is None:
            raise AssertionError("digests are made with the first response")
        return self._digests

    def _record(self, status: Status, error: str | None) -> IntegrityRecord:
        ref, digests = self._ref, self._digests
        done = status in (Status.VERIFIED, Status.COPIED)
        etag = etag_of(self._source_headers) or ref.etag
        return IntegrityRecord.of(
            ref,
            self._context.rules.destination_bucket,
            self._size_class,
            status,
            source_etag=etag,
            destination_etag=etag_of(self._answer) or None,
            destination_version=self._answer.get("x-amz-version-id"),
            source_evidence=self._expected.evidence if done else SourceEvidence.NONE,
            destination_evidence=self._destination_evidence if done else DestinationEvidence.NONE,
            attempts=self._attempts,
            started_at=self._started_at,
            finished_at=time.time(),
            error=error,
            untouched=not self._touched,
            **self._replaced._asdict(),
            **(written(digests) if digests and done else {}),
        )
