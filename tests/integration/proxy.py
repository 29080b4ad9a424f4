"""An HTTP reverse proxy in front of a real S3 server: counts requests, and disturbs those a test chooses.

The Host header is passed on as it came, so signatures stay valid. Bodies stream through.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import count
from urllib.parse import parse_qs, unquote, urlsplit

from tests.fixtures.s3 import S3Server

_CHUNK = 1 << 16
_JOIN_S = 10.0
_POLL_S = 0.02


@dataclass(frozen=True)
class Request:
    """One request as the server's user sees it; `key` is decoded and empty for requests to a bucket."""

    method: str
    bucket: str
    key: str
    query: dict[str, str]
    range: str | None = None

    @property
    def is_probe(self) -> bool:
        """Whether it only finds out what the server can do."""
        return ".s3ferry-probe" in self.key

    @property
    def is_part(self) -> bool:
        return self.method == "PUT" and "partNumber" in self.query

    @property
    def is_complete(self) -> bool:
        return self.method == "POST" and "uploadId" in self.query

    @property
    def is_create(self) -> bool:
        return self.method == "POST" and "uploads" in self.query


@dataclass(frozen=True)
class Effect:
    """What is done to a request. Without any of these it passes.

    `refuse`: (status, S3 error code) instead of asking the server. `hold`: it is passed on when the event is set.
    `damage_request`, `damage_answer`: the first byte of the body is changed. `hold_answer`: the server has acted,
    and its answer goes on when the event is set.
    """

    refuse: tuple[int, str] | None = None
    hold: threading.Event | None = None
    damage_request: bool = False
    damage_answer: bool = False
    hold_answer: threading.Event | None = None


NO_EFFECT = Effect()
Rule = Callable[[Request], Effect | None]


def gate(matches: Callable[[Request], bool], passes: int) -> tuple[Rule, threading.Event]:
    """A rule that holds matching requests after the first `passes`, and the event that lets them all go."""
    opened, counted = threading.Event(), count(1)

    def rule(request: Request) -> Effect | None:
        if request.is_probe or not matches(request):
            return None
        return Effect(hold=opened) if next(counted) > passes else None

    return rule, opened


@dataclass
class Proxy:
    """`server` is the one behind, reached through the proxy. `seen` are the requests in the order they came."""

    server: S3Server
    seen: list[Request] = field(default_factory=list)
    rule: Rule | None = None

    def forget(self) -> None:
        """Start counting anew, without effects."""
        self.seen.clear()
        self.rule = None

    def asked(self, bucket: str) -> list[Request]:
        """The requests for objects of `bucket`; those that only find out what the server can do are left out."""
        return [
            request for request in list(self.seen) if request.bucket == bucket and request.key and not request.is_probe
        ]

    def reads(self, bucket: str) -> Counter[str]:
        """GETs of objects (whole or by range), by key."""
        return Counter(request.key for request in self.asked(bucket) if request.method == "GET" and not request.query)

    def writes(self, bucket: str) -> Counter[str]:
        """PUTs of whole objects, by key."""
        return Counter(request.key for request in self.asked(bucket) if request.method == "PUT" and not request.is_part)

    def parts(self, bucket: str) -> Counter[tuple[str, int]]:
        """PUTs of parts, by key and number."""
        return Counter(
            (request.key, int(request.query["partNumber"])) for request in self.asked(bucket) if request.is_part
        )

    def uploads(self, bucket: str) -> Counter[str]:
        """Multipart uploads created, by key."""
        return Counter(request.key for request in self.asked(bucket) if request.is_create)

    def effect(self, request: Request) -> Effect:
        self.seen.append(request)
        return (self.rule(request) if self.rule else None) or NO_EFFECT


@contextmanager
def proxy_before(server: S3Server) -> Iterator[Proxy]:
    """A proxy before `server` on a free loopback port, on a thread of its own."""
    host, port = urlsplit(server.endpoint_url).hostname or "", urlsplit(server.endpoint_url).port or 80
    loop = asyncio.new_event_loop()
    proxy = Proxy(server)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await _Connection(proxy, reader, writer, host, port).serve()
        writer.close()

    async def listen() -> asyncio.Server:
        return await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 20, backlog=512)

    thread = threading.Thread(target=loop.run_forever, name="proxy", daemon=True)
    thread.start()
    listener = asyncio.run_coroutine_threadsafe(listen(), loop).result()
    proxy.server = replace(server, endpoint_url=f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}")
    try:
        yield proxy
    finally:
        asyncio.run_coroutine_threadsafe(_end(listener), loop).result(_JOIN_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_JOIN_S)
        loop.close()


async def _end(listener: asyncio.Server) -> None:
    listener.close()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class _Connection:
    """One connection of a client, with one to the server behind it."""

    def __init__(
        self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int
    ) -> None:
        self._proxy = proxy
        self._reader = reader
        self._writer = writer
        self._address = host, port

    async def serve(self) -> None:
        server_reader, server_writer = await asyncio.open_connection(*self._address, limit=1 << 20)
        try:
            while await self._exchange(server_reader, server_writer):
                pass
        finally:
            server_writer.close()

    async def _exchange(self, server_reader: asyncio.StreamReader, server_writer: asyncio.StreamWriter) -> bool:
        """One request and its answer; False when the connection is over."""
        head = await _head(self._reader)
        request = _parse(head)
        effect = self._proxy.effect(request)
        if effect.hold is not None:
            await _until_set(effect.hold)
        if effect.refuse:
            await self._refuse(effect.refuse, head)
            return False
        server_writer.write(head)
        await server_writer.drain()
        if _header(head, b"expect"):
            # The server says 100 before it takes the body.
            self._writer.write(await _head(server_reader))
            await self._writer.drain()
        await _body(self._reader, server_writer, head, damaged=effect.damage_request, answer=False)
        answer = await _head(server_reader)
        if effect.hold_answer is not None:
            await _until_set(effect.hold_answer)
        self._writer.write(answer)
        bodiless = request.method == "HEAD" or answer.split(b" ", 2)[1] in (b"204", b"304")
        if not bodiless:
            await _body(server_reader, self._writer, answer, damaged=effect.damage_answer, answer=True)
        await self._writer.drain()
        return b"close" not in (_header(answer, b"connection") or b"").lower()

    async def _refuse(self, refusal: tuple[int, str], head: bytes) -> None:
        status, code = refusal
        xml = f"<Error><Code>{code}</Code><Message>said the proxy</Message></Error>".encode()
        await _drop(self._reader, head)
        fields = f"HTTP/1.1 {status} Refused\r\nContent-Type: application/xml\r\nConnection: close\r\n"
        self._writer.write(f"{fields}Content-Length: {len(xml)}\r\n\r\n".encode())
        if not head.startswith(b"HEAD "):
            self._writer.write(xml)
        await self._writer.drain()


async def _until_set(event: threading.Event) -> None:
    while not event.is_set():  # noqa: ASYNC110 - it is set by another thread
        await asyncio.sleep(_POLL_S)


async def _head(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


def _parse(head: bytes) -> Request:
    method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ", 2)
    parts = urlsplit(target)
    bucket, _, key = parts.path.removeprefix("/").partition("/")
    query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    query.pop("x-id", None)
    span = _header(head, b"range")
    return Request(method, bucket, unquote(key), query, span.decode() if span else None)


def _header(head: bytes, name: bytes) -> bytes | None:
    for line in head.split(b"\r\n")[1:]:
        given, _, value = line.partition(b":")
        if given.lower() == name:
            return value.strip()
    return None


async def _body(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes, *, damaged: bool, answer: bool
) -> None:
    """Passes one body on, by its length, in chunks, or (answers only) to the end of the connection."""
    length = _header(head, b"content-length")
    if length is not None:
        await _pass(reader, writer, int(length), damaged)
    elif b"chunked" in (_header(head, b"transfer-encoding") or b""):
        size = 1
        while size:
            line = await reader.readuntil(b"\r\n")
            writer.write(line)
            size = int(line.split(b";")[0], 16)
            await _pass(reader, writer, size + 2, damaged and size > 0)
            damaged = False
    elif answer:
        while piece := await reader.read(_CHUNK):
            writer.write(piece)


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: int, damaged: bool) -> None:
    while left:
        piece = await reader.read(min(_CHUNK, left))
        if not piece:
            raise asyncio.IncompleteReadError(b"", left)
        left -= len(piece)
        if damaged:
            piece, damaged = bytes([piece[0] ^ 1]) + piece[1:], False
        writer.write(piece)
        await writer.drain()


async def _drop(reader: asyncio.StreamReader, head: bytes) -> None:
    left = int(_header(head, b"content-length") or 0)
    while left:
        piece = await reader.read(min(_CHUNK, left))
        if not piece:
            return
        left -= len(piece)
