"""The careful transport: urllib3 in threads, which sends paths and header bytes exactly as they are.

For what the fast one cannot carry: keys with `.` or `..` segments, and metadata outside ASCII.
Header values outside ASCII are UTF-8 text here, with surrogate escapes for bytes that are not.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import urlsplit

from storage.transport import Broken, Buffer, NotSent, Reply

if TYPE_CHECKING:
    import urllib3

_THREADS = 8
_LOOK_EVERY_S = 1.0

T = TypeVar("T")


class _BodyFailed(Exception):
    """The body's iterator raised `cause`, or its request was given up; not an OSError, which urllib3 would wrap."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(type(cause).__name__)
        self.cause = cause


class _Reply:
    __slots__ = ("_raw", "_run", "headers", "status")

    def __init__(self, raw: urllib3.BaseHTTPResponse, run: Any) -> None:
        self._raw = raw
        self._run = run
        self.status: int = raw.status
        self.headers: Mapping[str, str] = {
            name.lower(): ",".join(_text(value) for value in raw.headers.getlist(name)) for name in raw.headers
        }

    async def read(self, most: int) -> Buffer | None:
        return cast("bytes", await self._run(lambda: self._raw.read(most, False))) or None

    async def read_all(self) -> Buffer:
        return cast("bytes", await self._run(lambda: self._raw.read(None, False)))


class _Upload:
    """A streamed body as a plain iterator for the sending thread; each piece is asked of the loop."""

    def __init__(self, body: AsyncIterator[Buffer], loop: asyncio.AbstractEventLoop) -> None:
        self._body = body
        self._loop = loop
        self._stopped = False

    def stop(self) -> None:
        """Nothing more is sent: the request was given up."""
        self._stopped = True

    def pieces(self) -> Iterator[bytes]:
        while (piece := self._next()) is not None:
            yield bytes(piece)

    def _next(self) -> Buffer | None:
        async def following() -> Buffer | _BodyFailed | None:
            try:
                return await anext(self._body, None)
            except Exception as error:
                return _BodyFailed(error)

        asked = asyncio.run_coroutine_threadsafe(following(), self._loop)
        while not self._stopped:
            try:
                piece = asked.result(_LOOK_EVERY_S)
            except TimeoutError:
                continue
            except CancelledError:
                break
            if isinstance(piece, _BodyFailed):
                raise piece
            return piece
        asked.cancel()
        raise _BodyFailed(asyncio.CancelledError())


class VerbatimTransport:
    """A `Transport` for the few requests that need every byte kept; a handful run at once."""

    def __init__(self, *, connect_timeout_s: float, idle_timeout_s: float, ca_bundle: str | None = None) -> None:
        import urllib3  # noqa: PLC0415 - a heavy import

        self._manager = urllib3.PoolManager(
            maxsize=_THREADS,
            timeout=urllib3.Timeout(connect=connect_timeout_s, read=idle_timeout_s),
            retries=False,
            ca_certs=ca_bundle,
        )
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="verbatim")
        self._uploads: set[_Upload] = set()

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
        parts = urlsplit(url)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        pool = self._manager.connection_from_host(parts.hostname, parts.port, parts.scheme)
        upload = _Upload(body, asyncio.get_running_loop()) if isinstance(body, AsyncIterator) else None
        payload = bytes(cast("Buffer", body)) if upload is None and body is not None else None

        # bytes, so that values outside ASCII go out as they came in
        sent: Any = {name: value.encode("utf-8", "surrogateescape") for name, value in headers.items()}

        def send() -> urllib3.BaseHTTPResponse:
            return pool.urlopen(
                method,
                target,
                body=payload if upload is None else upload.pieces(),
                headers=sent,
                redirect=False,
                preload_content=False,
                decode_content=False,
                chunked=False,
            )

        raw = await self._send(send, upload)
        try:
            yield _Reply(raw, self._run)
        finally:
            raw.release_conn() if raw.closed else raw.close()

    async def _send(
        self, send: Callable[[], urllib3.BaseHTTPResponse], upload: _Upload | None
    ) -> urllib3.BaseHTTPResponse:
        if upload is None:
            return await self._run(send, late=_close_late)
        self._uploads.add(upload)
        try:
            return await self._run(send, late=_close_late)
        except _BodyFailed as failed:
            raise failed.cause from None
        finally:
            upload.stop()
            self._uploads.discard(upload)

    async def _run(self, function: Callable[[], T], late: Callable[[Future[T]], None] | None = None) -> T:
        """`function()` on a thread. `late` gets what it gives after the caller was cancelled."""
        from urllib3 import exceptions  # noqa: PLC0415 - a heavy import

        running = self._threads.submit(function)
        try:
            return await asyncio.wrap_future(running)
        except asyncio.CancelledError:
            if late is not None:
                running.add_done_callback(late)
            raise
        except (exceptions.NewConnectionError, exceptions.ConnectTimeoutError) as error:
            raise NotSent(type(error).__name__) from None
        except (exceptions.HTTPError, OSError) as error:
            raise Broken(type(error).__name__) from None

    async def close(self) -> None:
        for upload in self._uploads:
            upload.stop()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._manager.clear()


def _text(value: str) -> str:
    return value.encode("latin-1").decode("utf-8", "surrogateescape")


def _close_late(running: Future[urllib3.BaseHTTPResponse]) -> None:
    if not running.cancelled() and running.exception() is None:
        running.result().close()
