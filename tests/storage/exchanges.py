"""Whole exchanges over a transport, in the few words a test has for them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from storage.transport import Transport


async def fetch(
    transport: Transport, url: str, method: str = "GET", headers: dict[str, str] | None = None, body: Any = None
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of one exchange."""
    async with transport.open(method, url, headers or {}, body) as answer:
        return answer.status, dict(answer.headers), bytes(await answer.read_all())


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    """A streamed body."""
    for part in parts:
        yield part


def once(transport: Transport, work: Callable[[Transport], Coroutine[Any, Any, Any]]) -> Coroutine[Any, Any, Any]:
    """`work(transport)`, and the transport closed behind it."""

    async def main() -> Any:
        try:
            return await work(transport)
        finally:
            await transport.close()

    return main()
