"""Rows on their way to the ledger: tickets, bounds, and when a batch is due. No I/O; not locked by itself."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Generic, TypeVar

from ledger.objects import RowOutcome
from model.records import DeadLetter, IntegrityRecord, SentPart

R = TypeVar("R")

_ROW_BYTES = 300
"""A row without its texts of free length, about."""
_BATCHES_WAITING = 4
_SOURCE_KEY, _DESTINATION_KEY = attrgetter("source_key"), attrgetter("destination_key")


class Pending(Generic[R]):
    """A result that another thread will bring. The first word counts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._result: R | None = None
        self._failure: BaseException | None = None

    @property
    def done(self) -> bool:
        return self._done.is_set()

    def resolve(self, result: R) -> None:
        with self._lock:
            if not self._done.is_set():
                self._result = result
                self._done.set()

    def fail(self, failure: BaseException) -> None:
        with self._lock:
            if not self._done.is_set():
                self._failure = failure
                self._done.set()

    def result(self, timeout_s: float | None) -> R:
        """The result, once it is there; raises what failed, or TimeoutError after `timeout_s` seconds."""
        if not self._done.wait(timeout_s):
            raise TimeoutError(f"the ledger has not answered within {timeout_s} s")
        if self._failure is not None:
            raise self._failure
        return self._result  # type: ignore[return-value]  # None is a result where R is None


class Ticket(Generic[R]):
    """What `write…` gives back for rows that are not durable yet."""

    def __init__(self, hurry: Callable[[], None]) -> None:
        self._pending: Pending[R] = Pending()
        self._hurry = hurry

    @property
    def done(self) -> bool:
        """Whether `wait` would return or raise at once."""
        return self._pending.done

    def wait(self, timeout_s: float | None = None) -> R:
        """Blocks until the rows are durable, and makes that soon; returns their outcomes (None for parts and
        dead letters). Raises what failed, or TimeoutError after `timeout_s` seconds (the rows stay on their way).
        """
        if not self._pending.done:
            self._hurry()
        return self._pending.result(timeout_s)

    def resolve(self, result: R) -> None:
        self._pending.resolve(result)

    def fail(self, failure: BaseException) -> None:
        self._pending.fail(failure)


@dataclass(frozen=True, slots=True)
class Entry:
    """The rows of one `write…` call; exactly one of the three kinds is not empty."""

    arrived: float
    objects: Sequence[IntegrityRecord] = ()
    parts: Sequence[SentPart] = ()
    letters: Sequence[DeadLetter] = ()
    object_ticket: Ticket[list[RowOutcome]] | None = None
    plain_ticket: Ticket[None] | None = None

    @property
    def rows(self) -> int:
        return len(self.objects) + len(self.parts) + len(self.letters)

    @property
    def size(self) -> int:
        """About how many bytes the rows are."""
        texts = sum(map(len, map(_SOURCE_KEY, self.objects))) + sum(map(len, map(_DESTINATION_KEY, self.objects)))
        texts += sum(len(record.error) for record in self.objects if record.error)
        texts += sum(len(letter.reason) + len(letter.text) for letter in self.letters)
        return texts + self.rows * _ROW_BYTES

    def fail(self, failure: BaseException) -> None:
        for ticket in (self.object_ticket, self.plain_ticket):
            if ticket is not None:
                ticket.fail(failure)


@dataclass
class WriteBuffer:
    """Entries in order of arrival. `flush_interval_s` is in seconds of the clock that made `Entry.arrived`."""

    flush_rows: int
    flush_bytes: int
    flush_interval_s: float
    _entries: deque[tuple[Entry, int]] = field(default_factory=deque)
    _rows: int = 0
    _bytes: int = 0
    _taken: tuple[int, int] = (0, 0)
    _hurried: int = 0

    def has_room(self) -> bool:
        """Whether less than four batches wait or are being written."""
        rows, size = self._rows + self._taken[0], self._bytes + self._taken[1]
        return rows < _BATCHES_WAITING * self.flush_rows and size < _BATCHES_WAITING * self.flush_bytes

    def add(self, entry: Entry) -> None:
        size = entry.size
        self._entries.append((entry, size))
        self._rows += entry.rows
        self._bytes += size

    def hurry(self) -> None:
        """Makes everything that waits now due."""
        self._hurried = len(self._entries)

    def due_in(self, now: float) -> float | None:
        """Seconds until the next batch is due, 0 or less when it is, None when nothing waits."""
        if not self._entries:
            return None
        if self._hurried or self._rows >= self.flush_rows or self._bytes >= self.flush_bytes:
            return 0.0
        return self._entries[0][0].arrived + self.flush_interval_s - now

    def take(self) -> list[Entry]:
        """The next batch: entries up to the limits, at least one."""
        batch: list[Entry] = []
        rows = total = 0
        while self._entries and (not batch or (rows < self.flush_rows and total < self.flush_bytes)):
            entry, size = self._entries.popleft()
            batch.append(entry)
            rows += entry.rows
            total += size
        self._rows -= rows
        self._bytes -= total
        self._taken = (rows, total)
        self._hurried = max(0, self._hurried - len(batch))
        return batch

    def written(self) -> None:
        """The batch taken last is no longer in memory."""
        self._taken = (0, 0)

    def drain(self) -> list[Entry]:
        """Everything that waits, to be given up."""
        entries = [entry for entry, _ in self._entries]
        self._entries.clear()
        self._rows = self._bytes = self._hurried = 0
        return entries
