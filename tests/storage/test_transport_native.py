"""What the transport of our own does beyond the contract."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from model.errors import RunBroken
from storage.transport import Broken, NotSent
from storage.transport_native import NativeTransport
from tests.storage.certificates import Authority
from tests.storage.scripted_server import Exchange, ScriptedServer, reply, response, scripted_server

Run = Callable[[Coroutine[Any, Any, Any]], Any]
IDLE_S = 0.6


def with_transport(work: Callable[[NativeTransport], Coroutine[Any, Any, Any]], **options: Any) -> Any:
    async def main() -> Any:
        transport = NativeTransport(**{"connect_timeout_s": 5, "idle_timeout_s": 5, **options})
        try:
            return await work(transport)
        finally:
            await transport.close()

    return main()


@contextmanager
def slow_handshake(context: ssl.SSLContext, pause_s: float) -> Iterator[ScriptedServer]:
    """A TLS server that lets its clients wait for the handshake."""
    wrap = context.wrap_socket

    def late(*given: Any, **more: Any) -> ssl.SSLSocket:
        threading.Event().wait(pause_s)
        return wrap(*given, **more)

    context.wrap_socket = late  # type: ignore[method-assign]
    with scripted_server(context) as server:
        yield server


async def body_of(transport: NativeTransport, url: str, method: str = "GET", body: Any = None) -> bytes:
    async with transport.open(method, url, {}, body) as answer:
        return bytes(await answer.read_all())


async def pieces_of(transport: NativeTransport, url: str, most: int) -> list[bytes]:
    found = []
    async with transport.open("GET", url, {}) as answer:
        while (piece := await answer.read(most)) is not None:
            found.append(bytes(piece))
    return found


def test_an_interim_answer_is_passed_over(server: ScriptedServer, run: Run) -> None:
    server.scripts = [lambda exchange: exchange.send(b"HTTP/1.1 100 Continue\r\n\r\n" + response(200, {}, b"final"))]
    assert run(with_transport(lambda t: body_of(t, server.url + "/b/k"))) == b"final"


def test_a_head_may_arrive_byte_by_byte(server: ScriptedServer, run: Run) -> None:
    def drip(exchange: Exchange) -> None:
        for byte in response(200, {}, b"body"):
            exchange.send(bytes([byte]))

    server.scripts = [drip]
    assert run(with_transport(lambda t: body_of(t, server.url + "/b/k"))) == b"body"


@pytest.mark.parametrize("most", [1_000, 300_000, 5_000_000])
def test_a_body_without_a_length_ends_with_its_connection(server: ScriptedServer, run: Run, most: int) -> None:
    whole = bytes(range(256)) * 8_000

    def open_end(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\n\r\n" + whole)
        exchange.close()

    server.scripts = [open_end]
    found = run(with_transport(lambda t: pieces_of(t, server.url + "/b/k", most)))
    assert b"".join(found) == whole
    assert {len(piece) for piece in found[:-1]} <= {most}


def test_a_chunked_body_of_many_windows_is_read_in_pieces(server: ScriptedServer, run: Run) -> None:
    whole = bytes(range(256)) * 8_000

    def chunked(exchange: Exchange) -> None:
        exchange.send(response(200, {"Transfer-Encoding": "chunked"}))
        for start in range(0, len(whole), 70_000):
            piece = whole[start : start + 70_000]
            exchange.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        exchange.send(b"0\r\n\r\n")

    server.scripts = [chunked]
    found = run(with_transport(lambda t: pieces_of(t, server.url + "/b/k", 100_000)))
    assert [len(piece) for piece in found] == [100_000] * 20 + [48_000]
    assert b"".join(found) == whole


def test_bytes_that_belong_to_no_request_cost_the_connection(server: ScriptedServer, run: Run) -> None:
    server.scripts = [lambda exchange: exchange.send(response(200, {}, b"first") + b"HTTP/1.1 200 OK\r\n\r\n")]
    server.fallback = reply(200, {}, b"second")

    async def both(transport: NativeTransport) -> list[bytes]:
        return [await body_of(transport, server.url + "/b/k") for _ in range(2)]

    assert run(with_transport(both)) == [b"first", b"second"]
    assert [request.connection for request in server.requests] == [0, 1]


def test_what_is_no_http_is_broken(server: ScriptedServer, run: Run) -> None:
    server.scripts = [lambda exchange: exchange.send(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")]
    with pytest.raises(Broken, match="status line"):
        run(with_transport(lambda t: body_of(t, server.url + "/b/k")))


def test_a_whole_body_may_take_longer_than_the_idle_time_as_long_as_it_moves(server: ScriptedServer, run: Run) -> None:
    def drip(exchange: Exchange) -> None:
        exchange.send(response(200, {"Content-Length": "50"}))
        for _ in range(5):
            pause.wait(IDLE_S * 0.4)
            exchange.send(b"x" * 10)

    pause = threading.Event()
    server.scripts = [drip]
    assert run(with_transport(lambda t: body_of(t, server.url + "/b/k"), idle_timeout_s=IDLE_S)) == b"x" * 50


def test_a_whole_upload_may_take_longer_than_the_idle_time_as_long_as_it_moves(
    server: ScriptedServer, run: Run
) -> None:
    size = 40_000_000

    def sip(exchange: Exchange) -> None:
        taken = 0
        while taken < size:
            taken += len(exchange.read_some(1 << 16))
            if taken % (1 << 23) < (1 << 16):
                pause.wait(IDLE_S * 0.4)
        exchange.send(response(200, {}, b"taken"))

    pause = threading.Event()
    server.scripts = [sip]
    found = run(with_transport(lambda t: body_of(t, server.url + "/b/k", "PUT", b"x" * size), idle_timeout_s=IDLE_S))
    assert found == b"taken"


def test_windows_arrive_whole_over_tls(run: Run, tmp_path: Path) -> None:
    authority = Authority("ours")
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(authority.pem)
    whole = bytes(range(256)) * 20_000
    with scripted_server(authority.server_context(tmp_path)) as server:
        server.fallback = reply(200, {}, whole)
        found = run(with_transport(lambda t: pieces_of(t, server.url + "/b/k", 262_144), ca_bundle=str(bundle)))
    assert {len(piece) for piece in found[:-1]} == {262_144}
    assert b"".join(found) == whole


def test_an_idle_connection_holds_no_body(server: ScriptedServer, run: Run) -> None:
    server.fallback = reply(200, {}, b"x" * 1_000_000)

    async def held(transport: NativeTransport) -> int:
        await body_of(transport, server.url + "/b/k")
        connection = transport.idle(server.url)
        assert connection is not None
        return sum(len(value) for value in (connection._body, connection._ahead) if value is not None)

    assert run(with_transport(held)) == 0


def test_connections_of_a_burst_are_closed_once_nobody_has_used_them_for_long(
    server: ScriptedServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.transport_native._IDLE_CONNECTION_S", 0.2)

    async def work(transport: NativeTransport) -> list[bool]:
        burst = [await transport.connect("http", server.url.removeprefix("http://")) for _ in range(3)]
        for connection in burst:
            transport.keep(connection)
        await asyncio.sleep(0.3)
        transport.keep(await transport.connect("http", server.url.removeprefix("http://")))
        await asyncio.sleep(0.1)
        return [connection.is_open for connection in burst]

    assert run(with_transport(work)) == [False] * 3


def test_close_ends_what_is_under_way(server: ScriptedServer, run: Run) -> None:
    server.fallback = lambda exchange: exchange.wait_for_client_to_leave()

    async def close(transport: NativeTransport) -> None:
        task = asyncio.ensure_future(body_of(transport, server.url + "/b/k"))
        await asyncio.to_thread(server.first_request.wait, 10)
        await transport.close()
        with pytest.raises(Broken):
            await task

    run(with_transport(close))


def test_a_yes_in_the_middle_of_an_upload_leaves_the_connection_unused(server: ScriptedServer, run: Run) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"x" * 10
        await asyncio.sleep(0.3)

    def early(exchange: Exchange) -> None:
        exchange.send(response(403, {}, b"no"))
        exchange.read_body()

    server.scripts = [early]
    server.fallback = reply(200, {}, b"second")

    async def both(transport: NativeTransport) -> list[bytes]:
        async with transport.open("PUT", server.url + "/a", {"content-length": "1000"}, slow()) as answer:
            first = bytes(await answer.read_all())
        return [first, await body_of(transport, server.url + "/b", "PUT", b"y" * 1000)]

    assert run(with_transport(both)) == [b"no", b"second"]
    assert [request.target for request in server.requests] == ["/a", "/b"]


def test_an_exchange_has_its_deadline_however_long_connecting_took(run: Run, tmp_path: Path) -> None:
    authority = Authority("ours")
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(authority.pem)
    with slow_handshake(authority.server_context(tmp_path), IDLE_S) as server:
        server.fallback = lambda exchange: exchange.wait_for_client_to_leave()
        with pytest.raises(Broken, match="in time"):
            run(with_transport(lambda t: body_of(t, server.url + "/b/k"), idle_timeout_s=IDLE_S, ca_bundle=str(bundle)))


def test_a_connection_made_after_the_transport_was_closed_is_not_used(run: Run, tmp_path: Path) -> None:
    authority = Authority("ours")
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(authority.pem)

    async def close(transport: NativeTransport) -> None:
        task = asyncio.ensure_future(body_of(transport, server.url + "/b/k"))
        await asyncio.sleep(IDLE_S / 2)
        await transport.close()
        with pytest.raises(NotSent):
            await task

    with slow_handshake(authority.server_context(tmp_path), IDLE_S) as server:
        run(with_transport(close, ca_bundle=str(bundle)))
    assert server.requests == []


def test_a_bundle_that_cannot_be_read_ends_the_run(run: Run, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_text("no certificate")
    with pytest.raises(RunBroken, match=r"certificates in .* cannot be read"):
        run(with_transport(lambda t: body_of(t, "https://127.0.0.1:9/b/k"), ca_bundle=str(bundle)))
