"""Hashing is spread over the turns of the loop: sockets are looked at in between."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from storage.checksums import MD5, Digests
from storage.pace import Pace

A_TURN = 100


class Hashing:
    """Tasks that hash on one loop, and the turn of the loop each piece was hashed in."""

    def __init__(self) -> None:
        self.pace = Pace(A_TURN)
        self.turn = 0
        self.order: list[int] = []
        self.per_turn: Counter[int] = Counter()

    async def hash(self, number: int, size: int) -> None:
        await self.pace.update(Digests(frozenset({MD5})), b"x" * size)
        self.order.append(number)
        self.per_turn[self.turn] += size

    def tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self.turn += 1
        loop.call_soon(self.tick, loop)


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def hashed(request: pytest.FixtureRequest) -> Callable[..., Hashing]:
    """Hashes pieces of these sizes at once, to the end; `meddle` may do something to the tasks before."""

    def run(*sizes: int, meddle: Callable[[list[asyncio.Task[None]]], Awaitable[None]] | None = None) -> Hashing:
        loop, hashing = request.param(), Hashing()

        async def work() -> None:
            hashing.tick(loop)
            tasks = [loop.create_task(hashing.hash(number, size)) for number, size in enumerate(sizes)]
            if meddle:
                await meddle(tasks)
            await asyncio.wait(tasks, timeout=10)

        try:
            loop.run_until_complete(work())
        finally:
            loop.close()
        return hashing

    return run


def test_no_turn_hashes_more_than_its_share(hashed: Callable[..., Hashing]) -> None:
    hashing = hashed(*[30] * 20)
    assert sum(hashing.per_turn.values()) == 600
    assert max(hashing.per_turn.values()) == 90


def test_who_comes_first_is_served_first(hashed: Callable[..., Hashing]) -> None:
    assert hashed(*[60, 50, 10, 70, 5] * 4).order == list(range(20))


def test_what_is_more_than_a_share_has_a_turn_for_itself(hashed: Callable[..., Hashing]) -> None:
    hashing = hashed(10, 250, 10)
    assert sorted(hashing.per_turn.values()) == [10, 10, 250]


def test_what_was_given_up_takes_nobodys_place(hashed: Callable[..., Hashing]) -> None:
    async def give_up(tasks: list[asyncio.Task[None]]) -> None:
        await asyncio.sleep(0)
        tasks[1].cancel()

    assert hashed(100, 100, 100, meddle=give_up).order == [0, 2]
