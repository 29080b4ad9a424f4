"""Copies with a choice of digests: what is recorded, and on what evidence, with real servers on both sides."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from awscrt import checksums

from model.objects import ObjectRef
from model.records import IntegrityRecord, PartRecord
from model.status import DestinationEvidence, Grade, SourceEvidence, Status
from storage.checksums import CRC32C, CRC64NVME, MD5, SHA256, Digests
from storage.config import Capabilities, TransferLimits
from storage.copier import CopyContext
from storage.pace import Pace
from storage.transport import Buffer
from tests.fixtures.s3 import S3Server
from tests.storage.fault_proxy import FaultProxy, Passing, fault_proxy, flip_sent_byte, lose_answer
from tests.storage.ferry import PART, PREFIX, Ferry, body_of, done, put
from tests.storage.pairs import MakeBucket, Pair, make_pair

LISTS = [{MD5}, {SHA256}, {CRC32C}, {CRC64NVME}, {MD5, SHA256}, {MD5, SHA256, CRC32C, CRC64NVME}]
STREAMED = 3_000_000
ETAG_ONLY = Capabilities(etag_is_md5=True)
NAMES = (MD5, SHA256, CRC32C, CRC64NVME)


def digest_of(name: str, body: bytes) -> str:
    """As the ledger has it, made without the code under test."""
    if name in (MD5, SHA256):
        return hashlib.new(name, body, usedforsecurity=False).hexdigest()
    width = 4 if name == CRC32C else 8
    return base64.b64encode(getattr(checksums, name)(body).to_bytes(width, "big")).decode()


def kept(record: IntegrityRecord | PartRecord) -> dict[str, str]:
    """The digests of a record by name."""
    return {name: getattr(record, name) for name in NAMES if getattr(record, name) is not None}


def digests_of(names: set[str], body: bytes) -> dict[str, str]:
    return {name: digest_of(name, body) for name in names}


@pytest.fixture
def pair(ferry: Ferry, s3_server: S3Server, bucket: MakeBucket) -> Pair:
    """Two fresh buckets on each server in turn."""
    return make_pair(ferry, s3_server, bucket)


@pytest.fixture
def on_minio(ferry: Ferry, minio: S3Server, bucket: MakeBucket) -> Pair:
    return make_pair(ferry, minio, bucket)


def of_source(pair: Pair) -> set[str]:
    """The digests that are evidence of a source whose ETag is opaque."""
    return {CRC64NVME} if pair.server.name == "versitygw" else set()


@pytest.mark.parametrize("size", [0, 100, 1024 * 1024, STREAMED])
@pytest.mark.parametrize("names", LISTS, ids=lambda names: ",".join(sorted(names)))
class TestObjects:
    def test_the_ledger_gets_the_digests_named_and_those_that_are_evidence_and_no_others(
        self, ferry: Ferry, pair: Pair, names: set[str], size: int
    ) -> None:
        body = body_of("k", size)
        ref = put(pair.client, pair.source_bucket, "k", body)
        (record,) = ferry.copy(pair.context(ferry, digests=frozenset(names), source_etag_md5=False), ref)
        assert (record.status, record.error) == (Status.VERIFIED, None)
        signed = SHA256 in names and size < STREAMED
        of_destination = set() if signed else {CRC64NVME}
        assert kept(record) == digests_of(names | of_destination | of_source(pair), body)
        assert record.destination_evidence is (
            DestinationEvidence.SIGNED_BODY if signed else DestinationEvidence.TRAILING_CRC64NVME
        )
        assert pair.differences() == []

    def test_a_signature_is_made_where_the_server_checks_nothing_else(
        self, ferry: Ferry, pair: Pair, names: set[str], size: int
    ) -> None:
        body = body_of("k", size)
        ref = put(pair.client, pair.source_bucket, "k", body)
        can = Capabilities(signed_body=True, etag_is_md5=True)
        (record,) = ferry.copy(pair.context(ferry, can=can, digests=frozenset(names)), ref)
        evidence = DestinationEvidence.ETAG_MD5 if size == STREAMED else DestinationEvidence.SIGNED_BODY
        assert (record.status, record.destination_evidence) == (Status.VERIFIED, evidence)
        assert kept(record).items() >= digests_of(names, body).items()
        assert pair.differences() == []

    def test_an_endpoint_without_any_evidence_is_read_back(
        self, ferry: Ferry, pair: Pair, names: set[str], size: int
    ) -> None:
        body = body_of("k", size)
        ref = put(pair.client, pair.source_bucket, "k", body)
        context = pair.context(ferry, can=Capabilities(), digests=frozenset(names), source_etag_md5=False)
        (record,) = ferry.copy(context, ref)
        assert (record.status, record.destination_evidence) == (Status.VERIFIED, DestinationEvidence.READBACK)
        of_readback = set() if SHA256 in names else {CRC64NVME}
        assert kept(record) == digests_of(names | of_readback | of_source(pair), body)
        assert pair.differences() == []


class TestSources:
    def test_an_md5_etag_is_computed_and_kept_though_nobody_named_it(self, ferry: Ferry, on_minio: Pair) -> None:
        ref = put(on_minio.client, on_minio.source_bucket, "k", b"abc")
        (record,) = ferry.copy(on_minio.context(ferry, digests=frozenset({CRC64NVME})), ref)
        assert (record.source_evidence, record.md5) == (SourceEvidence.ETAG_MD5, ref.etag)

    @pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "SHA1", "SHA256", "CRC64NVME"])
    @pytest.mark.parametrize("size", [100, STREAMED])
    def test_a_stored_checksum_is_evidence_whatever_is_named(
        self, ferry: Ferry, pair: Pair, algorithm: str, size: int
    ) -> None:
        body = body_of("k", size)
        ref = put(pair.client, pair.source_bucket, "k", body, ChecksumAlgorithm=algorithm)
        (record,) = ferry.copy(pair.context(ferry, digests=frozenset({MD5})), ref)
        assert (record.status, record.source_evidence) == (Status.VERIFIED, SourceEvidence.STORED_CHECKSUM)
        columns = {algorithm.lower()} & set(NAMES)
        assert kept(record) == digests_of({MD5, CRC64NVME} | columns, body)


class TestTheWire:
    @pytest.fixture
    def proxy(self, minio: S3Server) -> Iterator[FaultProxy]:
        with fault_proxy(minio.endpoint_url) as running:
            yield running

    @pytest.fixture
    def context(self, ferry: Ferry, on_minio: Pair, proxy: FaultProxy) -> CopyContext:
        destination = ferry.endpoint(on_minio.server, "destination", url=proxy.url)
        context = ferry.context(
            on_minio.source,
            on_minio.source_bucket,
            destination,
            on_minio.destination_bucket,
            digests=frozenset({CRC64NVME}),
        )
        proxy.seen.clear()
        return context

    @pytest.fixture
    def ref(self, on_minio: Pair) -> ObjectRef:
        return put(on_minio.client, on_minio.source_bucket, "k", body_of("k", 20_000))

    @pytest.mark.parametrize(
        ("names", "payload"),
        [
            ({CRC64NVME}, "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
            ({SHA256}, digest_of(SHA256, body_of("k", 20_000))),
        ],
    )
    def test_a_small_body_is_signed_only_where_its_sha256_is_kept(
        self, ferry: Ferry, context: CopyContext, proxy: FaultProxy, ref: ObjectRef, names: set[str], payload: str
    ) -> None:
        sent: list[str] = []

        def look(passing: Passing, forward: Callable[[], None]) -> None:
            sent.append(passing.header("x-amz-content-sha256"))
            forward()

        proxy.fail("PUT", "/k", look)
        context = replace(context, rules=replace(context.rules, digests=frozenset(names)))
        (record,) = ferry.copy(context, ref)
        assert (record.status, sent) == (Status.VERIFIED, [payload])

    @pytest.mark.parametrize("at", [100, 10_000])
    def test_a_small_unsigned_body_that_is_corrupted_on_its_way_is_refused_and_sent_again(
        self, ferry: Ferry, on_minio: Pair, context: CopyContext, proxy: FaultProxy, ref: ObjectRef, at: int
    ) -> None:
        proxy.fail("PUT", "/k", flip_sent_byte(at))
        (record,) = ferry.copy(context, ref)
        assert (record.status, proxy.count("PUT")) == (Status.VERIFIED, 2)
        assert on_minio.differences() == []

    def test_a_lost_answer_to_a_small_unsigned_body_is_looked_for(
        self, ferry: Ferry, context: CopyContext, proxy: FaultProxy, ref: ObjectRef
    ) -> None:
        proxy.fail("PUT", "/k", lose_answer)
        (record,) = ferry.copy(context, ref)
        assert (record.status, record.destination_evidence) == (
            Status.VERIFIED,
            DestinationEvidence.TRAILING_CRC64NVME,
        )
        assert (proxy.count("PUT"), proxy.count("HEAD")) == (1, 1)

    def test_a_lost_answer_is_no_proof_where_neither_side_has_a_crc(
        self, ferry: Ferry, on_minio: Pair, context: CopyContext, proxy: FaultProxy, ref: ObjectRef
    ) -> None:
        proxy.fail("PUT", "/k", lose_answer)
        rules = replace(context.rules, digests=frozenset({SHA256}), source_etag_md5=False)
        (record,) = ferry.copy(replace(context, rules=rules), ref)
        assert (record.status, record.destination_evidence) == (Status.VERIFIED, DestinationEvidence.SIGNED_BODY)
        assert proxy.count("PUT") == 2


class TestParts:
    SIZE = 2 * PART + 12_345

    @pytest.mark.parametrize("names", LISTS, ids=lambda names: ",".join(sorted(names)))
    def test_each_part_has_the_digests_named_and_the_whole_the_crcs(
        self, ferry: Ferry, pair: Pair, names: set[str]
    ) -> None:
        body = body_of("big", self.SIZE)
        ref = put(pair.client, pair.source_bucket, "big", body)
        context = pair.context(ferry, digests=frozenset(names))
        upload = ferry.open_upload(context, ref)
        parts = done(ferry.send_parts(context, upload))
        for number, part in enumerate(parts):
            assert kept(part) == digests_of(names | {CRC64NVME}, body[number * PART : (number + 1) * PART])
        record, _ = ferry.complete(context, upload, parts)
        assert (record.status, record.destination_evidence) == (
            Status.VERIFIED,
            DestinationEvidence.FULL_OBJECT_CRC64NVME,
        )
        assert kept(record) == digests_of({CRC64NVME} | (names & {CRC32C}), body)
        assert pair.differences() == []

    def test_the_composed_etag_stays_evidence_where_no_md5_is_named(self, ferry: Ferry, on_minio: Pair) -> None:
        ref = put(on_minio.client, on_minio.source_bucket, "big", body_of("big", self.SIZE))
        record, _ = ferry.copy_by_parts(on_minio.context(ferry, can=ETAG_ONLY, digests=frozenset({CRC32C})), ref)
        assert (record.status, record.destination_evidence) == (Status.VERIFIED, DestinationEvidence.MULTIPART_ETAG)

    def test_a_crc32c_that_one_part_lacks_is_none_of_the_whole(self, ferry: Ferry, on_minio: Pair) -> None:
        ref = put(on_minio.client, on_minio.source_bucket, "big", body_of("big", self.SIZE))
        context = on_minio.context(ferry, digests=frozenset({CRC32C}))
        upload = ferry.open_upload(context, ref)
        first, *others = done(ferry.send_parts(context, upload))
        record, _ = ferry.complete(context, upload, [first._replace(crc32c=None), *others])
        assert (record.status, record.crc32c) == (Status.VERIFIED, None)
        assert record.crc64nvme is not None

    @pytest.mark.parametrize(
        ("names", "evidence"),
        [({CRC32C}, SourceEvidence.STORED_CHECKSUM), ({SHA256}, SourceEvidence.LENGTH)],
    )
    def test_the_stored_crc32c_of_the_source_is_compared_where_it_is_named(
        self, ferry: Ferry, on_minio: Pair, names: set[str], evidence: SourceEvidence
    ) -> None:
        body = body_of("big", self.SIZE)
        ref = put(on_minio.client, on_minio.source_bucket, "big", body, ChecksumAlgorithm="CRC32C")
        record, _ = ferry.copy_by_parts(on_minio.context(ferry, digests=frozenset(names)), ref)
        assert (record.status, record.source_evidence) == (Status.VERIFIED, evidence)

    def test_parts_that_do_not_have_the_stored_crc32c_of_the_source_replace_nothing(
        self, ferry: Ferry, on_minio: Pair
    ) -> None:
        old = put(on_minio.client, on_minio.destination_bucket, PREFIX + "big", b"old")
        body = body_of("big", self.SIZE)
        ref = put(on_minio.client, on_minio.source_bucket, "big", body, ChecksumAlgorithm="CRC32C")
        context = on_minio.context(ferry, digests=frozenset({CRC32C}))
        upload = ferry.open_upload(context, ref)
        first, *others = done(ferry.send_parts(context, upload))
        wrong = first._replace(crc32c=digest_of(CRC32C, b"wrong"))
        record, _ = ferry.complete(context, upload, [wrong, *others])
        assert (record.status, "CRC32C" in (record.error or "")) == (Status.MISMATCH, True)
        there = on_minio.client.head_object(Bucket=on_minio.destination_bucket, Key=PREFIX + "big")
        assert there["ETag"].strip('"') == old.etag


class TestTheLoop:
    """Nothing that is hashed or put together in one go on the loop is larger than a whole body or a window."""

    LIMITS = TransferLimits(whole_body_bytes=64 * 1024, window_bytes=16 * 1024)

    @pytest.fixture
    def hashed(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """The size of every piece handed to a digest."""
        sizes: list[int] = []
        update = Digests.update

        def spy(digests: Digests, data: Buffer) -> None:
            sizes.append(len(data))
            update(digests, data)

        monkeypatch.setattr(Digests, "update", spy)
        return sizes

    def context(self, ferry: Ferry, pair: Pair, **options: Any) -> CopyContext:
        return pair.context(ferry, limits=self.LIMITS, digests=frozenset(NAMES), **options)

    @pytest.mark.parametrize(("size", "most"), [(64 * 1024, 64 * 1024), (64 * 1024 + 1, 16 * 1024), (STREAMED, 16384)])
    def test_a_body_is_hashed_whole_up_to_the_limit_and_by_the_window_above(
        self, ferry: Ferry, pair: Pair, hashed: list[int], size: int, most: int
    ) -> None:
        ref = put(pair.client, pair.source_bucket, "k", body_of("k", size))
        context = self.context(ferry, pair)
        hashed.clear()
        (record,) = ferry.copy(context, ref)
        assert record.status is Status.VERIFIED
        assert (sum(hashed), max(hashed)) == (size, most)

    @pytest.mark.parametrize("size", [64 * 1024, STREAMED])
    def test_an_object_is_read_back_by_the_window(self, ferry: Ferry, pair: Pair, hashed: list[int], size: int) -> None:
        ref = put(pair.client, pair.source_bucket, "k", body_of("k", size))
        context = self.context(ferry, pair, evidence=Grade.READBACK)
        hashed.clear()
        (record,) = ferry.copy(context, ref)
        assert record.destination_evidence is DestinationEvidence.READBACK
        assert sum(hashed) == 2 * size
        assert max(hashed) <= self.LIMITS.whole_body_bytes
        assert hashed[-1] <= self.LIMITS.window_bytes

    def test_a_part_is_hashed_and_read_back_by_the_window(self, ferry: Ferry, pair: Pair, hashed: list[int]) -> None:
        size = PART + 1
        ref = put(pair.client, pair.source_bucket, "big", body_of("big", size))
        context = self.context(ferry, pair, evidence=Grade.READBACK)
        hashed.clear()
        record, _ = ferry.copy_by_parts(context, ref)
        assert record.destination_evidence is DestinationEvidence.READBACK
        assert (sum(hashed), max(hashed)) == (2 * size, self.LIMITS.window_bytes)

    @pytest.mark.parametrize("copy", ["in one piece", "streamed", "by parts"])
    def test_what_is_hashed_of_bodies_is_hashed_at_the_loops_pace(
        self, ferry: Ferry, pair: Pair, monkeypatch: pytest.MonkeyPatch, hashed: list[int], copy: str
    ) -> None:
        size = {"in one piece": 64 * 1024, "streamed": STREAMED, "by parts": PART + 1}[copy]
        paced: list[int] = []
        update = Pace.update

        async def spy(pace: Pace, digests: Digests, data: Buffer) -> None:
            paced.append(len(data))
            await update(pace, digests, data)

        monkeypatch.setattr(Pace, "update", spy)
        ref = put(pair.client, pair.source_bucket, "k", body_of("k", size))
        context = self.context(ferry, pair, evidence=Grade.READBACK)
        hashed.clear()
        copied = ferry.copy_by_parts(context, ref)[0] if copy == "by parts" else ferry.copy(context, ref)[0]
        assert copied.destination_evidence is DestinationEvidence.READBACK
        assert (sum(paced), paced) == (2 * size, hashed)

    def test_the_pieces_sent_are_those_hashed_and_their_frame(
        self, ferry: Ferry, pair: Pair, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        context = pair.context(ferry, limits=self.LIMITS, digests=frozenset({CRC64NVME}))
        sent: list[int] = []
        send = context.destination.put

        async def spy(bucket: str, key: str, body: Any, **more: Any) -> Any:
            async def pieces() -> Any:
                async for piece in body:
                    sent.append(len(piece))
                    yield piece

            if isinstance(body, bytes):
                sent.append(len(body))
                return await send(bucket, key, body, **more)
            return await send(bucket, key, pieces(), **more)

        monkeypatch.setattr(context.destination, "put", spy)
        for size, most in ((64 * 1024, self.LIMITS.whole_body_bytes), (STREAMED, self.LIMITS.window_bytes)):
            sent.clear()
            (record,) = ferry.copy(context, put(pair.client, pair.source_bucket, "k", body_of("k", size)))
            assert record.status is Status.VERIFIED
            assert max(sent) <= most + 64
