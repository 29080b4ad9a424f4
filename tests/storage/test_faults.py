"""Copies of whole objects past a proxy that does one thing wrong, with real servers behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from model.objects import ObjectRef
from model.status import DestinationEvidence, Grade, Status
from storage.config import Capabilities, TransferLimits
from storage.copier import CopyContext
from tests.fixtures.compare import keys_of
from tests.fixtures.s3 import S3Server
from tests.storage.fault_proxy import (
    FaultProxy,
    Passing,
    cut_body_after,
    drop_before,
    fault_proxy,
    flip_read_byte,
    flip_sent_byte,
    internal_error,
    lose_answer,
    slow_down,
)
from tests.storage.ferry import PREFIX, Ferry, body_of, put
from tests.storage.pairs import MakeBucket, Pair, make_pair

SIZES = (20_000, 3_000_000)
"""One body that is sent whole, one that streams."""

ETAG_ONLY = Capabilities(etag_is_md5=True)
OLD = b"what was there before"


@pytest.fixture
def pair(ferry: Ferry, minio: S3Server, bucket: MakeBucket) -> Pair:
    return make_pair(ferry, minio, bucket)


@pytest.fixture
def source_proxy(minio: S3Server) -> Iterator[FaultProxy]:
    with fault_proxy(minio.endpoint_url) as proxy:
        yield proxy


@pytest.fixture
def destination_proxy(minio: S3Server) -> Iterator[FaultProxy]:
    with fault_proxy(minio.endpoint_url) as proxy:
        yield proxy


@pytest.fixture
def context(ferry: Ferry, pair: Pair, source_proxy: FaultProxy, destination_proxy: FaultProxy) -> CopyContext:
    """Copies that read past one proxy and write past the other."""
    context = ferry.context(
        ferry.endpoint(pair.server, "source", url=source_proxy.url),
        pair.source_bucket,
        ferry.endpoint(pair.server, "destination", url=destination_proxy.url),
        pair.destination_bucket,
    )
    source_proxy.seen.clear()
    destination_proxy.seen.clear()
    return context


@pytest.fixture(params=SIZES)
def ref(request: pytest.FixtureRequest, pair: Pair) -> ObjectRef:
    """An object, whole and streamed in turn, with an older one at its destination."""
    put(pair.client, pair.destination_bucket, PREFIX + "k", OLD)
    return put(pair.client, pair.source_bucket, "k", body_of("k", request.param), ContentType="text/x")


def at_destination(pair: Pair) -> bytes:
    found: bytes = pair.client.get_object(Bucket=pair.destination_bucket, Key=PREFIX + "k")["Body"].read()
    return found


class TestReading:
    def test_a_throttled_read_is_repeated_and_slows_its_endpoint(
        self, ferry: Ferry, pair: Pair, context: CopyContext, source_proxy: FaultProxy, ref: ObjectRef
    ) -> None:
        source_proxy.fail("GET", "/k", slow_down, times=2)
        limit = ferry.endpoint(pair.server, "source", url=source_proxy.url).limit
        (record,) = ferry.copy(context, ref)
        assert (record.status, record.attempts, source_proxy.count("GET")) == (Status.VERIFIED, 3, 3)
        assert limit.limit < 64
        assert pair.differences() == []

    def test_no_more_than_the_attempts_allowed_are_made(
        self, ferry: Ferry, pair: Pair, context: CopyContext, source_proxy: FaultProxy, ref: ObjectRef
    ) -> None:
        source_proxy.fail("GET", "/k", internal_error, times=99)
        (record,) = ferry.copy(replace(context, limits=TransferLimits(attempts=3)), ref)
        assert (record.status, record.attempts, source_proxy.count("GET")) == (Status.FAILED, 3, 3)
        assert "500" in (record.error or "")
        assert at_destination(pair) == OLD

    @pytest.mark.parametrize("after", [0, 10_000, 19_999])
    def test_a_read_that_breaks_off_is_repeated(
        self, ferry: Ferry, pair: Pair, context: CopyContext, source_proxy: FaultProxy, ref: ObjectRef, after: int
    ) -> None:
        source_proxy.fail("GET", "/k", cut_body_after(after))
        (record,) = ferry.copy(context, ref)
        assert (record.status, record.attempts) == (Status.VERIFIED, 2)
        assert pair.differences() == []

    def test_a_read_that_breaks_off_in_its_last_window_replaces_nothing(
        self, ferry: Ferry, pair: Pair, context: CopyContext, source_proxy: FaultProxy, ref: ObjectRef
    ) -> None:
        source_proxy.fail("GET", "/k", cut_body_after(ref.size - 1), times=99)
        (record,) = ferry.copy(replace(context, limits=TransferLimits(attempts=2)), ref)
        assert record.status is Status.FAILED
        assert (record.error or "").startswith("source: ")
        assert at_destination(pair) == OLD

    def test_a_read_that_breaks_off_costs_no_look_at_the_destination(
        self,
        ferry: Ferry,
        context: CopyContext,
        source_proxy: FaultProxy,
        destination_proxy: FaultProxy,
        ref: ObjectRef,
    ) -> None:
        source_proxy.fail("GET", "/k", cut_body_after(ref.size - 1))
        ferry.copy(context, ref)
        assert destination_proxy.count("HEAD") == 0

    @pytest.mark.parametrize("at", [0, 10_000, -1])
    def test_one_corrupt_read_is_read_again(
        self, ferry: Ferry, pair: Pair, context: CopyContext, source_proxy: FaultProxy, ref: ObjectRef, at: int
    ) -> None:
        source_proxy.fail("GET", "/k", flip_read_byte(at))
        (record,) = ferry.copy(context, ref)
        assert (record.status, record.attempts) == (Status.VERIFIED, 2)
        assert pair.differences() == []

    @pytest.mark.parametrize("at", [0, -1])
    def test_two_corrupt_reads_are_a_mismatch_and_replace_nothing(
        self,
        ferry: Ferry,
        pair: Pair,
        context: CopyContext,
        source_proxy: FaultProxy,
        ref: ObjectRef,
        at: int,
    ) -> None:
        source_proxy.fail("GET", "/k", flip_read_byte(at), times=99)
        (record,) = ferry.copy(context, ref)
        assert (record.status, record.attempts) == (Status.MISMATCH, 2)
        assert "nothing was written" in (record.error or "")
        assert (record.md5, record.sha256, record.crc64nvme) == (None, None, None)
        assert at_destination(pair) == OLD


class TestWriting:
    @pytest.mark.parametrize("fault", [slow_down, internal_error])
    def test_a_refused_write_is_repeated(
        self,
        ferry: Ferry,
        pair: Pair,
        context: CopyContext,
        destination_proxy: FaultProxy,
        ref: ObjectRef,
        fault: object,
    ) -> None:
        destination_proxy.fail("PUT", "/k", fault, times=2)  # type: ignore[arg-type]
        (record,) = ferry.copy(context, ref)
        assert (record.status, destination_proxy.count("PUT")) == (Status.VERIFIED, 3)
        assert pair.differences() == []

    def test_a_throttled_write_slows_its_endpoint(
        self, ferry: Ferry, pair: Pair, context: CopyContext, destination_proxy: FaultProxy, ref: ObjectRef
    ) -> None:
        destination_proxy.fail("PUT", "/k", slow_down)
        limit = ferry.endpoint(pair.server, "destination", url=destination_proxy.url).limit
        ferry.copy(context, ref)
        assert limit.limit < 64

    def test_a_write_that_landed_is_not_sent_twice(
        self, ferry: Ferry, pair: Pair, context: CopyContext, destination_proxy: FaultProxy, ref: ObjectRef
    ) -> None:
        destination_proxy.fail("PUT", "/k", lose_answer)
        (record,) = ferry.copy(context, ref)
        assert (destination_proxy.count("PUT"), destination_proxy.count("HEAD")) == (1, 1)
        assert (record.status, record.attempts) == (Status.VERIFIED, 1)
        assert record.destination_evidence is DestinationEvidence.TRAILING_CRC64NVME
        assert pair.differences() == []

    def test_a_write_that_did_not_land_is_looked_for_and_sent_again(
        self, ferry: Ferry, pair: Pair, context: CopyContext, destination_proxy: FaultProxy, ref: ObjectRef
    ) -> None:
        destination_proxy.fail("PUT", "/k", drop_before)
        (record,) = ferry.copy(context, ref)
        assert (destination_proxy.count("PUT"), destination_proxy.count("HEAD")) == (2, 1)
        assert record.status is Status.VERIFIED
        assert pair.differences() == []

    def test_the_same_bytes_under_other_metadata_are_not_the_write_that_was_lost(
        self, ferry: Ferry, pair: Pair, context: CopyContext, destination_proxy: FaultProxy, ref: ObjectRef
    ) -> None:
        body = body_of("k", ref.size)
        put(
            pair.client,
            pair.destination_bucket,
            PREFIX + "k",
            body,
            ContentType="text/old",
            ChecksumAlgorithm="CRC64NVME",
        )
        destination_proxy.fail("PUT", "/k", drop_before)
        (record,) = ferry.copy(context, ref)
        assert (record.status, destination_proxy.count("PUT")) == (Status.VERIFIED, 2)
        assert pair.differences() == []

    def test_an_etag_alone_tells_whether_a_write_landed(
        self, ferry: Ferry, pair: Pair, context: CopyContext, destination_proxy: FaultProxy, ref: ObjectRef
    ) -> None:
        destination_proxy.fail("PUT", "/k", lose_answer)
        (record,) = ferry.copy(replace(context, destination_can=ETAG_ONLY), ref)
        assert (record.status, destination_proxy.count("PUT")) == (Status.VERIFIED, 1)
        assert record.destination_evidence is DestinationEvidence.ETAG_MD5
        assert pair.differences() == []

    @pytest.mark.parametrize("at", [100, -60])
    def test_a_body_corrupted_on_its_way_is_refused_by_the_server_and_sent_again(
        self, ferry: Ferry, pair: Pair, context: CopyContext, destination_proxy: FaultProxy, ref: ObjectRef, at: int
    ) -> None:
        destination_proxy.fail("PUT", "/k", flip_sent_byte(at))
        (record,) = ferry.copy(context, ref)
        assert (record.status, record.attempts, destination_proxy.count("PUT")) == (Status.VERIFIED, 2, 2)
        assert pair.differences() == []

    def test_a_body_corrupted_each_time_is_a_mismatch_and_replaces_nothing(
        self, ferry: Ferry, pair: Pair, context: CopyContext, destination_proxy: FaultProxy, ref: ObjectRef
    ) -> None:
        destination_proxy.fail("PUT", "/k", flip_sent_byte(100), times=99)
        (record,) = ferry.copy(context, ref)
        assert (record.status, record.attempts, destination_proxy.count("PUT")) == (Status.MISMATCH, 2, 2)
        assert at_destination(pair) == OLD

    def test_a_read_back_that_breaks_off_is_repeated(
        self, ferry: Ferry, pair: Pair, context: CopyContext, destination_proxy: FaultProxy, ref: ObjectRef
    ) -> None:
        destination_proxy.fail("GET", "/k", cut_body_after(10_000))
        rules = replace(context.rules, evidence=Grade.READBACK)
        (record,) = ferry.copy(replace(context, rules=rules), ref)
        assert (record.status, record.attempts, destination_proxy.count("GET")) == (Status.VERIFIED, 1, 2)

    def test_an_object_that_went_before_it_was_read_back_is_a_failure_and_not_a_missing_source(
        self, ferry: Ferry, pair: Pair, context: CopyContext, destination_proxy: FaultProxy, ref: ObjectRef
    ) -> None:
        def remove_first(passing: Passing, forward: Callable[[], None]) -> None:
            pair.client.delete_object(Bucket=pair.destination_bucket, Key=PREFIX + "k")
            forward()

        destination_proxy.fail("GET", "/k", remove_first)
        rules = replace(context.rules, evidence=Grade.READBACK)
        (record,) = ferry.copy(replace(context, rules=rules), ref)
        assert record.status is Status.FAILED


def unavailable(passing: Passing, forward: Callable[[], None]) -> None:
    """503 without a word of why: who stands between may have passed the request on."""
    passing.answer = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


class TestWhatIsKnownOfTheDestination:
    """A record says whether the destination is as it was; what may have arrived counts as arrived."""

    @pytest.fixture
    def once(self, context: CopyContext) -> CopyContext:
        return replace(context, limits=TransferLimits(attempts=1))

    @pytest.mark.parametrize("fault", [slow_down, internal_error, cut_body_after(10_000), flip_read_byte(0)])
    def test_a_read_that_fails_leaves_it_as_it_was(
        self, ferry: Ferry, pair: Pair, once: CopyContext, source_proxy: FaultProxy, ref: ObjectRef, fault: object
    ) -> None:
        source_proxy.fail("GET", "/k", fault, times=99)  # type: ignore[arg-type]
        (record,) = ferry.copy(once, ref)
        assert (record.untouched, at_destination(pair)) == (True, OLD)

    def test_a_source_that_changed_leaves_it_as_it_was(
        self, ferry: Ferry, pair: Pair, once: CopyContext, ref: ObjectRef
    ) -> None:
        put(pair.client, pair.source_bucket, "k", b"another")
        (record,) = ferry.copy(once, ref)
        assert (record.status, record.untouched) == (Status.SOURCE_CHANGED, True)

    @pytest.mark.parametrize("fault", [slow_down, flip_sent_byte(100)])
    def test_a_write_the_server_refused_leaves_it_as_it_was(
        self, ferry: Ferry, pair: Pair, once: CopyContext, destination_proxy: FaultProxy, ref: ObjectRef, fault: object
    ) -> None:
        destination_proxy.fail("PUT", "/k", fault, times=99)  # type: ignore[arg-type]
        (record,) = ferry.copy(once, ref)
        assert (record.untouched, at_destination(pair)) == (True, OLD)

    @pytest.mark.parametrize("fault", [internal_error, unavailable, drop_before])
    def test_a_write_that_may_have_arrived_does_not(
        self, ferry: Ferry, once: CopyContext, destination_proxy: FaultProxy, ref: ObjectRef, fault: object
    ) -> None:
        destination_proxy.fail("PUT", "/k", fault, times=99)  # type: ignore[arg-type]
        (record,) = ferry.copy(once, ref)
        assert (record.status, record.untouched) == (Status.FAILED, False)

    def test_a_refusal_does_not_take_back_a_write_before_it_that_may_have_arrived(
        self, ferry: Ferry, context: CopyContext, destination_proxy: FaultProxy, ref: ObjectRef
    ) -> None:
        destination_proxy.fail("PUT", "/k", internal_error)
        destination_proxy.fail("PUT", "/k", slow_down, times=99)
        (record,) = ferry.copy(replace(context, limits=TransferLimits(attempts=2)), ref)
        assert (record.status, record.untouched) == (Status.FAILED, False)

    def test_a_copy_does_not(self, ferry: Ferry, context: CopyContext, ref: ObjectRef) -> None:
        (record,) = ferry.copy(context, ref)
        assert (record.status, record.untouched) == (Status.VERIFIED, False)

    def test_an_object_that_was_written_wrong_and_removed_does_not(
        self, ferry: Ferry, context: CopyContext, destination_proxy: FaultProxy, ref: ObjectRef
    ) -> None:
        destination_proxy.fail("GET", "/k", flip_read_byte(7), times=99)
        readback = replace(context, rules=replace(context.rules, evidence=Grade.READBACK))
        (record,) = ferry.copy(readback, ref)
        assert (record.status, record.untouched) == (Status.MISMATCH, False)


class TestWhereTheServerChecksNothing:
    """A destination that takes any body: only its ETag tells, and the wrong object has to be removed."""

    @pytest.fixture(params=[False, True], ids=["plain", "versioned"])
    def pair(self, request: pytest.FixtureRequest, ferry: Ferry, minio: S3Server, bucket: MakeBucket) -> Pair:
        return make_pair(ferry, minio, bucket, versioned=request.param)

    @pytest.fixture
    def ref(self, pair: Pair) -> ObjectRef:
        """A streamed body: a whole one is signed, and MinIO refuses a wrong one whatever is asked."""
        put(pair.client, pair.destination_bucket, PREFIX + "k", OLD)
        return put(pair.client, pair.source_bucket, "k", body_of("k", 3_000_000))

    @pytest.fixture
    def unchecked(self, context: CopyContext) -> CopyContext:
        return replace(context, destination_can=ETAG_ONLY)

    def test_a_wrong_object_is_replaced_by_a_second_try(
        self, ferry: Ferry, pair: Pair, unchecked: CopyContext, destination_proxy: FaultProxy, ref: ObjectRef
    ) -> None:
        destination_proxy.fail("PUT", "/k", flip_sent_byte(100))
        (record,) = ferry.copy(unchecked, ref)
        assert (record.status, record.attempts) == (Status.VERIFIED, 2)
        assert pair.differences() == []

    def test_an_object_wrong_twice_is_removed(
        self, ferry: Ferry, pair: Pair, unchecked: CopyContext, destination_proxy: FaultProxy, ref: ObjectRef
    ) -> None:
        destination_proxy.fail("PUT", "/k", flip_sent_byte(100), times=99)
        (record,) = ferry.copy(unchecked, ref)
        assert (record.status, record.attempts) == (Status.MISMATCH, 2)
        versions = pair.client.list_object_versions(Bucket=pair.destination_bucket).get("Versions", [])
        if ref.version_id:
            assert "was removed (VersionId)" in (record.error or "")
            assert at_destination(pair) == OLD
            assert len(versions) == 1
        else:
            assert "was removed (IfMatch)" in (record.error or "")
            assert keys_of(pair.client, pair.destination_bucket) == []

    def test_an_object_wrong_twice_is_kept_where_that_is_asked(
        self, ferry: Ferry, pair: Pair, unchecked: CopyContext, destination_proxy: FaultProxy, ref: ObjectRef
    ) -> None:
        destination_proxy.fail("PUT", "/k", flip_sent_byte(100), times=99)
        kept = replace(unchecked, rules=replace(unchecked.rules, remove_mismatch=False))
        (record,) = ferry.copy(kept, ref)
        assert (record.status, "is kept" in (record.error or "")) == (Status.MISMATCH, True)
        assert keys_of(pair.client, pair.destination_bucket) == [PREFIX + "k"]
