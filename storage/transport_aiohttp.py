"""The second fast transport: aiohttp on the process's event loop. Slower than the first, older and better known.

It differs from what aiohttp does by itself where the contract asks for it: no second try of a request on a
connection that turned out dead, no header of its own but Host and Content-Length, a body that must have the
length announced, idle time by `storage.idle_clock`, and connections given up at once with what they had not sent.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType

from aiohttp import (
    ClientConnectorError,
    ClientError,
    ClientHandlerType,
    ClientOSError,
    ClientRequest,
    ClientResponse,
    ClientResponseError,
    ClientSession,
    ClientTimeout,
    ConnectionTimeoutError,
    DummyCookieJar,
    Payload,
    ServerDisconnectedError,
    StreamReader,
    TCPConnector,
    ThreadedResolver,
)
from aiohttp.abc import AbstractStreamWriter
from yarl import URL

from storage.idle_clock import IdleClock, IdleWatch
from storage.tls_trust import trusted_context
from storage.transport import Broken, Buffer, HeadersUnreadable, NotSent, Reply

_BUFFER_BYTES = 128 * 1024
"""About what a connection holds of a body nobody has asked for yet; it may be three times as much."""
_PIECE_BYTES = 256 * 1024
_AUTOMATIC_HEADERS = ("accept", "accept-encoding", "content-type", "user-agent")


class _Reply:
    """Header values outside ASCII are UTF-8 text, with surrogate escapes for bytes that are not."""

    __slots__ = ("_content", "_exchange", "headers", "status")

    def __init__(self, response: ClientResponse, exchange: _Exchange) -> None:
        self._content: StreamReader = response.content
        self._exchange = exchange
        self.status: int = response.status
        self.headers: Mapping[str, str] = _joined(response)

    async def read(self, most: int) -> Buffer | None:
        pieces: list[bytes] = []
        while most and (piece := await self._next(min(most, _BUFFER_BYTES))):
            pieces.append(piece)
            most -= len(piece)
        return b"".join(pieces) or None

    async def read_all(self) -> Buffer:
        pieces: list[bytes] = []
        while piece := await self._next(_BUFFER_BYTES):
            pieces.append(piece)
        return b"".join(pieces)

    async def _next(self, most: int) -> bytes:
        """What is here of the body, up to `most` bytes; waits for some, and is empty at the end."""
        exchange = self._exchange
        exchange.wait_for(0)
        try:
            return await self._content.read(most)
        except (ClientError, OSError) as error:
            raise Broken(_cause(error)) from None
        except asyncio.CancelledError:
            exchange.raise_if_late("the body stalled")
            raise
        finally:
            exchange.pause()


class _Upload(Payload):
    """The body of one request, written with the idle clock in hand.

    A connection that fails under the writing is no error here: the answer may be on its way, and if it is
    not, whoever waits for it hears of the failure.
    """

    def __init__(self, body: Buffer | AsyncIterator[Buffer], watch: IdleWatch) -> None:
        super().__init__(body)
        self._size = None if isinstance(body, AsyncIterator) else len(body)
        self._watch = watch
        self._whole = False
        self._transport: asyncio.WriteTransport | None = None
        self._task: asyncio.Task[object] | None = None
        self.failure: Exception | None = None
        """Why no more was sent, where that is the body's own fault."""

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        raise NotImplementedError

    async def write(self, writer: AbstractStreamWriter) -> None:
        await self.write_with_length(writer, self._size)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        self._transport, self._task = writer.transport, asyncio.current_task()
        try:
            await self._write(writer, content_length or 0)
        except Exception as error:
            self.failure = error
            raise

    async def _write(self, writer: AbstractStreamWriter, missing: int) -> None:
        watch, body = self._watch, self._value
        pieces = body if isinstance(body, AsyncIterator) else _cut(body)
        watch.preparing()
        async for piece in pieces:
            missing -= len(piece)
            if missing < 0:
                raise Broken("the body is longer than its Content-Length")
            watch.sending(len(piece))
            try:
                await writer.write(piece)
            except OSError:
                return
            watch.preparing()
        if missing:
            raise Broken("the body is shorter than its Content-Length")
        watch.sending(0)
        self._whole = True

    async def stop(self) -> None:
        """Send nothing more; nothing of the body is asked for once this has returned."""
        if self._whole:
            return
        if self._transport is not None:
            self._transport.abort()
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])


class _Exchange(IdleWatch):
    """One request and its reply."""

    __slots__ = ("_headers", "_method", "_response", "_transport", "_upload", "_url")

    def __init__(
        self,
        transport: AiohttpTransport,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Buffer | AsyncIterator[Buffer] | None,
    ) -> None:
        super().__init__(transport.clock)
        self._transport = transport
        self._method = method
        self._url = URL(url, encoded=True)
        self._headers = headers
        self._upload = None if body is None else _Upload(body, self)
        self._response: ClientResponse | None = None

    async def __aenter__(self) -> Reply:
        session = self._transport.session()
        self.start(0, self._transport.connect_s)
        try:
            self._response = await session.request(
                self._method, self._url, headers=self._headers, data=self._upload, allow_redirects=False
            )
            self.answered()
            return _Reply(self._response, self)
        except asyncio.CancelledError:
            await self._end()
            self.raise_if_late("no answer in time")
            raise
        except Exception as error:
            await self._end()
            raise self._meaning(error) from None

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    def _meaning(self, error: Exception) -> Exception:
        if self._upload is not None and self._upload.failure is not None:
            return self._upload.failure
        if isinstance(error, ClientResponseError):
            return HeadersUnreadable(type(error).__name__)
        return Broken(_cause(error)) if isinstance(error, ClientError | OSError) else error

    async def _end(self) -> None:
        self.stop()
        response = self._response
        if response is not None:
            if response.connection is not None and (transport := response.connection.transport) is not None:
                # closing would first send what is left of the upload, to a server that may not read
                transport.abort()
            response.close()
        if self._upload is not None:
            await self._upload.stop()


class AiohttpTransport:
    """A `Transport` over one aiohttp session. Times in seconds; `ca_bundle` is a PEM file added to the system's."""

    def __init__(self, *, connect_timeout_s: float, idle_timeout_s: float, ca_bundle: str | None = None) -> None:
        self.connect_s = connect_timeout_s
        self.clock = IdleClock(idle_timeout_s)
        self._tls: ssl.SSLContext | bool = trusted_context(ca_bundle) if ca_bundle else True
        self._session: ClientSession | None = None

    def open(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Buffer | AsyncIterator[Buffer] | None = None,
    ) -> AbstractAsyncContextManager[Reply]:
        return _Exchange(self, method, url, headers, body)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def session(self) -> ClientSession:
        """The session, made on the loop it is first used on."""
        if self._session is None:
            self._session = ClientSession(
                connector=TCPConnector(limit=0, ssl=self._tls, resolver=ThreadedResolver()),
                timeout=ClientTimeout(total=None, connect=self.connect_s),
                cookie_jar=DummyCookieJar(),
                skip_auto_headers=_AUTOMATIC_HEADERS,
                auto_decompress=False,
                read_bufsize=_BUFFER_BYTES,
                middlewares=(_once,),
            )
        return self._session


async def _once(request: ClientRequest, send: ClientHandlerType) -> ClientResponse:
    """One try, and no second one: aiohttp would repeat a PUT on a kept connection that was lost under it."""
    try:
        return await send(request)
    except (ClientConnectorError, ConnectionTimeoutError) as error:
        raise NotSent(_cause(error)) from None
    except (ClientOSError, ServerDisconnectedError) as error:
        raise Broken(_cause(error)) from None


async def _cut(body: Buffer) -> AsyncIterator[Buffer]:
    """A whole body in pieces, so that a stall in the middle of a large one shows."""
    if len(body) <= _PIECE_BYTES:
        yield body
        return
    view = memoryview(body)
    for start in range(0, len(view), _PIECE_BYTES):
        yield view[start : start + _PIECE_BYTES]


def _joined(response: ClientResponse) -> dict[str, str]:
    headers: dict[str, str] = {}
    for given, value in response.headers.items():
        name = given.lower()
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


def _cause(error: Exception) -> str:
    """What went wrong in one line; aiohttp's own messages hold the URL."""
    inner = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
    reason = getattr(inner, "verify_message", None) or getattr(inner, "strerror", None)
    return f"{type(error).__name__}: {reason}" if reason and "http" not in reason else type(error).__name__
