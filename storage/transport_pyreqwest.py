"""The fast transport: pyreqwest (async) on the process's event loop.

Its URL parser follows WHATWG and removes `.` and `..` segments, so such paths must not come here:
`storage.client` sends them by `storage.transport_verbatim`. Its read time-out counts from the start of
a request, uploads included, so idle time is kept here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, cast

from storage.transport import Broken, Buffer, HeadersUnreadable, NotSent, Reply, TransportError

if TYPE_CHECKING:
    from pyreqwest.client import Client
    from pyreqwest.exceptions import PyreqwestError
    from pyreqwest.request import RequestBuilder, StreamRequest
    from pyreqwest.response import Response

_IDLE_CONNECTIONS = 512
_LEAST_BYTES_PER_S = 32 * 1024
"""What is moved as one piece may take the idle time and a second more for each of these bytes."""
_REST_BYTES = 256 * 1024
_CONNECTING = "client error (Connect)"
_LONGEST_LOOK_S = 1.0


class _Reply:
    __slots__ = ("_exchange", "_reader", "_started", "headers", "status")

    def __init__(self, response: Response, exchange: _Exchange) -> None:
        self._reader = response.body_reader
        self._exchange = exchange
        self._started = False
        self.status: int = response.status
        self.headers = _header_map(response)

    async def read(self, most: int) -> Buffer | None:
        self._started = True
        return await self._timed(self._reader.read(most), most)

    async def read_all(self) -> Buffer:
        if self._started:
            return await self._read_rest()
        length = self.headers.get("content-length", "")
        whole = await self._timed(self._reader.bytes(), int(length) if length.isdigit() else 0)
        return b"" if whole is None else whole

    async def _read_rest(self) -> Buffer:
        rest = bytearray()
        while (piece := await self.read(_REST_BYTES)) is not None:
            rest += piece
        return rest

    async def _timed(self, reading: object, size: int) -> Buffer | None:
        exchange = self._exchange
        exchange.wait_for(size)
        try:
            return cast("Buffer | None", await reading)  # type: ignore[misc]
        except exchange.transport.failures as error:
            raise Broken(_cause(error)) from None
        except asyncio.CancelledError:
            exchange.raise_if_late("the body stalled")
            raise
        finally:
            exchange.deadline = None


class _Exchange:
    """One request and its reply, with a deadline while something is awaited of the server.

    The clock stands still while the next piece of a streamed body is made: that is not this server's delay.
    """

    __slots__ = ("_late", "_request", "_size", "_task", "deadline", "transport")

    def __init__(
        self,
        transport: PyreqwestTransport,
        request: RequestBuilder,
        body: Buffer | AsyncIterator[Buffer] | None,
        bare: bool,
    ) -> None:
        self.transport = transport
        self.deadline: float | None = None
        self._late = False
        self._task: asyncio.Task[object] | None = None
        self._size = 0
        if isinstance(body, AsyncIterator):
            request = request.body_stream(cast("AsyncIterator[bytes]", self._pieces(body)))
        elif body is not None:
            self._size = len(body)
            request = request.body_bytes(cast("bytes", body))
            if not self._size and bare:
                # an empty body alone would go out without a Content-Length
                request = request.header("content-length", "0")
        self._request: StreamRequest = request.build_streamed()

    async def __aenter__(self) -> Reply:
        self._task = asyncio.current_task()
        self.transport.clock.add(self)
        self.wait_for(self._size, self.transport.connect_s)
        try:
            response = await self._request.__aenter__()
            self.deadline = None
            return _Reply(response, self)
        except BaseException as error:
            self.transport.clock.discard(self)
            if isinstance(error, HeadersUnreadable):
                await self._request.__aexit__(None, None, None)
            if isinstance(error, self.transport.failures):
                raise _failure(error) from None
            if isinstance(error, asyncio.CancelledError):
                self.raise_if_late("no answer in time")
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.transport.clock.discard(self)
        await self._request.__aexit__(None, None, None)

    def wait_for(self, size: int, more_s: float = 0.0) -> None:
        """Something of `size` bytes is awaited of the server from now on."""
        self.deadline = self.transport.clock.now() + _patience_s(self.transport.idle_s, size) + more_s

    def expire(self) -> None:
        """The deadline is over: end what is awaited."""
        self._late, self.deadline = True, None
        if self._task is not None:
            self._task.cancel()

    def raise_if_late(self, what: str) -> None:
        """Turn the cancellation that `expire` caused into Broken; any other one is left to come out."""
        if self._late:
            self._late = False
            if self._task is not None:
                self._task.uncancel()
            raise Broken(what)

    async def _pieces(self, body: AsyncIterator[Buffer]) -> AsyncIterator[Buffer]:
        self.deadline = None
        async for piece in body:
            self.wait_for(len(piece))
            yield piece
            self.deadline = None
        self.wait_for(0)


class _Clock:
    """Ends exchanges that are over their deadline; looks a few times per idle time, for all of them at once.

    A timer of its own for every await would cost a tenth of the CPU of a small object.
    """

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._exchanges: set[_Exchange] = set()
        self._timer: asyncio.TimerHandle | None = None

    def now(self) -> float:
        return time.monotonic()

    def add(self, exchange: _Exchange) -> None:
        self._exchanges.add(exchange)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._every_s, self._look)

    def discard(self, exchange: _Exchange) -> None:
        self._exchanges.discard(exchange)

    def _look(self) -> None:
        now = self.now()
        for exchange in self._exchanges:
            if exchange.deadline is not None and exchange.deadline < now:
                exchange.expire()
        again = asyncio.get_running_loop().call_later(self._every_s, self._look) if self._exchanges else None
        self._timer = again


class PyreqwestTransport:
    """A `Transport` over one pyreqwest client. Times in seconds; `ca_bundle` is a PEM file."""

    def __init__(self, *, connect_timeout_s: float, idle_timeout_s: float, ca_bundle: str | None = None) -> None:
        from pyreqwest.client import ClientBuilder  # noqa: PLC0415 - a heavy import
        from pyreqwest.exceptions import PyreqwestError  # noqa: PLC0415 - a heavy import

        builder = (
            ClientBuilder()
            .http1_only()
            .no_proxy()
            .follow_redirects(False)
            .referer(False)
            .gzip(False)
            .brotli(False)
            .zstd(False)
            .deflate(False)
            .connect_timeout(timedelta(seconds=connect_timeout_s))
            .pool_max_idle_per_host(_IDLE_CONNECTIONS)
            .tcp_nodelay(True)
        )
        if ca_bundle:
            builder = builder.add_root_certificate_pem(Path(ca_bundle).read_bytes())
        self._client: Client = builder.build()
        self.failures: type[PyreqwestError] = PyreqwestError
        self.connect_s = connect_timeout_s
        self.idle_s = idle_timeout_s
        self.clock = _Clock(min(_LONGEST_LOOK_S, idle_timeout_s / 4))

    def open(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Buffer | AsyncIterator[Buffer] | None = None,
    ) -> AbstractAsyncContextManager[Reply]:
        request = self._client.request(method, url).headers(headers)
        return _Exchange(self, request, body, "content-length" not in headers)

    async def close(self) -> None:
        await self._client.close()


def _patience_s(idle_s: float, size: int) -> float:
    return idle_s + size / _LEAST_BYTES_PER_S


def _header_map(response: Response) -> Mapping[str, str]:
    try:
        return _joined(response.headers.items())
    except ValueError as error:
        raise HeadersUnreadable(str(error)) from None


def _joined(items: object) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in cast("list[tuple[str, str]]", items):
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


def _failure(error: PyreqwestError) -> TransportError:
    """NotSent only where connecting failed; the class alone does not tell (a lost connection is ConnectError too)."""
    kind = NotSent if any(message == _CONNECTING for message in _causes(error)) else Broken
    return kind(_cause(error))


def _causes(error: Exception) -> list[str]:
    details = getattr(error, "details", None) or {}
    return [cause["message"] for cause in details.get("causes") or []]


def _cause(error: Exception) -> str:
    """The innermost cause in one line; the outer messages of pyreqwest hold the URL."""
    inner = (_causes(error) or [""])[-1]
    return f"{type(error).__name__}: {inner}" if inner and "http" not in inner else type(error).__name__
