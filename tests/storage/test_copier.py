"""Copies of whole objects between real servers, looked at by boto3 afterwards."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from model.errors import RunBroken
from model.objects import ObjectRef
from model.status import DestinationEvidence, Grade, SourceEvidence, Status
from storage.config import Capabilities, TransferLimits
from tests.fixtures.compare import differences, keys_of, stored_object
from tests.fixtures.s3 import S3Server
from tests.storage.ferry import PREFIX, Ferry, body_of, put
from tests.storage.pairs import MakeBucket, Pair, make_pair

REFUSED_KEYS = {
    "minio": frozenset({"a//b", "dot/./x", "dot/../y"}),
    "versitygw": frozenset[str](),
    "moto": frozenset[str](),
}
"""Keys a server does not take at all, whoever asks."""

KEYS = (
    "plain.txt",
    "with space",
    "plus+and%2Fpercent%",
    "dir/",
    "a//b",
    "dot/./x",
    "dot/../y",
    ".hidden",
    "ünï/cödé☃𝄞",
    "q?x#y&z='\"",
    "(parens)!*~;:@,$",
    "new\nline",
    "back\\slash",
    "=equals/[brackets]{}|^`",
    "k" * 200,
)

METADATA: dict[str, Any] = {
    "ContentType": "text/x-test; charset=utf-8",
    "CacheControl": "no-cache, max-age=0",
    "ContentDisposition": 'attachment; filename="x y.txt"',
    "ContentEncoding": "gzip",
    "ContentLanguage": "de, en",
    "Expires": "Wed, 21 Oct 2026 07:28:00 GMT",
    "Metadata": {"a": "b c", "x-y": "1", "empty-looking": "-"},
}


@pytest.fixture
def pair(ferry: Ferry, s3_server: S3Server, bucket: MakeBucket) -> Pair:
    """Two fresh buckets on each server in turn."""
    return make_pair(ferry, s3_server, bucket)


class TestCopies:
    @pytest.mark.parametrize("key", KEYS)
    def test_a_key_arrives_under_its_own_name(self, ferry: Ferry, pair: Pair, key: str) -> None:
        if key in REFUSED_KEYS[pair.server.name]:
            with pytest.raises(Exception):  # noqa: B017 - each server refuses in its own words
                put(pair.client, pair.source_bucket, key, b"abc")
            return
        ref = put(pair.client, pair.source_bucket, key, b"" if key.endswith("/") else body_of(key, 300))
        (record,) = ferry.copy(pair.context(ferry), ref)
        assert (record.status, record.error) == (Status.VERIFIED, None)
        assert pair.differences() == []

    @pytest.mark.parametrize(
        "size", [0, 1, 8_191, 8_192, 8_193, 32_767, 32_768, 32_769, 40_959, 40_960, 40_961, 100_000]
    )
    def test_every_size_around_the_window_and_the_whole_body_limit(self, ferry: Ferry, pair: Pair, size: int) -> None:
        """The limit is 32,768 bytes here and the window 8,192: bodies above stream."""
        ref = put(pair.client, pair.source_bucket, "k", body_of("k", size))
        context = pair.context(ferry, limits=TransferLimits(whole_body_bytes=32_768, window_bytes=8_192))
        (record,) = ferry.copy(context, ref)
        assert (record.status, record.size, record.error) == (Status.VERIFIED, size, None)
        assert pair.differences() == []

    @pytest.mark.parametrize("size", [1024 * 1024, 1024 * 1024 + 1, 10_000_000])
    def test_the_sizes_of_a_real_run(self, ferry: Ferry, pair: Pair, size: int) -> None:
        ref = put(pair.client, pair.source_bucket, "k", body_of("k", size))
        (record,) = ferry.copy(pair.context(ferry), ref)
        assert (record.status, record.attempts) == (Status.VERIFIED, 1)
        assert pair.differences() == []

    @pytest.mark.parametrize("size", [100, 3_000_000])
    def test_the_metadata_comes_along(self, ferry: Ferry, pair: Pair, size: int) -> None:
        ref = put(pair.client, pair.source_bucket, "k", body_of("k", size), **METADATA)
        (record,) = ferry.copy(pair.context(ferry), ref)
        assert record.status is Status.VERIFIED
        assert pair.differences() == []
        there = stored_object(pair.client, pair.destination_bucket, PREFIX + "k")
        assert (there.content_type, there.cache_control, dict(there.metadata)["a"]) == (
            METADATA["ContentType"],
            METADATA["CacheControl"],
            "b c",
        )

    @pytest.mark.parametrize("size", [100, 3_000_000])
    def test_metadata_outside_ascii_comes_along(self, ferry: Ferry, pair: Pair, size: int) -> None:
        ref = put_with_header(pair, "k", body_of("k", size), "x-amz-meta-name", "Ångström à la 酅 à")
        (record,) = ferry.copy(pair.context(ferry), ref)
        assert (record.status, record.error) == (Status.VERIFIED, None)
        assert pair.differences() == []
        there = dict(stored_object(pair.client, pair.destination_bucket, PREFIX + "k").metadata)["name"]
        if pair.server.name == "minio":
            assert there.startswith("=?UTF-8?q?")
        else:
            assert there.encode("latin-1").decode() == "Ångström à la 酅 à"

    def test_the_digests_are_recorded(self, ferry: Ferry, pair: Pair) -> None:
        body = b"123456789"
        (record,) = ferry.copy(pair.context(ferry), put(pair.client, pair.source_bucket, "k", body))
        assert record.sha256 == hashlib.sha256(body).hexdigest()
        assert record.crc64nvme == "rosUhgp5mIg="

    def test_an_md5_etag_of_the_source_is_evidence_where_nothing_is_stored(self, ferry: Ferry, pair: Pair) -> None:
        ref = put(pair.client, pair.source_bucket, "k", b"abc")
        (record,) = ferry.copy(pair.context(ferry), ref)
        stored = pair.server.name == "versitygw"  # which stores a CRC64NVME of its own
        expected = SourceEvidence.STORED_CHECKSUM if stored else SourceEvidence.ETAG_MD5
        assert (record.source_evidence, record.md5) == (expected, None if stored else ref.etag)

    def test_many_objects_at_once(self, ferry: Ferry, pair: Pair) -> None:
        refs = [
            put(pair.client, pair.source_bucket, f"many/{number}", body_of(str(number), number * 700), number)
            for number in range(60)
        ]
        records = ferry.copy(pair.context(ferry), *refs)
        assert [record.status for record in records] == [Status.VERIFIED] * 60
        assert pair.differences() == []

    def test_an_existing_destination_object_is_overwritten(self, ferry: Ferry, pair: Pair) -> None:
        put(pair.client, pair.destination_bucket, PREFIX + "k", b"old", ContentType="text/old")
        ref = put(pair.client, pair.source_bucket, "k", b"new", ContentType="text/new")
        (record,) = ferry.copy(pair.context(ferry), ref)
        assert record.status is Status.VERIFIED
        assert pair.differences() == []

    def test_without_an_etag_in_the_inventory_the_first_answer_pins(self, ferry: Ferry, pair: Pair) -> None:
        ref = put(pair.client, pair.source_bucket, "k", b"abc")
        (record,) = ferry.copy(pair.context(ferry), ref._replace(etag=None))
        assert (record.status, record.source_etag) == (Status.VERIFIED, ref.etag)

    def test_a_stored_checksum_of_the_source_is_evidence(self, ferry: Ferry, pair: Pair) -> None:
        ref = put(pair.client, pair.source_bucket, "k", b"abc" * 1000, ChecksumAlgorithm="SHA256")
        (record,) = ferry.copy(pair.context(ferry), ref)
        assert (record.status, record.source_evidence) == (Status.VERIFIED, SourceEvidence.STORED_CHECKSUM)

    def test_an_opaque_source_etag_is_not_taken_for_an_md5(self, ferry: Ferry, pair: Pair) -> None:
        ref = put(pair.client, pair.source_bucket, "k", b"abc")
        (record,) = ferry.copy(pair.context(ferry, source_etag_md5=False), ref)
        stored = pair.server.name == "versitygw"  # which stores a CRC64NVME of its own
        expected = SourceEvidence.STORED_CHECKSUM if stored else SourceEvidence.LENGTH
        assert (record.status, record.source_evidence) == (Status.VERIFIED, expected)

    def test_from_one_kind_of_server_to_another(
        self, ferry: Ferry, pair: Pair, minio: S3Server, bucket: MakeBucket
    ) -> None:
        """From MinIO to each."""
        client, source_bucket = minio.client(), bucket(minio)
        ref = put(client, source_bucket, "dir/ä+b", body_of("x", 2_500_000), **METADATA)
        context = ferry.context(
            ferry.endpoint(minio, "source"), source_bucket, pair.destination, pair.destination_bucket
        )
        (record,) = ferry.copy(context, ref)
        assert record.status is Status.VERIFIED
        assert (
            differences((client, source_bucket), (pair.client, pair.destination_bucket), destination_prefix=PREFIX)
            == []
        )


class TestVersions:
    @pytest.fixture
    def versioned(self, ferry: Ferry, s3_server: S3Server, bucket: MakeBucket) -> Pair:
        return make_pair(ferry, s3_server, bucket, versioned=True)

    def test_the_version_named_is_copied(self, ferry: Ferry, versioned: Pair) -> None:
        old = put(versioned.client, versioned.source_bucket, "k", b"old")
        put(versioned.client, versioned.source_bucket, "k", b"newer")
        assert old.version_id
        (record,) = ferry.copy(versioned.context(ferry), old)
        assert (record.status, record.source_version) == (Status.VERIFIED, old.version_id)
        assert record.destination_version
        found = versioned.client.get_object(Bucket=versioned.destination_bucket, Key=PREFIX + "k")["Body"].read()
        assert found == b"old"

    def test_a_version_that_is_gone_is_source_gone(self, ferry: Ferry, versioned: Pair) -> None:
        old = put(versioned.client, versioned.source_bucket, "k", b"old")
        put(versioned.client, versioned.source_bucket, "k", b"newer")
        versioned.client.delete_object(Bucket=versioned.source_bucket, Key="k", VersionId=old.version_id)
        (record,) = ferry.copy(versioned.context(ferry), old)
        assert record.status is Status.SOURCE_GONE

    def test_a_delete_marker_is_source_gone(self, ferry: Ferry, versioned: Pair) -> None:
        ref = put(versioned.client, versioned.source_bucket, "k", b"old")
        versioned.client.delete_object(Bucket=versioned.source_bucket, Key="k")
        (record,) = ferry.copy(versioned.context(ferry), ref._replace(version_id=None))
        assert record.status is Status.SOURCE_GONE


class TestRefusals:
    def test_another_etag_is_source_changed(self, ferry: Ferry, pair: Pair) -> None:
        ref = put(pair.client, pair.source_bucket, "k", b"abc")
        put(pair.client, pair.source_bucket, "k", b"abd")
        (record,) = ferry.copy(pair.context(ferry), ref)
        assert (record.status, record.attempts) == (Status.SOURCE_CHANGED, 1)
        assert keys_of(pair.client, pair.destination_bucket) == []

    @pytest.mark.parametrize("size", [100, 3_000_000])
    def test_another_size_is_source_changed(self, ferry: Ferry, pair: Pair, size: int) -> None:
        ref = put(pair.client, pair.source_bucket, "k", body_of("k", size))
        (record,) = ferry.copy(pair.context(ferry), ref._replace(size=size + 1, etag=None))
        assert record.status is Status.SOURCE_CHANGED
        assert f"{size} bytes" in (record.error or "")
        assert keys_of(pair.client, pair.destination_bucket) == []

    def test_a_key_that_is_gone_is_source_gone(self, ferry: Ferry, pair: Pair) -> None:
        ref = ObjectRef(0, 0, pair.source_bucket, "missing", None, 10, "0" * 32, "missing")
        (record,) = ferry.copy(pair.context(ferry), ref)
        assert record.status is Status.SOURCE_GONE

    def test_one_refusal_leaves_the_others_alone(self, ferry: Ferry, pair: Pair) -> None:
        good = put(pair.client, pair.source_bucket, "good", b"abc", 1)
        records = ferry.copy(pair.context(ferry), good._replace(row_number=0, key="missing"), good)
        assert [record.status for record in records] == [Status.SOURCE_GONE, Status.VERIFIED]

    def test_a_missing_source_bucket_breaks_the_run(self, ferry: Ferry, pair: Pair) -> None:
        ref = ObjectRef(0, 0, "no-such-bucket-here", "k", None, 10, "0" * 32, "k")
        context = pair.context(ferry)
        with pytest.raises(RunBroken, match="bucket"):
            ferry.copy(context, ref)
        with pytest.raises(RunBroken, match="bucket"):
            ferry.engine.run(ferry.steps(context).pin(ref))

    def test_a_missing_destination_bucket_breaks_the_run(self, ferry: Ferry, pair: Pair) -> None:
        ref = put(pair.client, pair.source_bucket, "k", b"abc")
        context = pair.context(ferry)
        gone = replace(context, rules=replace(context.rules, destination_bucket="no-such-bucket-here"))
        with pytest.raises(RunBroken, match="bucket"):
            ferry.copy(gone, ref)
        with pytest.raises(RunBroken, match="bucket"):
            ferry.capabilities(pair.destination, "no-such-bucket-here")

    @pytest.mark.parametrize("s3_server", ["minio", "versitygw"], indirect=True)
    def test_a_wrong_secret_breaks_the_run(self, ferry: Ferry, pair: Pair) -> None:
        """The embedded server does not check signatures."""
        ref = put(pair.client, pair.source_bucket, "k", b"abc")
        context = pair.context(ferry)
        wrong = ferry.endpoint(pair.server, "source", secret="wrong-secret-key")
        with pytest.raises(RunBroken, match="credentials"):
            ferry.copy(replace(context, source=wrong.client), ref)
        with pytest.raises(RunBroken, match="credentials"):
            ferry.engine.run(ferry.steps(replace(context, source=wrong.client)).pin(ref))

    def test_a_server_that_is_not_there_fails_the_object_after_all_attempts(self, ferry: Ferry, pair: Pair) -> None:
        ref = put(pair.client, pair.source_bucket, "k", b"abc")
        context = pair.context(ferry, limits=TransferLimits(attempts=2))
        away = ferry.endpoint(pair.server, "source", url="http://127.0.0.1:1")
        (record,) = ferry.copy(replace(context, source=away.client), ref)
        assert (record.status, record.attempts) == (Status.FAILED, 2)


class TestOnChangeCopy:
    @pytest.mark.parametrize(
        ("old", "new"), [(b"old", b"newer"), (b"x" * 3_000_000, b"small"), (b"s", b"y" * 3_000_000)]
    )
    def test_the_object_as_it_is_now_is_copied(self, ferry: Ferry, pair: Pair, old: bytes, new: bytes) -> None:
        ref = put(pair.client, pair.source_bucket, "k", old)
        now = put(pair.client, pair.source_bucket, "k", new)
        (record,) = ferry.copy(pair.context(ferry, copy_changed=True), ref)
        assert (record.status, record.size, record.source_etag) == (Status.VERIFIED, len(new), now.etag)
        assert pair.differences() == []

    def test_an_object_that_went_is_source_gone(self, ferry: Ferry, pair: Pair) -> None:
        ref = put(pair.client, pair.source_bucket, "k", b"abc")
        pair.client.delete_object(Bucket=pair.source_bucket, Key="k")
        (record,) = ferry.copy(pair.context(ferry, copy_changed=True), ref)
        assert record.status is Status.SOURCE_GONE


AUTO = (DestinationEvidence.SIGNED_BODY, DestinationEvidence.TRAILING_CRC64NVME)
"""The best evidence without a second read on all three servers, for a whole and a streamed body."""

ETAG_ONLY = Capabilities(etag_is_md5=True)
"""An endpoint that checks nothing itself."""


class TestEvidence:
    @pytest.mark.parametrize("streamed", [False, True])
    def test_auto_takes_the_best_without_a_second_read(self, ferry: Ferry, pair: Pair, streamed: bool) -> None:
        ref = put(pair.client, pair.source_bucket, "k", body_of("k", 3_000_000 if streamed else 100))
        (record,) = ferry.copy(pair.context(ferry), ref)
        assert (record.status, record.destination_evidence) == (Status.VERIFIED, AUTO[streamed])

    @pytest.mark.parametrize("streamed", [False, True])
    @pytest.mark.parametrize("grade", [Grade.ETAG, Grade.SERVER])
    def test_a_grade_below_what_was_asked_is_copied_and_not_verified(
        self, ferry: Ferry, pair: Pair, grade: Grade, streamed: bool
    ) -> None:
        ref = put(pair.client, pair.source_bucket, "k", body_of("k", 3_000_000 if streamed else 100))
        (record,) = ferry.copy(pair.context(ferry, can=ETAG_ONLY, evidence=grade), ref)
        assert record.status is (Status.COPIED if grade is Grade.SERVER else Status.VERIFIED)
        assert record.destination_evidence is DestinationEvidence.ETAG_MD5

    @pytest.mark.parametrize("streamed", [False, True])
    @pytest.mark.parametrize("grade", [Grade.ETAG, Grade.SERVER])
    def test_a_grade_above_what_was_asked_is_verified(
        self, ferry: Ferry, pair: Pair, grade: Grade, streamed: bool
    ) -> None:
        ref = put(pair.client, pair.source_bucket, "k", body_of("k", 3_000_000 if streamed else 100))
        (record,) = ferry.copy(pair.context(ferry, evidence=grade), ref)
        assert (record.status, record.destination_evidence) == (Status.VERIFIED, AUTO[streamed])

    @pytest.mark.parametrize("size", [0, 100, 3_000_000])
    def test_readback_reads_the_object_again(self, ferry: Ferry, pair: Pair, size: int) -> None:
        ref = put(pair.client, pair.source_bucket, "k", body_of("k", size))
        (record,) = ferry.copy(pair.context(ferry, evidence=Grade.READBACK), ref)
        assert (record.status, record.destination_evidence) == (Status.VERIFIED, DestinationEvidence.READBACK)

    def test_an_endpoint_without_any_evidence_is_read_back(self, ferry: Ferry, pair: Pair) -> None:
        ref = put(pair.client, pair.source_bucket, "k", body_of("k", 3_000_000))
        (record,) = ferry.copy(pair.context(ferry, can=Capabilities()), ref)
        assert (record.status, record.destination_evidence) == (Status.VERIFIED, DestinationEvidence.READBACK)


def put_with_header(pair: Pair, key: str, body: bytes, name: str, value: str) -> ObjectRef:
    """Store an object with a header boto3 would refuse to send, by a signed request of its own."""
    import http.client
    from urllib.parse import urlsplit

    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    url = f"{pair.server.endpoint_url}/{pair.source_bucket}/{key}"
    request = AWSRequest("PUT", url, data=body, headers={name: value})
    S3SigV4Auth(Credentials(pair.server.access_key, pair.server.secret_key), "s3", pair.server.region).add_auth(request)
    headers = {given: str(text).encode() for given, text in request.headers.items()}
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc)
    connection.request("PUT", parts.path, body, headers)
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    connection.close()
    etag = pair.client.head_object(Bucket=pair.source_bucket, Key=key)["ETag"].strip('"')
    return ObjectRef(0, 0, pair.source_bucket, key, None, len(body), etag, PREFIX + key)
