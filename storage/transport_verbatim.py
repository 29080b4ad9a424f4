"""The careful transport: urllib3 in threads, which sends paths and header bytes exactly as they are.

For what the fast one cannot carry: keys with `.` or `..` segments, and metadata outside ASCII.
Header values outside ASCII are UTF-8 text here, with surrogate escapes for bytes that are not.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from storage.transport import Broken, Buffer, NotSent, Reply

if TYPE_CHECKING:
    import urllib3

_THREADS = 8


class _Reply:
    __slots__ = ("_raw", "_run", "headers", "status")

    def __init__(self, raw: urllib3.BaseHTTPResponse, run: Any) -> None:
        self._raw = raw
        self._run = run
        self.status: int = raw.status
        self.headers: Mapping[str, str] = {
            name.lower(): value.encode("latin-1").decode("utf-8", "surrogateescape")
            for name, value in raw.headers.items()
        }

    async def read(self, most: int) -> Buffer | None:
        return cast("bytes", await self._run(self._raw.read, most, False)) or None

    async def read_all(self) -> Buffer:
        return cast("bytes", await self._run(self._raw.read, None, False))


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
        loop = asyncio.get_running_loop()
        payload = _pulled(body, loop) if isinstance(body, AsyncIterator) else (None if body is None else bytes(body))

        # bytes, so that values outside ASCII go out as they came in
        sent: Any = {name: value.encode("utf-8", "surrogateescape") for name, value in headers.items()}

        def send() -> urllib3.BaseHTTPResponse:
            return pool.urlopen(
                method,
                target,
                body=payload,
                headers=sent,
                redirect=False,
                preload_content=False,
                decode_content=False,
                chunked=False,
            )

        raw = await self._run(send)
        try:
            yield _Reply(raw, self._run)
        finally:
            raw.close() if raw.length_remaining else raw.release_conn()

    async def _run(self, function: Any, *arguments: Any) -> Any:
        from urllib3 import exceptions  # noqa: PLC0415 - a heavy import

        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)
        except (exceptions.NewConnectionError, exceptions.ConnectTimeoutError) as error:
            raise NotSent(type(error).__name__) from None
        except (exceptions.HTTPError, OSError) as error:
            raise Broken(type(error).__name__) from None

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._manager.clear()


def _pulled(body: AsyncIterator[Buffer], loop: asyncio.AbstractEventLoop) -> Iterator[bytes]:
    """`body` as a plain iterator for the sending thread; each item is asked of the loop."""

    async def following() -> Buffer | None:
        return await anext(body, None)

    while (piece := asyncio.run_coroutine_threadsafe(following(), loop).result()) is not None:
        yield bytes(piece)
