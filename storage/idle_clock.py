"""The idle clock: ends requests that wait too long for their server, all those of one transport by one timer."""

from __future__ import annotations

import asyncio
import time

from storage.transport import Broken

_LEAST_BYTES_PER_S = 32 * 1024
"""What is moved as one piece may take the idle time and a second more for each of these bytes."""
_LONGEST_LOOK_S = 1.0


class IdleClock:
    """Looks a few times per idle time (in seconds) for watches over their deadline. Used on one event loop.

    A timer of its own for every await would cost a tenth of the CPU of a small object.
    """

    def __init__(self, idle_s: float) -> None:
        self.idle_s = idle_s
        self._every_s = min(_LONGEST_LOOK_S, idle_s / 4)
        self._watches: set[IdleWatch] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, watch: IdleWatch) -> None:
        self._watches.add(watch)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._every_s, self._look)

    def discard(self, watch: IdleWatch) -> None:
        self._watches.discard(watch)

    def _look(self) -> None:
        now = time.monotonic()
        for watch in self._watches:
            if watch.deadline is not None and watch.deadline < now:
                watch.expire()
        again = asyncio.get_running_loop().call_later(self._every_s, self._look) if self._watches else None
        self._timer = again


class IdleWatch:
    """One request and its reply, with a deadline while something is awaited of the server.

    The clock stands still while the next piece of a streamed body is made: that is not this server's delay.
    Whoever waits turns a cancellation into Broken by `raise_if_late`.
    """

    __slots__ = ("_answered", "_clock", "_late", "_task", "deadline")

    def __init__(self, clock: IdleClock) -> None:
        self._clock = clock
        self._late = False
        self._answered = False
        self._task: asyncio.Task[object] | None = None
        self.deadline: float | None = None

    def start(self, size: int, more_s: float) -> None:
        """A request goes out with a body of `size` bytes; `more_s` seconds are for what comes before it."""
        self._clock.add(self)
        self.wait_for(size, more_s)

    def stop(self) -> None:
        """Nothing is awaited any more."""
        self._clock.discard(self)
        self.deadline = None

    def wait_for(self, size: int, more_s: float = 0.0) -> None:
        """The running task waits for `size` bytes from now on."""
        self._task = asyncio.current_task() or self._task
        self.deadline = time.monotonic() + self._patience_s(size) + more_s

    def pause(self) -> None:
        """Nothing is awaited for now."""
        self.deadline = None

    def sending(self, size: int) -> None:
        """A piece of the body is on its way, or all of it is and the answer is due. Not so once it is here."""
        if not self._answered:
            self.deadline = time.monotonic() + self._patience_s(size)

    def preparing(self) -> None:
        """The next piece of the body is being made."""
        if not self._answered:
            self.deadline = None

    def answered(self) -> None:
        """The answer is here: what is left of the body no longer counts."""
        self._answered = True
        self.deadline = None

    def expire(self) -> None:
        """The deadline is over: end what is awaited."""
        self._late, self.deadline = True, None
        if self._task is not None:
            self._task.cancel()

    def raise_if_late(self, what: str) -> None:
        """Turn the cancellation that `expire` caused into Broken; any other one is left to come out."""
        if self._late:
            self._late = False
            if self._task is not None:
                self._task.uncancel()
            raise Broken(what)

    def _patience_s(self, size: int) -> float:
        return self._clock.idle_s + size / _LEAST_BYTES_PER_S
