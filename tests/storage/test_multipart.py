"""Large objects by parts between real servers: open, parts, complete, and what can happen in between."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from model.errors import RunBroken, SourceChanged, SourceGone, Throttled, UploadGone
from model.objects import ObjectRef
from model.records import IntegrityRecord, Layout, PartOutcome
from model.status import DestinationEvidence, Grade, SourceEvidence, Status
from storage.checksums import CRC64NVME, Digests, multipart_etag
from storage.completion import etag_apart, fail
from storage.config import Capabilities, TransferLimits
from storage.copier import CopyContext
from storage.multipart import UploadEnd
from tests.fixtures.compare import keys_of, stored_object
from tests.fixtures.s3 import S3Server
from tests.storage.fault_proxy import (
    Fault,
    FaultProxy,
    access_denied,
    cut_body_after,
    drop_before,
    fault_proxy,
    flip_read_byte,
    flip_sent_byte,
    internal_error,
    lose_answer,
    no_content,
    pass_on,
    slow_down,
)
from tests.storage.ferry import PART, PREFIX, Ferry, body_of, done, put
from tests.storage.pairs import MakeBucket, Pair, make_pair

SIZE = 4 * PART + 12_345
CUT = PART + 1024 * 1024
OLD = b"what was there before"
METADATA: dict[str, Any] = {
    "ContentType": "video/x-test",
    "CacheControl": "no-store",
    "ContentDisposition": 'inline; filename="b.mp4"',
    "ContentEncoding": "br",
    "ContentLanguage": "fr",
    "Expires": "Wed, 21 Oct 2026 07:28:00 GMT",
    "Metadata": {"a": "b c"},
}

ETAG_ONLY = Capabilities(etag_is_md5=True)


def crc_of(body: bytes) -> str:
    digests = Digests(frozenset({CRC64NVME}))
    digests.update(body)
    return digests.base64(CRC64NVME) or ""


def old_object(pair: Pair) -> None:
    put(pair.client, pair.destination_bucket, PREFIX + "big/ä+b", OLD)


def at_destination(pair: Pair) -> bytes:
    found: bytes = pair.client.get_object(Bucket=pair.destination_bucket, Key=PREFIX + "big/ä+b")["Body"].read()
    return found


def open_uploads(pair: Pair) -> list[str]:
    listed = pair.client.list_multipart_uploads(Bucket=pair.destination_bucket, Prefix=PREFIX + "big/ä+b")
    return [upload["UploadId"] for upload in listed.get("Uploads", [])]


def begun(pair: Pair) -> str:
    """An upload of another tool under the same key, with a part."""
    place = {"Bucket": pair.destination_bucket, "Key": PREFIX + "big/ä+b"}
    upload: str = pair.client.create_multipart_upload(**place)["UploadId"]
    pair.client.upload_part(**place, UploadId=upload, PartNumber=1, Body=b"theirs")
    return upload


class Large:
    """Fixtures of a large object on each server in turn."""

    @pytest.fixture
    def pair(self, ferry: Ferry, s3_server: S3Server, bucket: MakeBucket) -> Pair:
        return make_pair(ferry, s3_server, bucket)

    @pytest.fixture
    def ref(self, pair: Pair) -> ObjectRef:
        return put(pair.client, pair.source_bucket, "big/ä+b", body_of("big", SIZE), **METADATA)

    @pytest.fixture
    def context(self, ferry: Ferry, pair: Pair) -> CopyContext:
        return pair.context(ferry)


class TestWholeUploads(Large):
    def test_a_large_object_arrives_with_its_metadata_under_a_full_object_crc(
        self, ferry: Ferry, pair: Pair, context: CopyContext, ref: ObjectRef
    ) -> None:
        record, end = ferry.copy_by_parts(context, ref)
        assert (record.status, end, record.error) == (Status.VERIFIED, UploadEnd.COMPLETED, None)
        assert record.destination_evidence is DestinationEvidence.FULL_OBJECT_CRC64NVME
        assert record.crc64nvme == crc_of(body_of("big", SIZE))
        assert pair.differences() == []
        assert open_uploads(pair) == []

    @pytest.mark.parametrize("size", [PART, PART + 1, 2 * PART, 60 * 1024 * 1024 + 1])
    def test_sizes_around_the_part_size(self, ferry: Ferry, pair: Pair, context: CopyContext, size: int) -> None:
        ref = put(pair.client, pair.source_bucket, "k", body_of("k", size))
        record, _ = ferry.copy_by_parts(context, ref)
        assert (record.status, record.size) == (Status.VERIFIED, size)
        assert pair.differences() == []

    @pytest.mark.parametrize("s3_server", ["minio", "moto"], indirect=True)
    def test_without_a_full_object_crc_the_composed_etag_is_evidence(
        self, ferry: Ferry, pair: Pair, context: CopyContext, ref: ObjectRef
    ) -> None:
        """versitygw stores a CRC64NVME for every object."""
        record, _ = ferry.copy_by_parts(replace(context, destination_can=ETAG_ONLY), ref)
        assert (record.status, record.destination_evidence) == (Status.VERIFIED, DestinationEvidence.MULTIPART_ETAG)
        body = body_of("big", SIZE)
        etags = [hashlib.md5(body[at : at + PART], usedforsecurity=False).hexdigest() for at in range(0, SIZE, PART)]
        assert record.destination_etag == multipart_etag(etags)
        assert pair.differences() == []

    def test_an_endpoint_without_evidence_is_read_back(
        self, ferry: Ferry, pair: Pair, context: CopyContext, ref: ObjectRef
    ) -> None:
        rules = replace(context.rules, evidence=Grade.READBACK)
        record, _ = ferry.copy_by_parts(replace(context, rules=rules), ref)
        assert (record.status, record.destination_evidence) == (Status.VERIFIED, DestinationEvidence.READBACK)

    def test_a_grade_below_what_was_asked_is_copied_and_not_verified(
        self, ferry: Ferry, pair: Pair, context: CopyContext, ref: ObjectRef
    ) -> None:
        rules = replace(context.rules, evidence=Grade.SERVER)
        record, _ = ferry.copy_by_parts(replace(context, rules=rules, destination_can=ETAG_ONLY), ref)
        assert record.status is Status.COPIED

    def test_the_stored_crc_of_the_source_is_compared(self, ferry: Ferry, pair: Pair, context: CopyContext) -> None:
        body = body_of("big", 2 * PART)
        ref = put(pair.client, pair.source_bucket, "k", body, ChecksumAlgorithm="CRC64NVME")
        record, _ = ferry.copy_by_parts(context, ref)
        assert (record.status, record.source_evidence) == (Status.VERIFIED, SourceEvidence.STORED_CHECKSUM)

    def test_an_existing_object_is_replaced_only_by_complete(
        self, ferry: Ferry, pair: Pair, context: CopyContext, ref: ObjectRef
    ) -> None:
        old_object(pair)
        upload = ferry.open_upload(context, ref)
        parts = done(ferry.send_parts(context, upload))
        assert at_destination(pair) == OLD
        assert ferry.complete(context, upload, parts)[0].status is Status.VERIFIED
        assert pair.differences() == []

    def test_parts_are_recorded_with_their_digests(
        self, ferry: Ferry, pair: Pair, context: CopyContext, ref: ObjectRef
    ) -> None:
        (result,) = ferry.send_parts(context, ferry.open_upload(context, ref), [2])
        body = body_of("big", SIZE)[PART : 2 * PART]
        assert result.part is not None
        assert (result.part.number, result.part.size) == (2, PART)
        assert (result.part.sha256, result.part.crc64nvme) == (hashlib.sha256(body).hexdigest(), crc_of(body))


class TestResuming(Large):
    def test_parts_stored_earlier_are_used(
        self, ferry: Ferry, pair: Pair, context: CopyContext, ref: ObjectRef
    ) -> None:
        upload = ferry.open_upload(context, ref)
        earlier = done(ferry.send_parts(context, upload, [1, 3]))
        held = ferry.engine.run(ferry.steps(context).stored_parts(ref.destination_key, upload.upload_id))
        assert held == {part.number: (part.etag, part.size) for part in earlier}
        later = done(ferry.send_parts(context, upload, [2, 4, 5]))
        record, _ = ferry.complete(context, upload, [*later, *earlier])
        assert record.status is Status.VERIFIED
        assert pair.differences() == []

    def test_a_part_sent_twice_counts_once(
        self, ferry: Ferry, pair: Pair, context: CopyContext, ref: ObjectRef
    ) -> None:
        upload = ferry.open_upload(context, ref)
        first = done(ferry.send_parts(context, upload))
        ferry.send_parts(context, upload, [2])
        assert ferry.complete(context, upload, first)[0].status is Status.VERIFIED
        assert pair.differences() == []

    def test_complete_may_be_repeated(self, ferry: Ferry, pair: Pair, context: CopyContext, ref: ObjectRef) -> None:
        upload = ferry.open_upload(context, ref)
        parts = done(ferry.send_parts(context, upload))
        first, _ = ferry.complete(context, upload, parts)
        again, end = ferry.complete(context, upload, parts)
        assert (again.status, again.destination_evidence, end) == (
            first.status,
            first.destination_evidence,
            UploadEnd.COMPLETED,
        )
        assert again.destination_etag == first.destination_etag

    def test_what_an_earlier_complete_made_is_not_what_it_replaced(
        self, ferry: Ferry, pair: Pair, context: CopyContext, ref: ObjectRef
    ) -> None:
        old_object(pair)
        old = pair.client.head_object(Bucket=pair.destination_bucket, Key=PREFIX + ref.key)["ETag"].strip('"')
        looking = replace(context, rules=replace(context.rules, record_replaced=True))
        upload = ferry.open_upload(looking, ref)
        parts = done(ferry.send_parts(looking, upload))
        first, _ = ferry.complete(looking, upload, parts)
        again, _ = ferry.complete(looking, upload, parts)
        assert (first.replaced_etag, first.status) == (old, Status.VERIFIED)
        assert (again.replaced_etag, again.status) == (None, Status.VERIFIED)

    def test_complete_without_all_parts_is_refused_and_the_upload_kept(
        self, ferry: Ferry, pair: Pair, context: CopyContext, ref: ObjectRef
    ) -> None:
        upload = ferry.open_upload(context, ref)
        parts = done(ferry.send_parts(context, upload, [1, 2, 3, 5]))
        record, end = ferry.complete(context, upload, parts)
        assert (record.status, end) == (Status.FAILED, UploadEnd.OPEN)
        assert open_uploads(pair) == [upload.upload_id]

    def test_a_part_the_ledger_holds_and_the_destination_does_not_is_named(
        self, ferry: Ferry, pair: Pair, context: CopyContext, ref: ObjectRef
    ) -> None:
        upload = ferry.open_upload(context, ref)
        parts = done(ferry.send_parts(context, upload, [1, 2, 3, 5]))
        record, end = ferry.complete(context, upload, [*parts, parts[0]._replace(number=4)])
        assert (record.status, end) == (Status.FAILED, UploadEnd.OPEN)
        assert "part 4" in (record.error or "")

    def test_an_upload_aborted_meanwhile_fails_its_parts_and_its_object(
        self, ferry: Ferry, pair: Pair, context: CopyContext, ref: ObjectRef
    ) -> None:
        old_object(pair)
        upload = ferry.open_upload(context, ref)
        parts = done(ferry.send_parts(context, upload))
        ferry.engine.run(ferry.steps(context).abort(ref.destination_key, upload.upload_id))
        (result,) = ferry.send_parts(context, upload, [5])
        assert (result.outcome, result.failure) == (PartOutcome.FAILED, Status.FAILED)
        record, end = ferry.complete(context, upload, parts)
        assert (record.status, end) == (Status.FAILED, UploadEnd.ABORTED)
        assert at_destination(pair) == OLD
        with pytest.raises(UploadGone):
            ferry.engine.run(ferry.steps(context).stored_parts(ref.destination_key, upload.upload_id))

    def test_abort_may_be_repeated(self, ferry: Ferry, pair: Pair, context: CopyContext, ref: ObjectRef) -> None:
        upload = ferry.open_upload(context, ref)
        for _ in range(2):
            ferry.engine.run(ferry.steps(context).abort(ref.destination_key, upload.upload_id))
        assert open_uploads(pair) == []


class TestTheSource(Large):
    def test_a_source_that_changes_between_parts_is_source_changed(
        self, ferry: Ferry, pair: Pair, context: CopyContext, ref: ObjectRef
    ) -> None:
        upload = ferry.open_upload(context, ref)
        ferry.send_parts(context, upload, [1])
        put(pair.client, pair.source_bucket, ref.key, body_of("other", SIZE))
        (result,) = ferry.send_parts(context, upload, [2])
        assert (result.outcome, result.failure) == (PartOutcome.FAILED, Status.SOURCE_CHANGED)
        ended = ferry.engine.run(fail(ferry.steps(context), upload, Status.SOURCE_CHANGED, result.error, 1))
        assert (ended[0].status, ended[1]) == (Status.SOURCE_CHANGED, UploadEnd.ABORTED)
        assert open_uploads(pair) == []

    def test_a_source_that_changes_before_complete_replaces_nothing(
        self, ferry: Ferry, pair: Pair, context: CopyContext, ref: ObjectRef
    ) -> None:
        old_object(pair)
        upload = ferry.open_upload(context, ref)
        parts = done(ferry.send_parts(context, upload))
        put(pair.client, pair.source_bucket, ref.key, body_of("other", SIZE))
        record, end = ferry.complete(context, upload, parts)
        assert (record.status, record.untouched, end) == (Status.SOURCE_CHANGED, True, UploadEnd.ABORTED)
        assert at_destination(pair) == OLD

    def test_a_source_that_goes_is_source_gone(
        self, ferry: Ferry, pair: Pair, context: CopyContext, ref: ObjectRef
    ) -> None:
        upload = ferry.open_upload(context, ref)
        pair.client.delete_object(Bucket=pair.source_bucket, Key=ref.key)
        (result,) = ferry.send_parts(context, upload, [1])
        assert (result.outcome, result.failure) == (PartOutcome.FAILED, Status.SOURCE_GONE)

    def test_pinning_tells_what_is_wrong(self, ferry: Ferry, pair: Pair, context: CopyContext, ref: ObjectRef) -> None:
        steps = ferry.steps(context)
        with pytest.raises(SourceGone):
            ferry.engine.run(steps.pin(ref._replace(key="missing")))
        with pytest.raises(SourceChanged):
            ferry.engine.run(steps.pin(ref._replace(etag="0" * 32)))
        with pytest.raises(SourceChanged, match="bytes"):
            ferry.engine.run(steps.pin(ref._replace(size=SIZE + 1)))
        with pytest.raises(RunBroken):
            ferry.engine.run(steps.pin(ref._replace(bucket="no-such-bucket-here")))

    def test_a_failed_part_leaves_the_upload_for_the_next_run(
        self, ferry: Ferry, pair: Pair, context: CopyContext, ref: ObjectRef
    ) -> None:
        upload = ferry.open_upload(context, ref)
        record, end = ferry.engine.run(fail(ferry.steps(context), upload, Status.FAILED, "why", 3))
        assert (record.status, record.error, record.attempts, end) == (Status.FAILED, "why", 3, UploadEnd.OPEN)
        assert record.untouched
        assert open_uploads(pair) == [upload.upload_id]

    @pytest.mark.parametrize("status", [Status.FAILED, Status.SOURCE_CHANGED])
    def test_a_failed_part_of_an_upload_that_is_gone_may_mean_that_it_was_completed(
        self, ferry: Ferry, pair: Pair, context: CopyContext, ref: ObjectRef, status: Status
    ) -> None:
        upload = ferry.open_upload(context, ref)
        ferry.complete(context, upload, done(ferry.send_parts(context, upload)))
        record, _ = ferry.engine.run(fail(ferry.steps(context), upload, status, "why", 3))
        assert (record.status, record.untouched) == (status, False)


@pytest.mark.parametrize("s3_server", ["minio", "versitygw"], indirect=True)
class TestTheSourcesLayout(Large):
    """A source of two parts, of CUT bytes and the rest, with a stored CRC64NVME."""

    @pytest.fixture
    def ref(self, pair: Pair) -> ObjectRef:
        named = {"Bucket": pair.source_bucket, "Key": "k"}
        crc: dict[str, Any] = {"ChecksumAlgorithm": "CRC64NVME", "ChecksumType": "FULL_OBJECT"}
        named["UploadId"] = pair.client.create_multipart_upload(**named, **crc)["UploadId"]
        body, parts = body_of("k", 2 * PART + 2), []
        for number, piece in enumerate((body[:CUT], body[CUT:]), start=1):
            sent = pair.client.upload_part(
                **named, PartNumber=number, Body=piece, ChecksumAlgorithm="CRC64NVME", ChecksumCRC64NVME=crc_of(piece)
            )
            parts.append({"PartNumber": number, "ETag": sent["ETag"], "ChecksumCRC64NVME": crc_of(piece)})
        whole = {"ChecksumCRC64NVME": crc_of(body), "ChecksumType": "FULL_OBJECT"}
        pair.client.complete_multipart_upload(**named, MultipartUpload={"Parts": parts}, **whole)
        etag = pair.client.head_object(Bucket=pair.source_bucket, Key="k")["ETag"].strip('"')
        return ObjectRef(0, 0, pair.source_bucket, "k", None, len(body), etag, PREFIX + "k")

    def copied(self, ferry: Ferry, context: CopyContext, ref: ObjectRef, part_size: int) -> IntegrityRecord:
        upload = ferry.open_upload(context, ref, part_size)._replace(layout=Layout.GUESSED)
        record, _ = ferry.complete(context, upload, done(ferry.send_parts(context, upload)))
        return record

    def test_a_right_guess_keeps_the_etag_and_the_better_evidence(
        self, ferry: Ferry, context: CopyContext, ref: ObjectRef
    ) -> None:
        record = self.copied(ferry, context, ref, CUT)
        assert (record.status, record.error) == (Status.VERIFIED, None)
        assert record.source_evidence is SourceEvidence.STORED_CHECKSUM
        assert record.destination_etag == ref.etag

    def test_a_wrong_guess_is_said_though_the_bytes_are_proven(
        self, ferry: Ferry, context: CopyContext, ref: ObjectRef, caplog: pytest.LogCaptureFixture
    ) -> None:
        record = self.copied(ferry, context, ref, PART)
        assert (record.status, record.source_evidence) == (Status.VERIFIED, SourceEvidence.STORED_CHECKSUM)
        assert (record.error or "").startswith(f"the copy's ETag is {record.destination_etag}, the source's {ref.etag}")
        assert f"its parts make {record.destination_etag}, so the source was cut otherwise" in (record.error or "")
        assert record.error in caplog.text


def test_a_destination_that_makes_other_etags_is_told_from_a_wrong_guess() -> None:
    assert "the destination's ETags are not made of MD5s" in etag_apart("a-2", "b-2", "a-2")


class TestWrongRecords(Large):
    def test_a_wrong_part_crc_is_refused_and_replaces_nothing(
        self, ferry: Ferry, pair: Pair, context: CopyContext, ref: ObjectRef
    ) -> None:
        old_object(pair)
        upload = ferry.open_upload(context, ref)
        parts = done(ferry.send_parts(context, upload))
        wrong = base64.b64encode(b"\x01" * 8).decode()
        record, end = ferry.complete(context, upload, [parts[0]._replace(crc64nvme=wrong), *parts[1:]])
        assert record.status is Status.MISMATCH, record.error
        assert end is UploadEnd.ABORTED
        assert at_destination(pair) == OLD

    def test_a_wrong_etag_in_the_ledger_does_no_harm(
        self, ferry: Ferry, pair: Pair, context: CopyContext, ref: ObjectRef
    ) -> None:
        upload = ferry.open_upload(context, ref)
        parts = done(ferry.send_parts(context, upload))
        record, _ = ferry.complete(context, upload, [parts[0]._replace(etag="0" * 32), *parts[1:]])
        assert record.status is Status.VERIFIED
        assert pair.differences() == []


class TestFaults:
    """MinIO behind a proxy on each side."""

    @pytest.fixture
    def pair(self, ferry: Ferry, minio: S3Server, bucket: MakeBucket) -> Pair:
        return make_pair(ferry, minio, bucket)

    @pytest.fixture
    def ref(self, pair: Pair) -> ObjectRef:
        old_object(pair)
        return put(pair.client, pair.source_bucket, "big/ä+b", body_of("big", SIZE), ChecksumAlgorithm="CRC64NVME")

    @pytest.fixture
    def source_proxy(self, minio: S3Server) -> Iterator[FaultProxy]:
        with fault_proxy(minio.endpoint_url) as proxy:
            yield proxy

    @pytest.fixture
    def destination_proxy(self, minio: S3Server) -> Iterator[FaultProxy]:
        with fault_proxy(minio.endpoint_url) as proxy:
            yield proxy

    @pytest.fixture
    def context(self, ferry: Ferry, pair: Pair, source_proxy: FaultProxy, destination_proxy: FaultProxy) -> CopyContext:
        context = ferry.context(
            ferry.endpoint(pair.server, "source", url=source_proxy.url),
            pair.source_bucket,
            ferry.endpoint(pair.server, "destination", url=destination_proxy.url),
            pair.destination_bucket,
        )
        source_proxy.seen.clear()
        destination_proxy.seen.clear()
        return context

    def test_a_part_is_read_again_where_it_breaks_off(
        self, ferry: Ferry, pair: Pair, context: CopyContext, source_proxy: FaultProxy, ref: ObjectRef
    ) -> None:
        upload = ferry.open_upload(context, ref)
        source_proxy.fail("GET", "big", cut_body_after(PART - 1))
        (result,) = ferry.send_parts(context, upload, [1])
        assert (result.outcome, result.attempts, source_proxy.count("GET", "big")) == (PartOutcome.DONE, 2, 2)

    def test_a_part_is_sent_again_where_it_is_throttled_lost_or_corrupted(
        self, ferry: Ferry, pair: Pair, context: CopyContext, destination_proxy: FaultProxy, ref: ObjectRef
    ) -> None:
        upload = ferry.open_upload(context, ref)
        for fault in (slow_down, lose_answer, drop_before):
            destination_proxy.fail("PUT", "partNumber=1&", fault)
        parts = done(ferry.send_parts(context, upload))
        assert destination_proxy.count("PUT", "partNumber=1&") == 4
        record, _ = ferry.complete(context, upload, parts)
        assert record.status is Status.VERIFIED
        assert pair.differences() == []

    def test_a_part_corrupted_on_its_way_is_refused_and_sent_again(
        self, ferry: Ferry, pair: Pair, context: CopyContext, destination_proxy: FaultProxy, ref: ObjectRef
    ) -> None:
        upload = ferry.open_upload(context, ref)
        destination_proxy.fail("PUT", "partNumber=1&", flip_sent_byte(100))
        parts = done(ferry.send_parts(context, upload))
        assert destination_proxy.count("PUT", "partNumber=1&") == 2
        assert ferry.complete(context, upload, parts)[0].status is Status.VERIFIED

    def test_a_part_read_wrong_is_found_by_the_sources_crc_before_anything_is_replaced(
        self, ferry: Ferry, pair: Pair, context: CopyContext, source_proxy: FaultProxy, ref: ObjectRef
    ) -> None:
        upload = ferry.open_upload(context, ref)
        source_proxy.fail("GET", "big", flip_read_byte(1000))
        record, end = ferry.complete(context, upload, done(ferry.send_parts(context, upload)))
        assert (record.status, end) == (Status.MISMATCH, UploadEnd.ABORTED)
        assert at_destination(pair) == OLD

    def test_a_lost_answer_to_complete_is_looked_for_and_complete_is_not_sent_again(
        self, ferry: Ferry, pair: Pair, context: CopyContext, destination_proxy: FaultProxy, ref: ObjectRef
    ) -> None:
        upload = ferry.open_upload(context, ref)
        parts = done(ferry.send_parts(context, upload))
        named = f"uploadId={upload.upload_id}"
        destination_proxy.fail("POST", named, lose_answer, times=99)
        destination_proxy.seen.clear()
        record, end = ferry.complete(context, upload, parts)
        assert (record.status, end) == (Status.VERIFIED, UploadEnd.COMPLETED)
        assert record.destination_evidence is DestinationEvidence.FULL_OBJECT_CRC64NVME
        methods = [method for method, _ in destination_proxy.seen]
        assert (destination_proxy.count("POST", named), destination_proxy.count("PUT")) == (1, 0)
        # the look, and the one that verifies every object
        assert methods[methods.index("POST") :].count("HEAD") >= 2
        assert pair.differences() == []

    @pytest.mark.parametrize("fault", [slow_down, internal_error, drop_before])
    def test_a_refused_complete_is_repeated_though_the_same_bytes_are_there_already(
        self,
        ferry: Ferry,
        pair: Pair,
        context: CopyContext,
        destination_proxy: FaultProxy,
        ref: ObjectRef,
        fault: Fault,
    ) -> None:
        assert ferry.copy_by_parts(context, ref)[0].status is Status.VERIFIED
        upload = ferry.open_upload(context, ref)
        parts = done(ferry.send_parts(context, upload))
        destination_proxy.fail("POST", f"uploadId={upload.upload_id}", fault)
        record, end = ferry.complete(context, upload, parts)
        assert (record.status, end) == (Status.VERIFIED, UploadEnd.COMPLETED)
        assert destination_proxy.count("POST", f"uploadId={upload.upload_id}") == 2
        assert open_uploads(pair) == []

    def test_a_complete_refused_to_the_end_leaves_the_upload_though_the_same_bytes_are_there_already(
        self, ferry: Ferry, pair: Pair, context: CopyContext, destination_proxy: FaultProxy, ref: ObjectRef
    ) -> None:
        assert ferry.copy_by_parts(context, ref)[0].status is Status.VERIFIED
        upload = ferry.open_upload(context, ref)
        parts = done(ferry.send_parts(context, upload))
        destination_proxy.fail("POST", f"uploadId={upload.upload_id}", slow_down, times=99)
        limited = replace(context, limits=TransferLimits(attempts=2))
        record, end = ferry.complete(limited, upload, parts)
        assert (record.status, end) == (Status.FAILED, UploadEnd.OPEN)
        assert open_uploads(pair) == [upload.upload_id]

    def test_a_complete_that_never_arrives_leaves_the_upload_for_the_next_run(
        self, ferry: Ferry, pair: Pair, context: CopyContext, destination_proxy: FaultProxy, ref: ObjectRef
    ) -> None:
        upload = ferry.open_upload(context, ref)
        parts = done(ferry.send_parts(context, upload))
        destination_proxy.fail("POST", f"uploadId={upload.upload_id}", drop_before, times=99)
        record, end = ferry.complete(context, upload, parts)
        assert (record.status, record.untouched, end) == (Status.FAILED, False, UploadEnd.OPEN)
        assert at_destination(pair) == OLD
        direct = replace(context, destination=pair.destination.client, destination_control=pair.destination.control)
        assert ferry.complete(direct, upload, parts)[0].status is Status.VERIFIED

    def test_a_source_to_be_copied_as_it_is_now_is_asked_again_where_the_answer_fails(
        self, ferry: Ferry, pair: Pair, context: CopyContext, source_proxy: FaultProxy, ref: ObjectRef
    ) -> None:
        changed = body_of("changed", PART + 7)
        put(pair.client, pair.source_bucket, ref.key, changed)
        copying = replace(context, rules=replace(context.rules, copy_changed=True))
        # the first HEAD asks for what the inventory names, and is refused by the server
        source_proxy.fail("HEAD", "big", pass_on)
        source_proxy.fail("HEAD", "big", slow_down, times=2)
        now, pinned = ferry.engine.run(ferry.steps(copying).pin_as_told(ref))
        assert (now.size, now.etag) == (len(changed), pinned.etag)
        record, _ = ferry.copy_by_parts(context, now)
        assert record.status is Status.VERIFIED
        assert at_destination(pair) == changed

    def test_a_source_that_is_not_to_be_copied_as_it_is_now_is_source_changed(
        self, ferry: Ferry, pair: Pair, context: CopyContext, ref: ObjectRef
    ) -> None:
        put(pair.client, pair.source_bucket, ref.key, body_of("changed", PART + 7))
        with pytest.raises(SourceChanged):
            ferry.engine.run(ferry.steps(context).pin_as_told(ref))

    @pytest.mark.parametrize(
        "faults",
        [
            [lose_answer],
            [lose_answer, lose_answer],
            [drop_before],
            [drop_before, lose_answer],
            [slow_down, lose_answer],
        ],
    )
    def test_a_lost_answer_to_create_leaves_one_upload(
        self,
        ferry: Ferry,
        pair: Pair,
        context: CopyContext,
        destination_proxy: FaultProxy,
        ref: ObjectRef,
        faults: list[Fault],
    ) -> None:
        for fault in faults:
            destination_proxy.fail("POST", "uploads", fault)
        upload = ferry.open_upload(context, ref)
        assert open_uploads(pair) == [upload.upload_id]
        assert ferry.complete(context, upload, done(ferry.send_parts(context, upload)))[0].status is Status.VERIFIED

    def test_a_lost_create_does_not_take_over_an_upload_with_parts(
        self, ferry: Ferry, pair: Pair, context: CopyContext, destination_proxy: FaultProxy, ref: ObjectRef
    ) -> None:
        theirs = begun(pair)
        destination_proxy.fail("POST", "uploads", drop_before)
        assert set(open_uploads(pair)) == {theirs}
        upload = ferry.open_upload(context, ref)
        assert set(open_uploads(pair)) == {theirs, upload.upload_id}

    def test_an_upload_is_found_only_without_parts(
        self, ferry: Ferry, pair: Pair, context: CopyContext, ref: ObjectRef
    ) -> None:
        begun(pair)
        assert ferry.engine.run(ferry.steps(context).find_upload(ref.destination_key, time.time(), ())) is None
        empty = ferry.open_upload(context, ref).upload_id
        assert ferry.engine.run(ferry.steps(context).find_upload(ref.destination_key, time.time(), ())) == empty

    def test_a_listing_that_is_throttled_does_not_mean_that_there_is_no_upload(
        self, ferry: Ferry, context: CopyContext, destination_proxy: FaultProxy, ref: ObjectRef
    ) -> None:
        destination_proxy.fail("GET", "uploads", slow_down, times=99)
        with pytest.raises(Throttled):
            ferry.engine.run(ferry.steps(context).find_upload(ref.destination_key, time.time(), ()))

    def test_a_listing_that_is_denied_is_told_once_and_create_goes_on(
        self,
        ferry: Ferry,
        context: CopyContext,
        destination_proxy: FaultProxy,
        ref: ObjectRef,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        destination_proxy.fail("GET", "uploads", access_denied, times=99)
        steps = ferry.steps(context)
        for _ in range(2):
            assert ferry.engine.run(steps.find_upload(ref.destination_key, time.time(), ())) is None
        (line,) = [record.getMessage() for record in caplog.records if record.name == "storage.multipart"]
        assert "s3:ListBucketMultipartUploads" in line

    def test_an_upload_that_outlives_its_abort_is_aborted_again(
        self, ferry: Ferry, pair: Pair, context: CopyContext, destination_proxy: FaultProxy, ref: ObjectRef
    ) -> None:
        upload = ferry.open_upload(context, ref)
        ferry.send_parts(context, upload, [1])
        destination_proxy.fail("DELETE", "uploadId", no_content)
        ferry.engine.run(fail(ferry.steps(context), upload, Status.SOURCE_CHANGED, "why", 1))
        assert open_uploads(pair) == []

    def test_an_object_that_turns_out_wrong_after_complete_is_removed(
        self, ferry: Ferry, pair: Pair, context: CopyContext, destination_proxy: FaultProxy, ref: ObjectRef
    ) -> None:
        """The read-back is corrupt here; a server that stored something else looks the same."""
        upload = ferry.open_upload(context, ref)
        parts = done(ferry.send_parts(context, upload))
        destination_proxy.fail("GET", "%2Bb$", flip_read_byte(7), times=99)
        readback = replace(context, rules=replace(context.rules, evidence=Grade.READBACK))
        record, end = ferry.complete(readback, upload, parts)
        assert (record.status, end) == (Status.MISMATCH, UploadEnd.COMPLETED)
        assert "was removed (IfMatch)" in (record.error or "")
        assert keys_of(pair.client, pair.destination_bucket) == []

    def test_no_more_than_the_attempts_allowed_are_made(
        self, ferry: Ferry, pair: Pair, context: CopyContext, source_proxy: FaultProxy, ref: ObjectRef
    ) -> None:
        upload = ferry.open_upload(context, ref)
        source_proxy.fail("GET", "big", slow_down, times=99)
        limited = replace(context, limits=TransferLimits(attempts=2))
        (result,) = ferry.send_parts(limited, upload, [1])
        assert (result.outcome, result.failure, result.attempts) == (PartOutcome.FAILED, Status.FAILED, 2)

    def test_metadata_that_is_no_date_and_not_ascii_comes_along(
        self, ferry: Ferry, pair: Pair, context: CopyContext
    ) -> None:
        """MinIO gives such metadata back in its MIME-encoded form."""
        odd: dict[str, Any] = {"ContentType": "text/x", "Metadata": {"name": "=?UTF-8?q?=C3=85?="}}
        ref = put(pair.client, pair.source_bucket, "big/ä+b", body_of("big", PART + 1), **odd)
        record, _ = ferry.copy_by_parts(context, ref)
        assert record.status is Status.VERIFIED
        assert dict(stored_object(pair.client, pair.destination_bucket, PREFIX + "big/ä+b").metadata) == odd["Metadata"]
