"""Admission: how many transfers are under way in this process, and how fast they may start.

One budget of body memory for the process, a cap per size class, and one adaptive limit per endpoint:
a throttled answer cuts it (at most once a second), every success raises it a little. All of it lives
on the engine's event loop, so nothing here is locked.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from model.errors import Stopped
from model.status import SizeClass

_CUT = 0.7
_CUT_PAUSE_S = 1.0
_LEAST = 1.0


class EndpointLimit:
    """Additive increase, multiplicative decrease of the transfers under way at one endpoint."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = float(most)
        self._most = float(most)
        self._clock = clock
        self._last_cut = float("-inf")

    def throttled(self) -> None:
        """The server asked for less. Many answers of one burst count once."""
        now = self._clock()
        if now - self._last_cut >= _CUT_PAUSE_S:
            self._last_cut = now
            self.limit = max(_LEAST, self.limit * _CUT)

    def served(self) -> None:
        if self.limit < self._most:
            self.limit = min(self._most, self.limit + 1.0 / self.limit)


class Rate:
    """At most `per_second` units a second, with a burst of one second's worth; 0 means no cap."""

    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._clock = clock
        self._free_at = clock()

    async def take(self, amount: float) -> None:
        """Wait until `amount` may start. An amount above the rate takes as many seconds as it needs."""
        if self._per_second <= 0:
            return
        now = self._clock()
        self._free_at = max(self._free_at, now - 1.0) + amount / self._per_second
        if self._free_at > now:
            await asyncio.sleep(self._free_at - now)


class Admission:
    """Admits transfers class by class, small first, first come first served within a class.

    `caps`: transfers under way per class; `memory_bytes`: bodies held at once. A transfer larger than
    the whole budget runs alone rather than never.
    """

    def __init__(self, caps: dict[SizeClass, int], memory_bytes: int, endpoints: tuple[EndpointLimit, ...]) -> None:
        self._caps = caps
        self._memory = memory_bytes
        self._endpoints = endpoints
        self._held = 0
        self._total = 0
        self._under_way = dict.fromkeys(caps, 0)
        self._waiting: dict[SizeClass, deque[tuple[int, asyncio.Future[None]]]] = {name: deque() for name in caps}
        self._stopped: str | None = None

    def admit(self, size_class: SizeClass, cost_bytes: int) -> _Place:
        """Hold a place and `cost_bytes` of memory while in the context. Raises Stopped once a stop was requested."""
        return _Place(self, size_class, cost_bytes)

    @property
    def under_way(self) -> int:
        return self._total

    def stop(self, reason: str) -> None:
        """No new admissions; those waiting raise Stopped, those under way go on."""
        self._stopped = reason
        for queue in self._waiting.values():
            while queue:
                _, future = queue.popleft()
                if not future.done():
                    future.set_exception(Stopped(reason))

    async def enter(self, size_class: SizeClass, cost_bytes: int) -> None:
        """Take a place, waiting for it if need be; `leave` gives it back."""
        if self._stopped is not None:
            raise Stopped(self._stopped)
        if not self._waiting[size_class] and self._fits(size_class, cost_bytes):
            self._take(size_class, cost_bytes)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[size_class].append((cost_bytes, future))
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self.leave(size_class, cost_bytes)
            raise

    def leave(self, size_class: SizeClass, cost_bytes: int) -> None:
        """Give a place back and let those in who wait for it."""
        self._under_way[size_class] -= 1
        self._total -= 1
        self._held -= cost_bytes
        self._wake()

    def _fits(self, size_class: SizeClass, cost_bytes: int) -> bool:
        total = self._total
        if total == 0:
            return True
        return (
            self._under_way[size_class] < self._caps[size_class]
            and self._held + cost_bytes <= self._memory
            and all(total < endpoint.limit for endpoint in self._endpoints)
        )

    def _take(self, size_class: SizeClass, cost_bytes: int) -> None:
        self._under_way[size_class] += 1
        self._total += 1
        self._held += cost_bytes

    def _wake(self) -> None:
        for size_class, queue in self._waiting.items():
            while queue:
                cost_bytes, future = queue[0]
                if future.done():
                    queue.popleft()
                elif self._fits(size_class, cost_bytes):
                    queue.popleft()
                    self._take(size_class, cost_bytes)
                    future.set_result(None)
                else:
                    break


class _Place:
    """One place of an `Admission`, held while its context is open."""

    __slots__ = ("_admission", "_cost_bytes", "_size_class")

    def __init__(self, admission: Admission, size_class: SizeClass, cost_bytes: int) -> None:
        self._admission = admission
        self._size_class = size_class
        self._cost_bytes = cost_bytes

    async def __aenter__(self) -> None:
        await self._admission.enter(self._size_class, self._cost_bytes)

    async def __aexit__(self, *_: object) -> None:
        self._admission.leave(self._size_class, self._cost_bytes)


def body_cost(size: int, whole_body_bytes: int, window_bytes: int) -> int:
    """Bytes one transfer of `size` bytes holds: the body itself, or its windows with the transport's copies."""
    return size if size <= whole_body_bytes else 4 * window_bytes
