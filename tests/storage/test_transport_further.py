"""Where the transport over aiohttp and our own go further than the contract, and what aiohttp's switches off."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest

from storage.transport import Broken, HeadersUnreadable, Transport
from storage.transport_aiohttp import AiohttpTransport
from storage.transport_native import NativeTransport
from tests.storage.exchanges import fetch, once, pieces
from tests.storage.scripted_server import Exchange, ScriptedServer, reply, response

Run = Callable[[Coroutine[Any, Any, Any]], Any]


Make = Callable[..., Transport]


@pytest.fixture(params=[AiohttpTransport, NativeTransport])
def further(request: pytest.FixtureRequest) -> Make:
    """Makes one of the two; the time is in seconds."""

    def make(timeout_s: float = 5.0) -> Transport:
        made: Transport = request.param(connect_timeout_s=timeout_s, idle_timeout_s=timeout_s)
        return made

    return make


def over_aiohttp() -> Transport:
    return AiohttpTransport(connect_timeout_s=5, idle_timeout_s=5)


def connections_to(server: ScriptedServer) -> int:
    """How many connections to `server` this process holds as a client."""
    held = psutil.Process().net_connections("tcp4")
    return sum(bool(one.raddr) and one.raddr.port == server.port and one.status == "ESTABLISHED" for one in held)


@contextmanager
def deaf(server: ScriptedServer, answer: bytes = b"") -> Iterator[None]:
    """The server reads a little of each body, says `answer`, and reads no more until the end."""

    def script(exchange: Exchange) -> None:
        exchange.read_some(1 << 16)
        exchange.send(answer)
        leave.wait(30)
        exchange.close()

    leave = threading.Event()
    server.fallback = script
    try:
        yield
    finally:
        leave.set()


@pytest.mark.parametrize(("method", "body"), [("GET", None), ("HEAD", None), ("PUT", b"abc"), ("POST", b"")])
def test_no_header_is_added_but_what_the_message_needs(
    further: Make, server: ScriptedServer, run: Run, method: str, body: bytes | None
) -> None:
    run(once(further(), lambda t: fetch(t, server.url + "/b/k", method, {"x-amz-meta-a": "b"}, body)))
    names = {name.lower() for name, _ in server.requests[0].headers}
    assert names == {"host", "x-amz-meta-a"} | ({"content-length"} if body is not None else set())


def test_a_cookie_is_never_sent_back(further: Make, server: ScriptedServer, run: Run) -> None:
    server.fallback = reply(200, {"Set-Cookie": "a=b; Path=/"})

    async def twice(t: Transport) -> None:
        await fetch(t, server.url + "/b/k")
        await fetch(t, server.url + "/b/k")

    run(once(further(), twice))
    assert server.requests[1].header("cookie") is None


def test_an_answer_that_is_no_http_is_unreadable(server: ScriptedServer, run: Run) -> None:
    server.fallback = lambda exchange: exchange.send(b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n")
    with pytest.raises(HeadersUnreadable):
        run(once(over_aiohttp(), lambda t: fetch(t, server.url + "/b/k")))


def test_a_body_longer_than_its_content_length_is_an_error(further: Make, server: ScriptedServer, run: Run) -> None:
    given = {"content-length": "5"}
    with pytest.raises(Broken, match="longer"):
        run(once(further(), lambda t: fetch(t, server.url + "/b/k", "PUT", given, pieces(b"abc", b"def"))))


def test_an_answer_comes_out_while_its_upload_is_stuck_and_is_not_disturbed_by_it(
    further: Make, server: ScriptedServer, run: Run
) -> None:
    async def work(t: Transport) -> tuple[int, bytes]:
        body, given = pieces(*[b"x" * 100_000] * 100), {"content-length": "10000000"}
        async with t.open("PUT", server.url + "/b/k", given, body) as answer:
            await asyncio.sleep(1.5)
            return answer.status, bytes(await answer.read_all())

    with deaf(server, response(503, {}, b"SlowDown")):
        assert run(once(further(timeout_s=0.5), work)) == (503, b"SlowDown")


@pytest.mark.parametrize("answer", [b"", response(503, {}, b"SlowDown"), response(503, {"Content-Length": "9"}, b"S")])
@pytest.mark.parametrize("streamed", [True, False])
def test_an_upload_given_up_leaves_no_connection_behind(
    further: Make, server: ScriptedServer, run: Run, answer: bytes, streamed: bool
) -> None:
    parts = [b"x" * 20_000] * 1_500

    async def work(t: Transport) -> int:
        body: Any = pieces(*parts) if streamed else b"".join(parts)
        try:
            async with t.open("PUT", server.url + "/b/k", {"content-length": "30000000"}, body):
                pass
        except Broken:
            assert answer == b""
        await asyncio.sleep(0.1)
        return connections_to(server)

    with deaf(server, answer):
        assert run(once(further(timeout_s=0.5), work)) == 0


def test_nothing_more_is_asked_of_a_body_once_its_request_has_ended(server: ScriptedServer, run: Run) -> None:
    ended = []

    async def body() -> AsyncIterator[bytes]:
        try:
            yield b"x"
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    async def work(t: Transport) -> None:
        async with t.open("PUT", server.url + "/b/k", {"content-length": "2"}, body()):
            pass
        assert ended == [True]

    def refuse(exchange: Exchange) -> None:
        exchange.send(response(503, {}, b"SlowDown"))
        exchange.wait_for_client_to_leave()

    server.fallback = refuse
    run(once(over_aiohttp(), work))


def test_a_cancelled_upload_leaves_no_connection_behind(further: Make, server: ScriptedServer, run: Run) -> None:
    async def work(t: Transport) -> int:
        task = asyncio.ensure_future(fetch(t, server.url + "/b/k", "PUT", {}, b"x" * 30_000_000))
        await asyncio.to_thread(server.first_request.wait, 10)
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.1)
        return connections_to(server)

    with deaf(server):
        assert run(once(further(), work)) == 0
