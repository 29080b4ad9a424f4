"""The transport of our own: HTTP/1.1 on the event loop's sockets, with as little as a verified copy needs.

Half of what a general client costs per small object: bodies are received into the buffer they are hashed in and
sent from, nothing crosses threads, and no timer is made per request. It sends paths and header values byte for byte,
and idle time is time without progress, however large a body is.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import cast

from storage.http1 import request_head
from storage.http1_connection import Connection
from storage.tls_socket import Arriving, TlsSocket
from storage.tls_trust import trusted_context
from storage.transport import Buffer, NotSent, Reply

_SCRATCH_BYTES = 256 * 1024
_IDLE_CONNECTION_S = 30.0
"""An idle connection older than this is not used again: servers close theirs at some such age."""
_LONGEST_LOOK_S = 1.0


class _Exchange:
    """One request and its reply on a connection of its own while it lasts."""

    __slots__ = ("_body", "_connection", "_headers", "_method", "_transport", "_url")

    def __init__(
        self,
        transport: NativeTransport,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Buffer | AsyncIterator[Buffer] | None,
    ) -> None:
        self._transport = transport
        self._method = method
        self._url = url
        self._headers = headers
        self._body = body
        self._connection: Connection | None = None

    async def __aenter__(self) -> Reply:
        scheme, _, rest = self._url.partition("://")
        host, slash, target = rest.partition("/")
        body = self._body
        whole = None if body is None or hasattr(body, "__anext__") else body
        length = None if whole is None else len(whole)
        head = request_head(self._method, slash + target or "/", host, self._headers, length)
        connection = self._transport.idle(f"{scheme}://{host}")
        if connection is None:
            connection = await self._transport.connect(scheme, host)
        self._connection = connection
        self._transport.watch(connection)
        try:
            connection.begin(self._method, head, whole)
            if body is not None and whole is None:
                stated = self._headers.get("content-length")
                await connection.send(cast("AsyncIterator[Buffer]", body), int(stated) if stated else None)
            if not connection.answered:
                await connection.answer()
        except BaseException:
            self._leave(abort=True)
            raise
        return connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave(abort=False)

    def _leave(self, *, abort: bool) -> None:
        connection = self._connection
        if connection is None:
            return
        self._connection = None
        self._transport.busy.discard(connection)
        connection.let_go()
        if not abort and connection.usable and connection.all_left_the_socket():
            self._transport.keep(connection)
        else:
            connection.abort()


class NativeTransport:
    """A `Transport` on the running loop. Times in seconds; `ca_bundle` is a PEM file.

    `idle_timeout_s` is the longest time without a byte in either direction while something is awaited of
    the server.
    """

    def __init__(self, *, connect_timeout_s: float, idle_timeout_s: float, ca_bundle: str | None = None) -> None:
        self._connect_s = connect_timeout_s
        self._idle_s = idle_timeout_s
        self._ca_bundle = ca_bundle
        self._tls: ssl.SSLContext | None = None
        self._scratch = Arriving(_SCRATCH_BYTES)
        self._ciphered = Arriving()
        self._idle: dict[str, deque[Connection]] = {}
        self._look_every_s = min(_LONGEST_LOOK_S, idle_timeout_s / 4)
        self._looking: asyncio.TimerHandle | None = None
        self._closed = False
        self.busy: set[Connection] = set()

    def open(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Buffer | AsyncIterator[Buffer] | None = None,
    ) -> AbstractAsyncContextManager[Reply]:
        return _Exchange(self, method, url, headers, body)

    async def close(self) -> None:
        self._closed = True
        for connections in self._idle.values():
            for connection in connections:
                connection.abort()
        self._idle.clear()
        for connection in list(self.busy):
            connection.abort()
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None

    def idle(self, origin: str) -> Connection | None:
        """A connection that waits for work, the one used last first."""
        waiting = self._idle.get(origin)
        while waiting:
            connection = waiting.pop()
            if connection.usable and time.monotonic() - connection.idle_since < _IDLE_CONNECTION_S:
                return connection
            connection.abort()
        return None

    def keep(self, connection: Connection) -> None:
        """Take back a connection that may be used again."""
        if self._closed:
            connection.abort()
            return
        connection.idle_since = time.monotonic()
        waiting = self._idle.setdefault(connection.origin, deque())
        waiting.append(connection)
        # those of a burst, which nobody takes again: the oldest stand first
        while connection.idle_since - waiting[0].idle_since > _IDLE_CONNECTION_S:
            waiting.popleft().abort()

    async def connect(self, scheme: str, host: str) -> Connection:
        """A new connection. Raises NotSent."""
        loop = asyncio.get_running_loop()
        name, port = _address(scheme, host)
        connection = Connection(loop, f"{scheme}://{host}", self._scratch, self._idle_s)
        context = self._trusted() if scheme == "https" else None
        try:
            async with asyncio.timeout(self._connect_s):
                if context is not None:
                    tls = TlsSocket(loop, context, name, connection, self._ciphered)
                    await loop.create_connection(lambda: tls, name, port)
                    try:
                        await tls.ready
                    except BaseException:
                        tls.abort()
                        raise
                else:
                    await loop.create_connection(lambda: connection, name, port)
        except TimeoutError:
            raise NotSent("no connection in time") from None
        except (OSError, UnicodeError) as error:
            raise NotSent(type(error).__name__) from None
        if self._closed or not connection.is_open:
            connection.abort()
            raise NotSent("the connection was closed at once")
        return connection

    def watch(self, connection: Connection) -> None:
        """An exchange begins: its deadline is looked at from now on, until it is no longer busy."""
        self.busy.add(connection)
        if self._looking is None:
            self._looking = asyncio.get_running_loop().call_later(self._look_every_s, self._look)

    def _trusted(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = trusted_context(self._ca_bundle)
        return self._tls

    def _look(self) -> None:
        """Ends exchanges in which nothing moves; looks a few times per idle time, for all of them at once."""
        now = time.monotonic()
        for connection in [one for one in self.busy if one.expired(now)]:
            connection.give_up()
        again = asyncio.get_running_loop().call_later(self._look_every_s, self._look) if self.busy else None
        self._looking = again


def _address(scheme: str, host: str) -> tuple[str, int]:
    """Name and port of a Host header."""
    name, colon, port = host.rpartition(":")
    if not colon or name.endswith(":") or host.endswith("]"):
        name, port = host, "443" if scheme == "https" else "80"
    return name.strip("[]"), int(port)
