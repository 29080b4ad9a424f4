"""Hashing, spread over the turns of the event loop.

Bodies that arrive together are ready together. Hashed one after the other in one turn, they would keep the loop from
its sockets for as long as all of them take: 64 bodies of 1 MiB for an eighth of a second.
"""

from __future__ import annotations

import asyncio
from collections import deque

from storage.checksums import Digests
from storage.transport import Buffer

BYTES_A_TURN = 1024 * 1024
"""What is hashed between two looks at the sockets: about 2.5 ms with MD5, SHA-256 and CRC64NVME."""


class Pace:
    """One loop's share-out of hashing, first come, first served. Used on that loop only."""

    def __init__(self, bytes_a_turn: int = BYTES_A_TURN) -> None:
        self._most = self._left = bytes_a_turn
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()
        self._counting = False

    async def update(self, digests: Digests, data: Buffer) -> None:
        """`digests.update(data)`, in a turn that has room for it. More than a turn's bytes have one for themselves."""
        loop = asyncio.get_running_loop()
        if not self._counting:
            self._counting = True
            loop.call_soon(self._next_turn, loop)
        if self._waiting or not self._fits(len(data)):
            place = loop.create_future()
            self._waiting.append((place, len(data)))
            await place
        else:
            self._left -= len(data)
        digests.update(data)

    def _fits(self, size: int) -> bool:
        return size <= self._left or self._left == self._most

    def _next_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._left = self._most
        while self._waiting and self._fits(self._waiting[0][1]):
            place, size = self._waiting.popleft()
            if not place.done():
                self._left -= size
                place.set_result(None)
        # whoever was let in runs in the next turn, and so does this
        self._counting = self._left < self._most
        if self._counting:
            loop.call_soon(self._next_turn, loop)
