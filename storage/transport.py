"""The transport: HTTP requests to one endpoint, and nothing of S3. The contract of every implementation.

A transport sends what it is given byte for byte: it never retries, follows redirects, decodes a
content encoding or touches a header. Failures are three, by what is known of the request:
`NotSent` (it never reached the server: repeat at will), `Broken` (it may have been served) and
`HeadersUnreadable` (the answer holds header values this implementation cannot represent).
`tests/storage/` holds the conformance suite.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

Buffer = bytes | bytearray | memoryview
"""What a body is made of. Implementations may return other objects of the buffer protocol."""


class TransportError(Exception):
    """Base of the three failures below; the text never holds a URL or a header."""


class NotSent(TransportError):
    """No connection, or none in time: the server has not seen the request."""


class Broken(TransportError):
    """The connection failed or stalled under way: the outcome is unknown."""


class HeadersUnreadable(TransportError):
    """The response carries header values outside ASCII that this transport cannot hand over."""


class Reply(Protocol):
    """A response. `headers` has lower-case names; repeated headers are joined by a comma."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    async def read(self, most: int) -> Buffer | None:
        """The next bytes of the body: exactly `most` unless the body ends first; None at its end.

        Raises Broken when the body stops short of its Content-Length or stalls.
        """

    async def read_all(self) -> Buffer:
        """The whole remaining body."""


class Transport(Protocol):
    """One pool of connections. Used on one event loop; safe for many requests at once."""

    def open(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Buffer | AsyncIterator[Buffer] | None = None,
    ) -> AbstractAsyncContextManager[Reply]:
        """Send one request and hand over its reply once the status and headers are here.

        `url` is absolute with its path already percent-encoded. A streamed `body` needs a
        Content-Length header; an exception raised by its iterator aborts the request and comes out.
        Leaving the context closes the reply; a reply not read to its end costs its connection.
        """

    async def close(self) -> None:
        """Close all connections. May be called twice."""
