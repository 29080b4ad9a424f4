"""The engine: one event loop per worker process, on which all transfers of all bundles run.

DoFns submit from their own threads and take finished results back there. Results carry the bundle
they belong to: a failed bundle's tasks are cancelled and its results reach no other bundle.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from typing import Any, Generic, TypeVar

from model.errors import RunBroken, Stopped

T = TypeVar("T")
R = TypeVar("R")

_NOTHING = object()

HAND_OVER_S = 0.2
"""Finished results wait at most this long before the bundle's thread takes them on to the ledger."""


class Bundle(Generic[R]):
    """The work of one Beam bundle. Used by one thread; its tasks run on the engine's loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ended: Callable[[], Exception]) -> None:
        self._loop = loop
        self._ended = ended
        self._results: deque[Any] = deque()
        self._enough = 1
        self._ready = threading.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._cancelled = False
        self.pending = 0

    def submit(self, make: Callable[[T], Awaitable[R]], items: Iterable[T]) -> None:
        """Start `make(item)` for each item. Stopped items yield nothing."""
        batch = list(items)
        self.pending += len(batch)
        self._loop.call_soon_threadsafe(self._start, make, batch)

    def finished(self, most_pending: int) -> Iterator[list[R]]:
        """Results in batches as they come, until at most `most_pending` are under way.

        Hands over at least every `HAND_OVER_S` what is there. Raises what a task raised, after the results
        that came before it.
        """
        while True:
            results, error = self._take()
            if results:
                yield results
            if error is not None:
                raise error
            if self.pending <= most_pending:
                return
            # one wake-up for many results: each costs a turn of the interpreter lock
            self._enough = self.pending - most_pending
            self._ready.clear()
            if len(self._results) < self._enough:
                self._ready.wait(HAND_OVER_S)

    def drain(self) -> Iterator[list[R]]:
        """All remaining results."""
        return self.finished(0)

    def cancel(self) -> None:
        """Give the bundle up: its tasks end and its results go nowhere. May be called twice."""
        self._cancelled = True
        self._loop.call_soon_threadsafe(self._cancel)

    def _take(self) -> tuple[list[R], BaseException | None]:
        results: list[R] = []
        while self._results:
            result = self._results.popleft()
            self.pending -= 1
            if isinstance(result, BaseException):
                return results, result
            if result is not _NOTHING:
                results.append(result)
        return results, None

    def _start(self, make: Callable[[T], Awaitable[R]], batch: list[T]) -> None:
        if self._cancelled:
            return
        for item in batch:
            task = self._loop.create_task(self._one(make, item))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _one(self, make: Callable[[T], Awaitable[R]], item: T) -> None:
        try:
            result: Any = await make(item)
        except Stopped:
            result = _NOTHING
        except asyncio.CancelledError:
            result = self._ended()
        except Exception as error:  # handed to the bundle's thread, which raises it
            result = error
        self._results.append(result)
        if len(self._results) >= self._enough or isinstance(result, BaseException):
            self._ready.set()


class Engine:
    """The loop and its thread. Start one per process; `close` ends it."""

    def __init__(self) -> None:
        import uvloop  # noqa: PLC0415 - a heavy import

        self._loop = uvloop.new_event_loop()
        self._why: Exception = RunBroken("the engine was closed while work was under way")
        self._thread = threading.Thread(target=self._loop.run_forever, name="engine", daemon=True)
        self._thread.start()

    def open_bundle(self) -> Bundle[Any]:
        return Bundle(self._loop, lambda: self._why)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run one coroutine on the loop and wait for it, from any other thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def soon(self, call: Callable[..., object], *arguments: object) -> None:
        """Call something on the loop, from any thread, without waiting."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call, *arguments)

    def is_busy(self) -> bool:
        """Whether anything is under way, asked from any other thread."""

        async def others() -> bool:
            return len(asyncio.all_tasks()) > 1

        return self.run(others())

    def cancel_all(self, why: Exception) -> None:
        """Cancel every task under way, whose bundles then raise `why`: nothing more may be written."""

        def cancel() -> None:
            self._why = why
            for task in asyncio.all_tasks(self._loop):
                task.cancel()

        self.soon(cancel)

    def close(self) -> None:
        """Stop the loop and wait for its thread. May be called twice."""
        if self._loop.is_closed():
            return
        self.soon(self._loop.stop)
        self._thread.join(timeout=10)
        if not self._thread.is_alive():
            self._loop.close()
