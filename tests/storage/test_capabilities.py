"""What the probe finds, and that it leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from model.errors import RunBroken
from storage.capabilities import PROBE_NAME, probe_reads
from storage.config import Capabilities
from tests.fixtures.compare import keys_of
from tests.fixtures.s3 import S3Server
from tests.storage.fault_proxy import FaultProxy, Passing, fault_proxy, slow_down
from tests.storage.ferry import Ferry
from tests.storage.pairs import MakeBucket
from tests.storage.scripted_server import ScriptedServer, reply

ALL = Capabilities(trailing_checksum=True, signed_body=True, etag_is_md5=True, full_object_crc=True, checksum_mode=True)


@pytest.fixture
def proxy(minio: S3Server) -> Iterator[FaultProxy]:
    with fault_proxy(minio.endpoint_url) as running:
        yield running


def refused(status: int, code: str) -> object:
    def refuse(passing: Passing, forward: object) -> None:
        body = f"<Error><Code>{code}</Code></Error>".encode()
        passing.answer = b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body

    return refuse


class TestDestination:
    def test_a_capable_server_is_found_so(self, ferry: Ferry, s3_server: S3Server, bucket: MakeBucket) -> None:
        assert ferry.capabilities(ferry.endpoint(s3_server, "destination"), bucket(s3_server)) == ALL

    @pytest.mark.parametrize("versioned", [False, True])
    def test_nothing_is_left_behind(
        self, ferry: Ferry, s3_server: S3Server, bucket: MakeBucket, versioned: bool
    ) -> None:
        client, name = ferry.boto(s3_server), bucket(s3_server, versioned=versioned)
        ferry.capabilities(ferry.endpoint(s3_server, "destination"), name)
        assert keys_of(client, name) == []
        assert not client.list_object_versions(Bucket=name).get("Versions")
        assert not client.list_multipart_uploads(Bucket=name, Prefix=PROBE_NAME).get("Uploads")

    @pytest.mark.parametrize(("status", "code"), [(501, "NotImplemented"), (400, "InvalidArgument")])
    def test_a_server_that_refuses_trailers_is_asked_for_none(
        self, ferry: Ferry, minio: S3Server, bucket: MakeBucket, status: int, code: str
    ) -> None:
        def without_trailers(passing: Passing, forward: object) -> None:
            if passing.header("x-amz-trailer"):
                refused(status, code)(passing, forward)  # type: ignore[operator]
            else:
                forward()  # type: ignore[operator]

        with fault_proxy(minio.endpoint_url) as proxy:
            proxy.fail("PUT", PROBE_NAME, without_trailers, times=99)
            found = ferry.capabilities(ferry.endpoint(minio, "destination", url=proxy.url), bucket(minio))
        assert found == Capabilities(signed_body=True, etag_is_md5=True)

    def test_a_server_that_knows_no_checksum_type_gets_a_plain_upload(
        self, ferry: Ferry, minio: S3Server, bucket: MakeBucket, proxy: FaultProxy
    ) -> None:
        proxy.fail("POST", PROBE_NAME, refused(400, "InvalidRequest"))  # type: ignore[arg-type]
        found = ferry.capabilities(ferry.endpoint(minio, "destination", url=proxy.url), bucket(minio))
        assert not found.full_object_crc
        assert found.signed_body

    def test_a_throttled_probe_is_repeated(
        self, ferry: Ferry, minio: S3Server, bucket: MakeBucket, proxy: FaultProxy
    ) -> None:
        proxy.fail("PUT", PROBE_NAME, slow_down, times=2)
        assert ferry.capabilities(ferry.endpoint(minio, "destination", url=proxy.url), bucket(minio)) == ALL

    def test_no_server_at_all_breaks_the_run(self, ferry: Ferry, minio: S3Server) -> None:
        with pytest.raises(RunBroken):
            ferry.capabilities(ferry.endpoint(minio, "destination", url="http://127.0.0.1:1", timeout_s=1.0), "any")

    def test_a_principal_that_may_not_write_breaks_the_run_by_name(
        self, ferry: Ferry, minio: S3Server, bucket: MakeBucket, proxy: FaultProxy
    ) -> None:
        proxy.fail("POST", PROBE_NAME, refused(403, "AccessDenied"), times=9)  # type: ignore[arg-type]
        with pytest.raises(RunBroken, match="s3:PutObject"):
            ferry.capabilities(ferry.endpoint(minio, "destination", url=proxy.url), bucket(minio))


class TestSource:
    def test_checksum_mode_is_borne(self, ferry: Ferry, s3_server: S3Server, bucket: MakeBucket) -> None:
        client = ferry.endpoint(s3_server, "source").client
        assert ferry.engine.run(probe_reads(client, bucket(s3_server))).checksum_mode

    def test_a_missing_bucket_breaks_the_run(self, ferry: Ferry, s3_server: S3Server) -> None:
        client = ferry.endpoint(s3_server, "source").client
        with pytest.raises(RunBroken, match="bucket"):
            ferry.engine.run(probe_reads(client, "no-such-bucket-here"))

    def test_a_wrong_secret_breaks_the_run(self, ferry: Ferry, minio: S3Server, bucket: MakeBucket) -> None:
        client = ferry.endpoint(minio, "source", secret="wrong-secret-key").client
        with pytest.raises(RunBroken, match="credentials"):
            ferry.engine.run(probe_reads(client, bucket(minio)))

    def test_no_server_at_all_breaks_the_run(self, ferry: Ferry, minio: S3Server) -> None:
        client = ferry.endpoint(minio, "source", url="http://127.0.0.1:1").client
        with pytest.raises(RunBroken, match="no answer"):
            ferry.engine.run(probe_reads(client, "any"))

    def test_a_server_that_refuses_checksum_mode_is_not_asked_for_it(
        self, ferry: Ferry, minio: S3Server, server: ScriptedServer
    ) -> None:
        server.fallback = reply(400, {}, b"<Error><Code>InvalidArgument</Code></Error>")
        client = ferry.endpoint(minio, "source", url=server.url).client
        assert not ferry.engine.run(probe_reads(client, "any")).checksum_mode
