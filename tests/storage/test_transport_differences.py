"""What only some of the transports can do, and how another says that it cannot."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from storage.transport import HeadersUnreadable, Transport
from storage.transport_aiohttp import AiohttpTransport
from storage.transport_native import NativeTransport
from storage.transport_pyreqwest import PyreqwestTransport
from storage.transport_verbatim import VerbatimTransport
from tests.storage.scripted_server import Exchange, ScriptedServer, response

Run = Callable[[Coroutine[Any, Any, Any]], Any]

verbatim = pytest.mark.parametrize("make", [VerbatimTransport, NativeTransport])
"""The transports that send and hand over every byte as it is."""


def outside_ascii(exchange: Exchange) -> None:
    exchange.read_body()
    raw = response(200, {"x-amz-meta-a": "Å酅 à", "x-amz-meta-b": "ascii"})
    exchange.send(raw.replace(b"\r\n\r\n", b"\r\nx-amz-meta-c: caf\xe9\r\n\r\n"))


def test_the_fast_one_says_that_headers_outside_ascii_are_unreadable(server: ScriptedServer, run: Run) -> None:
    server.fallback = outside_ascii

    async def main() -> None:
        transport = PyreqwestTransport(connect_timeout_s=5, idle_timeout_s=5)
        try:
            async with transport.open("GET", server.url + "/b/k", {}):
                pass
        finally:
            await transport.close()

    with pytest.raises(HeadersUnreadable):
        run(main())


@pytest.mark.parametrize("make", [VerbatimTransport, NativeTransport, AiohttpTransport])
def test_the_others_give_utf8_text_and_keep_other_bytes(
    server: ScriptedServer, run: Run, make: Callable[..., Transport]
) -> None:
    server.fallback = outside_ascii

    async def main() -> dict[str, str]:
        transport = make(connect_timeout_s=5, idle_timeout_s=5)
        try:
            async with transport.open("GET", server.url + "/b/k", {}) as answer:
                return dict(answer.headers)
        finally:
            await transport.close()

    found = run(main())
    assert found["x-amz-meta-a"] == "Å酅 à"
    assert found["x-amz-meta-c"].encode("utf-8", "surrogateescape") == b"caf\xe9"


@verbatim
def test_a_verbatim_one_sends_headers_outside_ascii_as_utf8(
    server: ScriptedServer, run: Run, make: Callable[..., Transport]
) -> None:
    async def main() -> None:
        transport = make(connect_timeout_s=5, idle_timeout_s=5)
        try:
            async with transport.open("PUT", server.url + "/b/k", {"x-amz-meta-a": "Å酅 à"}, b"abc"):
                pass
        finally:
            await transport.close()

    run(main())
    assert server.requests[0].header("x-amz-meta-a") == "Å酅 à"


@verbatim
@pytest.mark.parametrize("path", ["/b/a/./b", "/b/../c", "/b/a/..", "/b/.", "/b/a/../../d"])
def test_a_verbatim_one_keeps_dot_segments(
    server: ScriptedServer, run: Run, make: Callable[..., Transport], path: str
) -> None:
    async def main() -> None:
        transport = make(connect_timeout_s=5, idle_timeout_s=5)
        try:
            async with transport.open("GET", server.url + path, {}):
                pass
        finally:
            await transport.close()

    run(main())
    assert server.requests[0].target == path
