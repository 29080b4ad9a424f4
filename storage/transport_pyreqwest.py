"""The fast transport: pyreqwest (async) on the process's event loop.

Its URL parser follows WHATWG and removes `.` and `..` segments, so such paths must not come here:
`storage.client` sends them by `storage.transport_verbatim`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, cast

from storage.transport import Broken, Buffer, HeadersUnreadable, NotSent, Reply

if TYPE_CHECKING:
    from pyreqwest.client import Client
    from pyreqwest.response import Response

_IDLE_CONNECTIONS = 512


class _Reply:
    __slots__ = ("_response", "headers")

    def __init__(self, response: Response) -> None:
        self._response = response
        self.headers = _header_map(response)

    @property
    def status(self) -> int:
        return self._response.status

    async def read(self, most: int) -> Buffer | None:
        return cast("Buffer | None", await self._response.body_reader.read(most))

    async def read_all(self) -> Buffer:
        return cast("Buffer", await self._response.bytes())


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
            .read_timeout(timedelta(seconds=idle_timeout_s))
            .pool_max_idle_per_host(_IDLE_CONNECTIONS)
            .tcp_nodelay(True)
        )
        if ca_bundle:
            builder = builder.add_root_certificate_pem(Path(ca_bundle).read_bytes())
        self._client: Client = builder.build()

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
        from pyreqwest.exceptions import (  # noqa: PLC0415 - a heavy import
            ConnectError,
            ConnectTimeoutError,
            PoolTimeoutError,
            PyreqwestError,
        )

        request = self._client.request(method, url).headers(headers)
        if isinstance(body, AsyncIterator):
            request = request.body_stream(cast("AsyncIterator[bytes]", body))
        elif body is not None:
            request = request.body_bytes(cast("bytes", body))
        try:
            async with request.build_streamed() as response:
                yield _Reply(response)
        except (ConnectError, ConnectTimeoutError, PoolTimeoutError) as error:
            raise NotSent(_cause(error)) from None
        except PyreqwestError as error:
            raise Broken(_cause(error)) from None

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


def _cause(error: Exception) -> str:
    """The innermost cause in one line; the outer messages of pyreqwest hold the URL."""
    details = getattr(error, "details", None) or {}
    causes = details.get("causes") or []
    inner = causes[-1]["message"] if causes else type(error).__name__
    return f"{type(error).__name__}: {inner}" if "http" not in inner else type(error).__name__
