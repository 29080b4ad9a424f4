"""The contract of `storage.transport`, kept by every implementation of it."""

from __future__ import annotations

import asyncio
import gzip
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from storage.transport import Broken, NotSent, Transport
from tests.storage.certificates import Authority
from tests.storage.exchanges import fetch, once, pieces
from tests.storage.scripted_server import Exchange, ScriptedServer, reply, response, scripted_server

Make = Callable[..., Transport]
Run = Callable[[Coroutine[Any, Any, Any]], Any]

MISSING_AFTER_S = 1.0
"""Short enough for a test, long enough for a busy machine to answer in."""


@contextmanager
def full_backlog() -> Iterator[int]:
    """The port of a socket that takes no more connections: a connect to it never ends."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            fillers.append(filler)
        yield port
        for filler in fillers:
            filler.close()


def cut_short(exchange: Exchange) -> None:
    """Two thirds of the body promised, then the end of the connection."""
    exchange.read_body()
    exchange.send(response(200, {"Content-Length": "150000"}) + b"x" * 100_000)
    exchange.close()


def stall(exchange: Exchange) -> None:
    """Two thirds of the body promised, then silence."""
    exchange.read_body()
    exchange.send(response(200, {"Content-Length": "150000"}) + b"x" * 100_000)
    exchange.wait_for_client_to_leave()


def deaf(exchange: Exchange) -> None:
    """Reads nothing of the body and says nothing."""
    threading.Event().wait(10)


def silence(exchange: Exchange) -> None:
    exchange.read_body()
    exchange.wait_for_client_to_leave()


class TestRequestsOnTheWire:
    @pytest.mark.parametrize(
        "path",
        [
            "/b/a//b",
            "/b/a%2Bb",
            "/b/a%3Fb",
            "/b/a%0Ab",
            "/b/a%20b",
            "/b/%C3%A4%E2%98%83",
            "/b/dir/",
            "/b/a%25b",
            "/b/a%5Cb",
            "/b/a~b-c_d.e",
            "/b/a%27%28%29%2A%21",
            "/b/.../x",
            "/b/..x/.y",
        ],
    )
    def test_a_path_arrives_as_it_was_given(self, transport: Make, server: ScriptedServer, run: Run, path: str) -> None:
        run(once(transport(), lambda t: fetch(t, server.url + path)))
        assert server.requests[0].target == path

    @pytest.mark.parametrize("query", ["versionId=a%2Fb%2B", "partNumber=3&uploadId=x_y.z-%7E", "uploads"])
    def test_a_query_arrives_as_it_was_given(
        self, transport: Make, server: ScriptedServer, run: Run, query: str
    ) -> None:
        run(once(transport(), lambda t: fetch(t, f"{server.url}/b/k?{query}")))
        assert server.requests[0].target == f"/b/k?{query}"

    def test_headers_arrive_as_they_were_given(self, transport: Make, server: ScriptedServer, run: Run) -> None:
        given = {"x-amz-meta-a": "b  c", "if-match": '"abc"', "content-type": "text/x; a=b", "expires": "0"}
        run(once(transport(), lambda t: fetch(t, server.url + "/b/k", "PUT", given, b"abc")))
        got = server.requests[0]
        assert {name: got.header(name) for name in given} == given

    def test_the_host_header_is_the_urls(self, transport: Make, server: ScriptedServer, run: Run) -> None:
        run(once(transport(), lambda t: fetch(t, server.url + "/b/k")))
        assert server.requests[0].header("host") == f"127.0.0.1:{server.port}"

    @pytest.mark.parametrize("body", [b"", b"abc", bytearray(b"abcd"), memoryview(b"abcde"), b"x" * 3_000_000])
    def test_a_whole_body_has_its_content_length(
        self, transport: Make, server: ScriptedServer, run: Run, body: Any
    ) -> None:
        run(once(transport(), lambda t: fetch(t, server.url + "/b/k", "PUT", {}, body)))
        got = server.requests[0]
        assert (got.header("content-length"), got.header("transfer-encoding")) == (str(len(body)), None)
        assert got.body == bytes(body)

    @pytest.mark.parametrize("body", [b"", b"abc"])
    def test_a_content_length_given_with_a_whole_body_is_sent_once(
        self, transport: Make, server: ScriptedServer, run: Run, body: bytes
    ) -> None:
        given = {"content-length": str(len(body))}
        run(once(transport(), lambda t: fetch(t, server.url + "/b/k", "PUT", given, body)))
        assert server.requests[0].header("content-length") == str(len(body))

    @pytest.mark.parametrize("parts", [(b"abc", b"de"), (b"x" * 300_000,) * 10, ()])
    def test_a_streamed_body_has_the_content_length_given_and_is_never_chunked(
        self, transport: Make, server: ScriptedServer, run: Run, parts: tuple[bytes, ...]
    ) -> None:
        whole = b"".join(parts)
        given = {"content-length": str(len(whole))}
        run(once(transport(), lambda t: fetch(t, server.url + "/b/k", "PUT", given, pieces(*parts))))
        got = server.requests[0]
        assert (got.header("content-length"), got.header("transfer-encoding")) == (str(len(whole)), None)
        assert got.body == whole

    def test_a_get_has_no_body(self, transport: Make, server: ScriptedServer, run: Run) -> None:
        run(once(transport(), lambda t: fetch(t, server.url + "/b/k")))
        got = server.requests[0]
        assert (got.header("content-length"), got.header("transfer-encoding")) in [(None, None), ("0", None)]

    def test_proxies_of_the_environment_are_not_used(
        self, transport: Make, server: ScriptedServer, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:1")
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        status, _, _ = run(once(transport(), lambda t: fetch(t, server.url + "/b/k")))
        assert (status, server.requests[0].target) == (200, "/b/k")


class TestReplies:
    def test_a_body_comes_whole(self, transport: Make, server: ScriptedServer, run: Run) -> None:
        server.fallback = reply(200, {"ETag": '"e"', "X-Amz-Meta-A": "b"}, b"x" * 1_000_000)
        status, headers, body = run(once(transport(), lambda t: fetch(t, server.url + "/b/k")))
        assert (status, headers["etag"], headers["x-amz-meta-a"], body) == (200, '"e"', "b", b"x" * 1_000_000)

    def test_read_gives_exactly_what_is_asked_but_for_the_last_piece(
        self, transport: Make, server: ScriptedServer, run: Run
    ) -> None:
        whole = bytes(range(256)) * 2_000

        def drip(exchange: Exchange) -> None:
            exchange.read_body()
            exchange.send(response(200, {"Content-Length": str(len(whole))}))
            for start in range(0, len(whole), 70_000):
                exchange.send(whole[start : start + 70_000])

        async def read(t: Transport) -> list[bytes]:
            found = []
            async with t.open("GET", server.url + "/b/k", {}) as answer:
                while (piece := await answer.read(100_000)) is not None:
                    found.append(bytes(piece))
                assert await answer.read(100_000) is None
            return found

        server.fallback = drip
        found = run(once(transport(), read))
        assert [len(piece) for piece in found] == [100_000] * 5 + [12_000]
        assert b"".join(found) == whole

    def test_an_empty_body_is_none_at_once(self, transport: Make, server: ScriptedServer, run: Run) -> None:
        async def read(t: Transport) -> Any:
            async with t.open("GET", server.url + "/b/k", {}) as answer:
                return await answer.read(10)

        assert run(once(transport(), read)) is None

    def test_the_rest_of_a_body_is_read_whole(self, transport: Make, server: ScriptedServer, run: Run) -> None:
        server.fallback = reply(200, {}, b"0123456789")

        async def read(t: Transport) -> tuple[bytes, bytes]:
            async with t.open("GET", server.url + "/b/k", {}) as answer:
                return bytes(await answer.read(4) or b""), bytes(await answer.read_all())

        assert run(once(transport(), read)) == (b"0123", b"456789")

    def test_a_chunked_answer_is_read(self, transport: Make, server: ScriptedServer, run: Run) -> None:
        chunked = response(404, {"Transfer-Encoding": "chunked"}) + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        server.scripts = [lambda exchange: exchange.send(chunked)]
        status, _, body = run(once(transport(), lambda t: fetch(t, server.url + "/b/k")))
        assert (status, body) == (404, b"abcde")

    def test_a_head_has_headers_and_no_body(self, transport: Make, server: ScriptedServer, run: Run) -> None:
        server.fallback = reply(200, {"Content-Length": "5000", "ETag": '"e"'})

        async def twice(t: Transport) -> list[Any]:
            return [await fetch(t, server.url + "/b/k", "HEAD") for _ in range(2)]

        for status, headers, body in run(once(transport(), twice)):
            assert (status, headers["content-length"], headers["etag"], body) == (200, "5000", '"e"', b"")

    @pytest.mark.parametrize("status", [301, 302, 307, 308])
    def test_a_redirect_is_handed_over(self, transport: Make, server: ScriptedServer, run: Run, status: int) -> None:
        server.fallback = reply(status, {"Location": server.url + "/elsewhere"})
        got, headers, _ = run(once(transport(), lambda t: fetch(t, server.url + "/b/k")))
        assert (got, headers["location"], len(server.requests)) == (status, server.url + "/elsewhere", 1)

    def test_a_content_encoding_is_left_alone(self, transport: Make, server: ScriptedServer, run: Run) -> None:
        packed = gzip.compress(b"hello" * 100)
        server.fallback = reply(200, {"Content-Encoding": "gzip"}, packed)

        async def read(t: Transport) -> tuple[Any, Any, Any]:
            whole = await fetch(t, server.url + "/b/k")
            async with t.open("GET", server.url + "/b/k", {}) as answer:
                return whole[1]["content-encoding"], whole[2], bytes(await answer.read(1 << 20) or b"")

        assert run(once(transport(), read)) == ("gzip", packed, packed)

    def test_repeated_headers_are_joined_by_a_comma(self, transport: Make, server: ScriptedServer, run: Run) -> None:
        def twice(exchange: Exchange) -> None:
            exchange.send(b"HTTP/1.1 200 OK\r\nX-Amz-Meta-A: 1\r\nx-amz-meta-a: 2\r\nContent-Length: 0\r\n\r\n")

        server.scripts = [twice]
        _, headers, _ = run(once(transport(), lambda t: fetch(t, server.url + "/b/k")))
        assert [part.strip() for part in headers["x-amz-meta-a"].split(",")] == ["1", "2"]

    def test_a_slow_body_that_keeps_coming_is_no_stall(self, transport: Make, server: ScriptedServer, run: Run) -> None:
        def drip(exchange: Exchange) -> None:
            exchange.send(response(200, {"Content-Length": "60"}))
            for _ in range(6):
                exchange.send(b"x" * 10)
                pause.wait(MISSING_AFTER_S * 0.4)

        pause = threading.Event()
        server.scripts = [drip]

        async def read(t: Transport) -> bytes:
            found = b""
            async with t.open("GET", server.url + "/b/k", {}) as answer:
                while (piece := await answer.read(10)) is not None:
                    found += bytes(piece)
            return found

        assert run(once(transport(idle_timeout_s=MISSING_AFTER_S), read)) == b"x" * 60


class TestFailures:
    def test_a_refused_connection_is_not_sent(self, transport: Make, run: Run) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{taken.getsockname()[1]}/b/k"
            with pytest.raises(NotSent):
                run(once(transport(), lambda t: fetch(t, url, "PUT", {}, b"abc")))

    def test_a_name_that_does_not_resolve_is_not_sent(self, transport: Make, run: Run) -> None:
        with pytest.raises(NotSent):
            run(once(transport(), lambda t: fetch(t, "http://no-such-host.invalid/b/k", "PUT", {}, b"abc")))

    def test_a_connection_not_made_in_time_is_not_sent(self, transport: Make, run: Run) -> None:
        with full_backlog() as port, pytest.raises(NotSent):
            run(once(transport(connect_timeout_s=0.5), lambda t: fetch(t, f"http://127.0.0.1:{port}/b/k")))

    @pytest.mark.parametrize("method", ["GET", "PUT"])
    def test_no_answer_in_time_is_broken(self, transport: Make, server: ScriptedServer, run: Run, method: str) -> None:
        server.fallback = silence
        body = b"abc" if method == "PUT" else None
        with pytest.raises(Broken):
            run(
                once(
                    transport(idle_timeout_s=0.5, connect_timeout_s=0.5),
                    lambda t: fetch(t, server.url, method, {}, body),
                )
            )

    def test_no_answer_to_a_streamed_body_in_time_is_broken(
        self, transport: Make, server: ScriptedServer, run: Run
    ) -> None:
        server.fallback = silence
        given = {"content-length": "3"}
        with pytest.raises(Broken):
            run(
                once(
                    transport(idle_timeout_s=0.5, connect_timeout_s=0.5),
                    lambda t: fetch(t, server.url + "/b/k", "PUT", given, pieces(b"abc")),
                )
            )

    def test_a_server_that_stops_reading_is_broken(self, transport: Make, server: ScriptedServer, run: Run) -> None:
        server.fallback = deaf
        piece = b"x" * 16_384
        given = {"content-length": str(4_000 * len(piece))}
        with pytest.raises(Broken):
            run(
                once(
                    transport(idle_timeout_s=0.5, connect_timeout_s=0.5),
                    lambda t: fetch(t, server.url + "/b/k", "PUT", given, pieces(*[piece] * 4_000)),
                )
            )

    @pytest.mark.parametrize("how", [cut_short, stall])
    def test_a_body_that_stops_is_broken_for_pieces(
        self, transport: Make, server: ScriptedServer, run: Run, how: Callable[[Exchange], None]
    ) -> None:
        server.fallback = how

        async def read(t: Transport) -> None:
            async with t.open("GET", server.url + "/b/k", {}) as answer:
                with pytest.raises(Broken):
                    while await answer.read(7_000) is not None:
                        pass
                raise Broken("seen where it was read")

        with pytest.raises(Broken, match="seen where it was read"):
            run(once(transport(idle_timeout_s=0.5, connect_timeout_s=0.5), read))

    @pytest.mark.parametrize("how", [cut_short, stall])
    def test_a_body_that_stops_is_broken_for_the_whole(
        self, transport: Make, server: ScriptedServer, run: Run, how: Callable[[Exchange], None]
    ) -> None:
        server.fallback = how
        with pytest.raises(Broken):
            run(once(transport(idle_timeout_s=0.5, connect_timeout_s=0.5), lambda t: fetch(t, server.url + "/b/k")))

    def test_a_connection_closed_without_an_answer_is_broken(
        self, transport: Make, server: ScriptedServer, run: Run
    ) -> None:
        def hang_up(exchange: Exchange) -> None:
            exchange.read_body()
            exchange.close()

        server.fallback = hang_up
        with pytest.raises(Broken):
            run(once(transport(), lambda t: fetch(t, server.url + "/b/k", "PUT", {}, b"abc")))
        assert [request.body for request in server.requests] == [b"abc"]

    def test_a_failure_names_neither_the_url_nor_a_header(
        self, transport: Make, server: ScriptedServer, run: Run
    ) -> None:
        def hang_up(exchange: Exchange) -> None:
            exchange.close()

        server.fallback = hang_up
        with pytest.raises(Broken) as failure:
            run(once(transport(), lambda t: fetch(t, server.url + "/b/secret-key", "GET", {"authorization": "hidden"})))
        assert "secret-key" not in str(failure.value)
        assert "hidden" not in str(failure.value)


class TestUploads:
    def test_a_refusal_in_the_middle_of_an_upload_is_handed_over(
        self, transport: Make, server: ScriptedServer, run: Run
    ) -> None:
        def refuse(exchange: Exchange) -> None:
            exchange.read_some(1 << 16)
            exchange.send(response(503, {"Connection": "close"}, b"<Code>SlowDown</Code>"))
            exchange.wait_for_client_to_leave()

        async def slowly() -> AsyncIterator[bytes]:
            for _ in range(40):
                yield b"x" * 100_000
                await asyncio.sleep(0.02)

        server.scripts = [refuse]
        given = {"content-length": "4000000"}
        status, _, body = run(once(transport(), lambda t: fetch(t, server.url + "/b/k", "PUT", given, slowly())))
        assert (status, body) == (503, b"<Code>SlowDown</Code>")

    @pytest.mark.parametrize("error", [ValueError("no"), RuntimeError("no"), TimeoutError("no"), ConnectionError("no")])
    def test_an_exception_of_the_body_comes_out_as_it_is(
        self, transport: Make, server: ScriptedServer, run: Run, error: Exception
    ) -> None:
        async def failing() -> AsyncIterator[bytes]:
            yield b"abc"
            raise error

        given = {"content-length": "6"}
        with pytest.raises(type(error)) as raised:
            run(once(transport(), lambda t: fetch(t, server.url + "/b/k", "PUT", given, failing())))
        assert raised.value is error

    def test_a_body_that_failed_does_not_spoil_the_next_request(
        self, transport: Make, server: ScriptedServer, run: Run
    ) -> None:
        async def failing() -> AsyncIterator[bytes]:
            yield b"abc"
            raise ValueError

        async def both(t: Transport) -> Any:
            with pytest.raises(ValueError):
                await fetch(t, server.url + "/b/k", "PUT", {"content-length": "6"}, failing())
            return await fetch(t, server.url + "/b/k", "PUT", {}, b"whole")

        status, _, _ = run(once(transport(), both))
        # the failed one may be noticed by the server only now
        assert (status, [request.body for request in server.requests if request.body]) == (200, [b"whole"])

    def test_a_refusal_that_ends_the_connection_is_handed_over(
        self, transport: Make, server: ScriptedServer, run: Run
    ) -> None:
        def refuse(exchange: Exchange) -> None:
            exchange.read_some(1 << 16)
            exchange.send(response(503, {"Connection": "close"}, b"<Code>SlowDown</Code>"))
            exchange.close()

        async def slowly() -> AsyncIterator[bytes]:
            for _ in range(40):
                yield b"x" * 100_000
                await asyncio.sleep(0.02)

        server.scripts = [refuse]
        given = {"content-length": "4000000"}
        status, _, body = run(once(transport(), lambda t: fetch(t, server.url + "/b/k", "PUT", given, slowly())))
        assert (status, body) == (503, b"<Code>SlowDown</Code>")

    def test_a_body_shorter_than_its_content_length_is_an_error(
        self, transport: Make, server: ScriptedServer, run: Run
    ) -> None:
        given = {"content-length": "6"}
        with pytest.raises(Broken):
            run(
                once(
                    transport(idle_timeout_s=MISSING_AFTER_S, connect_timeout_s=MISSING_AFTER_S),
                    lambda t: fetch(t, server.url + "/b/k", "PUT", given, pieces(b"abc")),
                )
            )

    def test_an_upload_may_take_longer_than_the_idle_time(
        self, transport: Make, server: ScriptedServer, run: Run
    ) -> None:
        async def slowly() -> AsyncIterator[bytes]:
            for _ in range(6):
                await asyncio.sleep(MISSING_AFTER_S * 0.4)
                yield b"x" * 1000

        given = {"content-length": "6000"}
        timeouts = {"connect_timeout_s": MISSING_AFTER_S, "idle_timeout_s": MISSING_AFTER_S}
        status, _, _ = run(once(transport(**timeouts), lambda t: fetch(t, server.url + "/b/k", "PUT", given, slowly())))
        assert (status, len(server.requests[0].body)) == (200, 6000)

    def test_a_reply_is_teed_into_an_upload(self, transport: Make, server: ScriptedServer, run: Run) -> None:
        server.scripts = [reply(200, {}, b"x" * 2_000_000)]

        async def tee(t: Transport) -> int:
            async with t.open("GET", server.url + "/from", {}) as answer:

                async def passing() -> AsyncIterator[Any]:
                    while (piece := await answer.read(256 * 1024)) is not None:
                        yield piece

                status, _, _ = await fetch(t, server.url + "/to", "PUT", {"content-length": "2000000"}, passing())
                return status

        assert run(once(transport(), tee)) == 200
        assert server.requests[1].body == b"x" * 2_000_000

    def test_a_reply_that_stalls_under_an_upload_is_broken_where_it_is_read(
        self, transport: Make, server: ScriptedServer, run: Run
    ) -> None:
        server.scripts = [stall]
        seen: list[BaseException] = []

        async def tee(t: Transport) -> None:
            async with t.open("GET", server.url + "/from", {}) as answer:

                async def passing() -> AsyncIterator[Any]:
                    try:
                        while (piece := await answer.read(10_000)) is not None:
                            yield piece
                    except Broken as error:
                        seen.append(error)
                        raise ValueError("the source stalled") from None

                await fetch(t, server.url + "/to", "PUT", {"content-length": "150000"}, passing())

        with pytest.raises(ValueError, match="the source stalled"):
            run(once(transport(idle_timeout_s=0.5, connect_timeout_s=0.5), tee))
        assert [type(error) for error in seen] == [Broken]


class TestConnections:
    @pytest.mark.parametrize("size", [0, 100_000])
    def test_a_connection_is_used_again(self, transport: Make, server: ScriptedServer, run: Run, size: int) -> None:
        server.fallback = reply(200, {}, b"x" * size)

        async def many(t: Transport) -> None:
            for _ in range(5):
                await fetch(t, server.url + "/b/k")

        run(once(transport(), many))
        assert {request.connection for request in server.requests} == {0}

    def test_a_connection_is_used_again_after_a_streamed_upload(
        self, transport: Make, server: ScriptedServer, run: Run
    ) -> None:
        async def many(t: Transport) -> None:
            for _ in range(5):
                await fetch(t, server.url + "/b/k", "PUT", {"content-length": "600000"}, pieces(*[b"x" * 200_000] * 3))

        run(once(transport(), many))
        assert {request.connection for request in server.requests} == {0}

    @pytest.mark.parametrize("method", ["GET", "PUT"])
    def test_a_request_lost_with_a_connection_used_before_is_not_sent_twice(
        self, transport: Make, server: ScriptedServer, run: Run, method: str
    ) -> None:
        def hang_up(exchange: Exchange) -> None:
            exchange.read_body()
            exchange.close()

        async def both(t: Transport) -> None:
            await fetch(t, server.url + "/b/first")
            with pytest.raises(Broken):
                await fetch(t, server.url + "/b/second", method, {}, b"abc" if method == "PUT" else None)

        server.scripts = [reply(), hang_up]
        run(once(transport(), both))
        assert [request.target for request in server.requests] == ["/b/first", "/b/second"]

    def test_many_requests_run_at_once(self, transport: Make, server: ScriptedServer, run: Run) -> None:
        server.fallback = reply(200, {}, b"x" * 10_000)

        async def many(t: Transport) -> list[Any]:
            return await asyncio.gather(*(fetch(t, f"{server.url}/b/{number}") for number in range(30)))

        answers = run(once(transport(), many))
        assert [(status, len(body)) for status, _, body in answers] == [(200, 10_000)] * 30
        assert sorted(request.target for request in server.requests) == sorted(f"/b/{n}" for n in range(30))

    @pytest.mark.parametrize("headers", [{}, {"Transfer-Encoding": "chunked"}])
    def test_a_reply_left_unread_costs_its_connection_and_nothing_else(
        self, transport: Make, server: ScriptedServer, run: Run, headers: dict[str, str]
    ) -> None:
        body = b"1000\r\n" + b"x" * 0x1000 + b"\r\n0\r\n\r\n" if headers else b"x" * 5_000_000
        server.scripts = [reply(200, headers, body)]
        server.fallback = reply(200, {}, b"second")

        async def leave(t: Transport) -> Any:
            async with t.open("GET", server.url + "/b/k", {}) as answer:
                await answer.read(10)
            return await fetch(t, server.url + "/b/k")

        _, _, found = run(once(transport(), leave))
        assert found == b"second"
        assert len(server.requests) == 2

    def test_a_connection_the_server_closed_while_idle_is_never_a_wrong_answer(
        self, transport: Make, server: ScriptedServer, run: Run
    ) -> None:
        def answer_and_close(exchange: Exchange) -> None:
            exchange.read_body()
            exchange.send(response(200, {}, b"first"))
            exchange.close()

        server.scripts = [answer_and_close]
        server.fallback = reply(200, {}, b"second")

        async def both(t: Transport) -> Any:
            await fetch(t, server.url + "/b/k")
            await asyncio.sleep(0.3)
            try:
                return (await fetch(t, server.url + "/b/k", "PUT", {}, b"abc"))[2]
            except (NotSent, Broken):
                return b"second"

        assert run(once(transport(), both)) == b"second"
        assert sum(request.body == b"abc" for request in server.requests) <= 1

    def test_a_cancelled_request_is_cancelled_and_its_connection_not_used_again(
        self, transport: Make, server: ScriptedServer, run: Run
    ) -> None:
        server.scripts = [silence]
        server.fallback = reply(200, {}, b"second")

        async def cancel(t: Transport) -> Any:
            task = asyncio.ensure_future(fetch(t, server.url + "/b/k", "PUT", {}, b"first"))
            await asyncio.to_thread(server.first_request.wait, 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return await fetch(t, server.url + "/b/k")

        assert run(once(transport(idle_timeout_s=2), cancel))[2] == b"second"
        assert server.requests[1].connection != server.requests[0].connection

    def test_a_request_cancelled_in_its_body_is_cancelled(
        self, transport: Make, server: ScriptedServer, run: Run
    ) -> None:
        async def endless() -> AsyncIterator[bytes]:
            while True:
                yield b"x" * 1000
                await asyncio.sleep(0.05)

        async def cancel(t: Transport) -> Any:
            given = {"content-length": "100000000"}
            task = asyncio.ensure_future(fetch(t, server.url + "/b/k", "PUT", given, endless()))
            await asyncio.to_thread(server.first_request.wait, 10)
            await asyncio.sleep(0.2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return await fetch(t, server.url + "/b/next")

        run(once(transport(idle_timeout_s=2), cancel))
        assert server.requests[-1].target == "/b/next"

    def test_it_may_be_closed_twice(self, transport: Make, server: ScriptedServer, run: Run) -> None:
        async def twice(t: Transport) -> None:
            await fetch(t, server.url + "/b/k")
            await t.close()
            await t.close()

        run(once(transport(), twice))


class TestTls:
    def test_a_bundle_of_several_authorities_is_trusted_whole(self, transport: Make, run: Run, tmp_path: Path) -> None:
        other, ours = Authority("other"), Authority("ours")
        bundle = tmp_path / "bundle.pem"
        bundle.write_bytes(other.pem + ours.pem)
        with scripted_server(ours.server_context(tmp_path)) as server:
            server.fallback = reply(200, {}, b"x" * 500_000)
            _, _, body = run(once(transport(ca_bundle=str(bundle)), lambda t: fetch(t, server.url + "/b/k")))
        assert len(body) == 500_000

    def test_a_server_of_an_authority_nobody_trusts_gets_nothing(
        self, transport: Make, run: Run, tmp_path: Path
    ) -> None:
        with scripted_server(Authority("ours").server_context(tmp_path)) as server:
            with pytest.raises((NotSent, Broken)):
                run(once(transport(), lambda t: fetch(t, server.url + "/b/k", "PUT", {}, b"abc")))
            assert server.requests == []
