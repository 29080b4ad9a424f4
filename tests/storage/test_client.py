"""Requests as the client addresses and signs them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from model.errors import OutcomeUnknown, Refused, Throttled, Transient
from storage.client import S3Client, needs_care, part_query
from storage.config import StoreConfig
from storage.limits import EndpointLimit
from storage.transport import Transport
from storage.transport_aiohttp import AiohttpTransport
from storage.transport_native import NativeTransport
from storage.transport_pyreqwest import PyreqwestTransport
from storage.transport_verbatim import VerbatimTransport
from tests.fixtures.s3 import S3Server
from tests.storage.ferry import Ferry
from tests.storage.scripted_server import Exchange, ScriptedServer, reply, response


class PlainSigner:
    """Hands headers back as they are: what is signed is not the question here."""

    def sign(self, method: str, target: str, host: str, headers: Any, payload: str) -> dict[str, str]:
        return dict(headers)


def make_client(url: str, addressing: str = "auto", timeout_s: float = 5.0, fast: Transport | None = None) -> S3Client:
    timeouts: dict[str, Any] = {"connect_timeout_s": timeout_s, "idle_timeout_s": timeout_s}
    store = StoreConfig("source", url, addressing=addressing)
    signer: Any = PlainSigner()
    fast, careful = fast or PyreqwestTransport(**timeouts), VerbatimTransport(**timeouts)
    return S3Client(store, url, signer, fast, careful, EndpointLimit(10))


@pytest.mark.parametrize(
    ("endpoint", "host"),
    [
        ("http://Host.Example:80", "host.example"),
        ("https://host.example:443", "host.example"),
        ("https://host.example:8443/", "host.example:8443"),
        ("http://127.0.0.1:9000", "127.0.0.1:9000"),
        ("http://[::1]:9000", "[::1]:9000"),
    ],
)
def test_the_host_signed_is_the_one_an_http_client_sends(endpoint: str, host: str) -> None:
    assert make_client(endpoint)._address("bucket", "k", "") == (host, "/bucket/k")


def test_a_bucket_is_in_the_path_or_in_the_host() -> None:
    assert make_client("https://s3.example", "virtual")._address("b", "k/x", "") == ("b.s3.example", "/k/x")
    assert make_client("https://s3.example", "path")._address("b", "k/x", "q=1") == ("s3.example", "/b/k/x?q=1")
    # the certificate of https://*.s3.example does not hold for two labels
    assert make_client("https://s3.example", "virtual")._address("b.c", "k", "") == ("s3.example", "/b.c/k")


@pytest.mark.parametrize("key", ["a/./b", "../b", "a/..", ".", "./x"])
def test_keys_with_dot_segments_need_care(key: str) -> None:
    assert needs_care(key)


@pytest.mark.parametrize("key", ["a.b", "a/.b", "a/b.", "...", "a/.../b", "", "a//b"])
def test_other_keys_do_not(key: str) -> None:
    assert not needs_care(key)


def test_an_upload_id_may_hold_any_character() -> None:
    assert part_query(7, "a/b+c=&d~e") == "partNumber=7&uploadId=a%2Fb%2Bc%3D%26d~e"


@pytest.mark.parametrize("method", ["head", "get"])
def test_header_values_outside_ascii_are_read(server: ScriptedServer, method: str) -> None:
    def odd(exchange: Exchange) -> None:
        raw = response(200, {"x-amz-meta-a": "Å", "x-amz-meta-b": "à"})
        exchange.send(raw.replace(b"\r\n\r\n", b"\r\nx-amz-meta-c: \xe9\r\n\r\n"))

    server.fallback = odd

    async def main() -> dict[str, str]:
        client = make_client(server.url)
        try:
            if method == "head":
                return dict(await client.head("b", "k"))
            async with client.get("b", "k") as answer:
                return dict(answer.headers)
        finally:
            await client.close()

    found = asyncio.run(main())
    assert (found["x-amz-meta-a"], found["x-amz-meta-b"], found["x-amz-meta-c"]) == ("Å", "à", "\udce9")


def test_metadata_that_is_not_utf8_is_refused_by_name(ferry: Ferry, minio: S3Server) -> None:
    client = ferry.endpoint(minio, "destination").client
    put = client.put("b", "k", b"", length=0, payload="UNSIGNED-PAYLOAD", headers={"x-amz-meta-a": "\udce9"})
    with pytest.raises(Refused, match="not valid UTF-8"):
        ferry.engine.run(put)


@pytest.mark.parametrize(("method", "lost"), [("get", Transient), ("head", Transient), ("put", OutcomeUnknown)])
def test_a_lost_answer_is_unknown_for_writes_only(server: ScriptedServer, method: str, lost: type[Exception]) -> None:
    server.fallback = lambda exchange: exchange.close()

    async def main() -> None:
        client = make_client(server.url)
        try:
            if method == "put":
                await client.put("b", "k", b"abc", length=3, payload="x", headers={})
            elif method == "head":
                await client.head("b", "k")
            else:
                async with client.get("b", "k"):
                    pass
        finally:
            await client.close()

    with pytest.raises(lost) as failure:
        asyncio.run(main())
    assert type(failure.value) is lost


def test_a_write_that_was_never_sent_is_transient() -> None:
    async def main() -> None:
        client = make_client("http://127.0.0.1:1")
        try:
            await client.put("b", "k", b"abc", length=3, payload="x", headers={})
        finally:
            await client.close()

    with pytest.raises(Transient):
        asyncio.run(main())


def test_throttling_cuts_the_limit_and_success_raises_it(server: ScriptedServer) -> None:
    server.scripts = [reply(503, {}, b"<Error><Code>SlowDown</Code></Error>")]

    async def main() -> tuple[float, float]:
        client = make_client(server.url)
        try:
            with pytest.raises(Throttled):
                await client.head("b", "k")
            cut = client.limit.limit
            await client.head("b", "k")
            return cut, client.limit.limit
        finally:
            await client.close()

    cut, raised = asyncio.run(main())
    assert cut < raised <= 10


def test_no_answer_holds_the_signature(server: ScriptedServer) -> None:
    server.fallback = reply(403, {}, b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>")

    async def main() -> str:
        client = make_client(server.url)
        try:
            await client.put("b", "k", b"", length=0, payload="x", headers={"authorization": "hidden"})
        except Exception as error:
            return str(error)
        finally:
            await client.close()
        return ""

    message = asyncio.run(main())
    assert message == "source: PUT b/k: 403 AccessDenied (no)"


@pytest.mark.parametrize("transport", [NativeTransport, PyreqwestTransport, AiohttpTransport])
def test_a_yes_before_the_body_was_handed_over_is_no_yes(server: ScriptedServer, transport: Any) -> None:
    def early(exchange: Exchange) -> None:
        exchange.send(response(200, {"ETag": '"e"'}))
        exchange.close()

    async def slow() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 10_000
            await asyncio.sleep(0.01)

    async def main() -> None:
        client = make_client(server.url, fast=transport(connect_timeout_s=5.0, idle_timeout_s=5.0))
        try:
            await client.put("b", "k", slow(), length=1_000_000, payload="", headers={})
        finally:
            await client.close()

    server.fallback = early
    with pytest.raises(OutcomeUnknown):
        asyncio.run(main())


def test_a_value_no_header_can_hold_is_refused(server: ScriptedServer) -> None:
    async def main() -> None:
        client = make_client(server.url, fast=NativeTransport(connect_timeout_s=5.0, idle_timeout_s=5.0))
        try:
            await client.put("b", "k", b"", length=0, payload="", headers={"x-amz-meta-a": "foo\nbar"})
        finally:
            await client.close()

    with pytest.raises(Refused, match="line break"):
        asyncio.run(main())
