"""The fast transport: pyreqwest (async) on the process's event loop.

Its URL parser follows WHATWG and removes `.` and `..` segments, so such paths must not come here:
`storage.client` sends them by `storage.transport_verbatim`. Its read time-out counts from the start of
a request, uploads included, so idle time is kept here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, cast

from storage.transport import Broken, Buffer, HeadersUnreadable, NotSent, Reply, TransportError

if TYPE_CHECKING:
    from pyreqwest.client import Client
    from pyreqwest.exceptions import PyreqwestError
    from pyreqwest.response import Response

_IDLE_CONNECTIONS = 512
_LEAST_BYTES_PER_S = 32 * 1024
"""What is moved as one piece may take the idle time and a second more for each of these bytes."""
_REST_BYTES = 256 * 1024
_CONNECTING = "client error (Connect)"


class _Reply:
    __slots__ = ("_idle_s", "_reader", "_started", "headers", "status")

    def __init__(self, response: Response, idle_s: float) -> None:
        self._reader = response.body_reader
        self._idle_s = idle_s
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
        if length == "0":
            return b""
        whole = await self._timed(self._reader.bytes(), int(length) if length.isdigit() else 0)
        return b"" if whole is None else whole

    async def _read_rest(self) -> Buffer:
        rest = bytearray()
        while (piece := await self.read(_REST_BYTES)) is not None:
            rest += piece
        return rest

    async def _timed(self, reading: object, size: int) -> Buffer | None:
        from pyreqwest.exceptions import PyreqwestError  # noqa: PLC0415 - a heavy import

        try:
            async with asyncio.timeout(_patience_s(self._idle_s, size)):
                return cast("Buffer | None", await reading)  # type: ignore[misc]
        except PyreqwestError as error:
            raise Broken(_cause(error)) from None
        except TimeoutError:
            raise Broken("the body stalled") from None


class _Upload:
    """A streamed body, and the clock that runs while the server takes a piece of it.

    The clock stands still while the next piece is made: that is not this server's delay.
    """

    def __init__(self, body: AsyncIterator[Buffer], idle_s: float) -> None:
        self._body = body
        self._idle_s = idle_s
        self.clock: asyncio.Timeout | None = None

    async def pieces(self) -> AsyncIterator[Buffer]:
        async for piece in self._body:
            self._allow(_patience_s(self._idle_s, len(piece)))
            yield piece
            self._allow(None)
        self._allow(self._idle_s)

    def _allow(self, seconds: float | None) -> None:
        if self.clock is not None:
            self.clock.reschedule(None if seconds is None else asyncio.get_running_loop().time() + seconds)


class PyreqwestTransport:
    """A `Transport` over one pyreqwest client. Times in seconds; `ca_bundle` is a PEM file."""

    def __init__(self, *, connect_timeout_s: float, idle_timeout_s: float, ca_bundle: str | None = None) -> None:
        from pyreqwest.client import ClientBuilder  # noqa: PLC0415 - a heavy import

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
        self._connect_s = connect_timeout_s
        self._idle_s = idle_timeout_s

    def open(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Buffer | AsyncIterator[Buffer] | None = None,
    ) -> AbstractAsyncContextManager[Reply]:
        return self._open(method, url, headers, body)

    @asynccontextmanager
    async def _open(
        self, method: str, url: str, headers: Mapping[str, str], body: Buffer | AsyncIterator[Buffer] | None
    ) -> AsyncIterator[Reply]:
        from pyreqwest.exceptions import PyreqwestError  # noqa: PLC0415 - a heavy import

        request = self._client.request(method, url).headers(headers)
        upload: _Upload | None = None
        size = 0
        if isinstance(body, AsyncIterator):
            upload = _Upload(body, self._idle_s)
            request = request.body_stream(cast("AsyncIterator[bytes]", upload.pieces()))
        elif body is not None:
            size = len(body)
            # an empty body alone would go out without a Content-Length
            request = request.body_bytes(cast("bytes", body))
            if not size and "content-length" not in headers:
                request = request.header("content-length", "0")
        exchange = request.build_streamed()
        clock = asyncio.timeout(self._connect_s + _patience_s(self._idle_s, size))
        try:
            async with clock:
                if upload is not None:
                    upload.clock = clock
                try:
                    response = await exchange.__aenter__()
                finally:
                    if upload is not None:
                        upload.clock = None
        except PyreqwestError as error:
            raise _failure(error) from None
        except TimeoutError:
            if clock.expired():
                raise Broken("no answer in time") from None
            raise
        try:
            yield _Reply(response, self._idle_s)
        finally:
            await exchange.__aexit__(None, None, None)

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
