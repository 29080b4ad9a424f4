"""The fast transport: pyreqwest (async) on the process's event loop.

Its URL parser follows WHATWG and removes `.` and `..` segments, so such paths must not come here:
`storage.client` sends them by `storage.transport_verbatim`. Its read time-out counts from the start of
a request, uploads included, so idle time is kept here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import cast

from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import PyreqwestError
from pyreqwest.request import RequestBuilder, StreamRequest
from pyreqwest.response import Response

from storage.idle_clock import IdleClock, IdleWatch
from storage.transport import Broken, Buffer, HeadersUnreadable, NotSent, Reply, TransportError

_IDLE_CONNECTIONS = 512
_REST_BYTES = 256 * 1024
_CONNECTING = "client error (Connect)"


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
        except PyreqwestError as error:
            raise Broken(_cause(error)) from None
        except asyncio.CancelledError:
            exchange.raise_if_late("the body stalled")
            raise
        finally:
            exchange.pause()


class _Exchange(IdleWatch):
    """One request and its reply."""

    __slots__ = ("_request", "_size", "transport")

    def __init__(
        self,
        transport: PyreqwestTransport,
        request: RequestBuilder,
        body: Buffer | AsyncIterator[Buffer] | None,
        bare: bool,
    ) -> None:
        super().__init__(transport.clock)
        self.transport = transport
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
        self.start(self._size, self.transport.connect_s)
        try:
            response = await self._request.__aenter__()
            self.answered()
            return _Reply(response, self)
        except BaseException as error:
            self.stop()
            if isinstance(error, HeadersUnreadable):
                await self._request.__aexit__(None, None, None)
            if isinstance(error, PyreqwestError):
                raise _failure(error) from None
            if isinstance(error, asyncio.CancelledError):
                self.raise_if_late("no answer in time")
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        await self._request.__aexit__(None, None, None)

    async def _pieces(self, body: AsyncIterator[Buffer]) -> AsyncIterator[Buffer]:
        self.preparing()
        async for piece in body:
            self.sending(len(piece))
            yield piece
            self.preparing()
        self.sending(0)


class PyreqwestTransport:
    """A `Transport` over one pyreqwest client. Times in seconds; `ca_bundle` is a PEM file."""

    def __init__(self, *, connect_timeout_s: float, idle_timeout_s: float, ca_bundle: str | None = None) -> None:
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
        self.connect_s = connect_timeout_s
        self.clock = IdleClock(idle_timeout_s)

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
