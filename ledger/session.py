"""A process's line to the ledger: one thread, one connection, a bounded buffer, heartbeats.

Other threads hand rows over and wait on tickets; the owning thread writes them, answers queries, renews the
lease and learns of a stop request. A lost connection is reopened and the work under way repeated.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

import psycopg

from ledger.buffer import Entry, Pending, Ticket, WriteBuffer
from ledger.connect import Connection, connect, transaction
from ledger.errors import loses_connection, unavailable
from ledger.heartbeat import beat
from ledger.leases import RunRef, ended_line
from ledger.objects import Merge, RowOutcome
from ledger.process import this_process
from ledger.retry import RETRY_FOR_S, pauses, raise_unless_passing, repeat
from ledger.schema import require_current
from ledger.writer import write_dead_letters, write_objects, write_parts
from model.errors import LeaseLost, LedgerUnavailable, RunBroken
from model.records import DeadLetter, IntegrityRecord, SentPart

T = TypeVar("T")

_LOG = logging.getLogger(__name__)
_LONGEST_BEAT_S = 2.0
_JOIN_S = 1.0
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Goes on while a process is stopped, and where the system has such a clock while the machine sleeps."""


@dataclass(frozen=True, slots=True)
class _Call:
    work: Callable[[Connection], Any]
    pending: Pending[Any]


class _Work(NamedTuple):
    """What the owning thread does next, in this order."""

    beat: bool
    call: _Call | None
    batch: list[Entry]


_IDLE = _Work(False, None, [])


class LedgerSession:
    """See the module. Starts with the constructor, ends with `close`; also a context manager.

    Batches are written at `flush_rows` rows, about `flush_bytes` bytes or after `flush_interval_s` seconds,
    whichever is first. Heartbeats come every min(2 s, `lease_ttl_s` / 6). `on_stop(reason)` is called once,
    when a stop is requested; `on_lease_lost()` once, when another run has taken over or the lease could not
    be renewed for half its TTL. Both are called on a thread of the session and must not wait for it. `merge`
    says what records do to the rows of `objects`.

    After LeaseLost, RunBroken or, once `retry_for_s` seconds of reopening are spent, LedgerUnavailable, every
    waiter and every later call gets that error.
    """

    def __init__(
        self,
        dsn: str,
        ref: RunRef,
        *,
        flush_rows: int,
        flush_bytes: int,
        flush_interval_s: float,
        lease_ttl_s: float,
        worker_id: str,
        on_stop: Callable[[str], None],
        on_lease_lost: Callable[[], None],
        retry_for_s: float = RETRY_FOR_S,
        merge: Merge = Merge.COPIES,
    ) -> None:
        self._dsn = dsn
        self._merge = merge
        self._ref = ref
        self._ttl_s = lease_ttl_s
        self._beat_every_s = min(_LONGEST_BEAT_S, lease_ttl_s / 6)
        self._worker_id = worker_id
        self._process = this_process()
        self._on_stop = on_stop
        self._on_lease_lost = on_lease_lost
        self._retry_for_s = retry_for_s

        self._changed = threading.Condition()
        self._buffer = WriteBuffer(flush_rows, flush_bytes, flush_interval_s)
        self._calls: deque[_Call] = deque()
        self._under_way = _IDLE
        self._counters: Mapping[str, int] = {}
        self._closing = False
        self._failure: Exception | None = None
        self._rows_lost = False
        self._stop_seen = False
        self._renewing = True
        self._asked_apart = 0
        self.used_at = time.monotonic()
        self._next_beat = time.monotonic()
        self._renewed = _lease_clock()
        self._ended = threading.Event()

        self._conn: Connection | None = None
        self._owner = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._watch = threading.Thread(target=self._watch_lease, name="ledger-lease", daemon=True)
        self._owner.start()
        self._watch.start()

    def write(self, records: Sequence[IntegrityRecord]) -> Ticket[list[RowOutcome]]:
        """Hands records over; the ticket gives their outcomes (see `writer.write_objects`).

        Blocks while four batches wait. Raises what ended the session.
        """
        ticket: Ticket[list[RowOutcome]] = Ticket(self.flush)
        self._add(Entry(time.monotonic(), objects=records, object_ticket=ticket))
        return ticket

    def write_parts(self, parts: Sequence[SentPart]) -> Ticket[None]:
        """Hands over parts; otherwise as `write`."""
        ticket: Ticket[None] = Ticket(self.flush)
        self._add(Entry(time.monotonic(), parts=parts, plain_ticket=ticket))
        return ticket

    def write_dead_letters(self, letters: Sequence[DeadLetter]) -> Ticket[None]:
        """Hands over dead letters; otherwise as `write`."""
        ticket: Ticket[None] = Ticket(self.flush)
        self._add(Entry(time.monotonic(), letters=letters, plain_ticket=ticket))
        return ticket

    def flush(self) -> None:
        """Makes everything handed over so far due at once; does not wait for it."""
        with self._changed:
            self._buffer.hurry()
            self._changed.notify_all()

    def call(self, work: Callable[[Connection], T], *, is_work: bool = True) -> T:
        """`work` in a transaction on the session's connection, on its thread; returns what it returns.

        It is repeated after a lost connection, so it must be repeatable, and short: nothing is renewed
        meanwhile, and each statement ends after a third of the TTL (20 s by default). Sees what was durable
        before. `is_work` says whether it shows that this process has something to do. Raises what `work` raises,
        RunBroken for what the ledger refuses, and what ended the session. What may take longer goes by `call_apart`.
        """
        pending: Pending[T] = Pending()
        with self._changed:
            self._refuse_if_ended()
            if is_work:
                self.used_at = time.monotonic()
            self._calls.append(_Call(work, pending))
            self._changed.notify_all()
        return pending.result(None)

    def call_apart(self, work: Callable[[Connection], T], statement_timeout_s: float = 600.0) -> T:
        """As `call`, for what takes long: on a connection of its own and the caller's thread, while the session
        goes on renewing. Each statement ends after `statement_timeout_s` seconds.
        """
        self._refuse_if_ended()

        def bounded(conn: Connection) -> T:
            with transaction(conn, statement_timeout_s):
                return work(conn)

        with self._changed:
            self._asked_apart += 1
        try:
            return repeat(self._dsn, f"run {self._ref.run_id} {self._worker_id}", bounded, self._retry_for_s)
        finally:
            with self._changed:
                self._asked_apart -= 1
                self.used_at = time.monotonic()

    @property
    def is_busy(self) -> bool:
        """Whether somebody waits for the ledger."""
        with self._changed:
            return bool(self._asked_apart or self._calls or self._under_way.call or self._under_way.batch)

    def require_lease(self) -> None:
        """Raises LeaseLost once the lease was released, or not renewed for half its TTL, else what ended the session.

        To be asked before every effect outside the ledger: a process that was stopped for a while looks here first,
        whatever its threads wake up to.
        """
        if self._failure is not None:
            raise self._failure
        if self._is_late():
            raise self._too_late()
        if not self._renewing:
            raise LeaseLost(ended_line(self._ref))

    def report(self, counters: Mapping[str, int]) -> None:
        """Sets the counters that heartbeats leave in `workers`; looked at with each, so they may go on counting."""
        self._counters = counters

    def close(self) -> None:
        """Writes what waits, leaves a last heartbeat and ends; repeatable. Raises if handed-over rows were lost."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        while self._owner.is_alive() and self._failure is None:
            self._owner.join(_JOIN_S)
        # An ended session whose owner is stuck in a read is left behind: it is a daemon thread.
        self._owner.join(_JOIN_S)
        if self._failure is not None and self._rows_lost:
            raise self._failure

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except Exception:
            if error is None:
                raise

    def _add(self, entry: Entry) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._failure is not None or self._closing or self._buffer.has_room())
            self._refuse_if_ended()
            self.used_at = time.monotonic()
            self._buffer.add(entry)
            self._changed.notify_all()

    def _refuse_if_ended(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._closing:
            raise RunBroken("the ledger session of this process is closed")

    def _run(self) -> None:
        try:
            while (work := self._next_work()) is not None:
                self._do(work)
            if self._renewing:
                self._beat()
        except Exception as error:
            self._end_with(error)
        finally:
            self._ended.set()
            self._disconnect()

    def _next_work(self) -> _Work | None:
        """Blocks until something is due; None when the session is closing and nothing waits."""
        with self._changed:
            while True:
                self._under_way = _IDLE
                if self._failure is not None:
                    return None
                if self._closing:
                    self._buffer.hurry()
                now = time.monotonic()
                due_in = self._buffer.due_in(now)
                flush = due_in is not None and due_in <= 0
                beat_now = self._renewing and now >= self._next_beat
                if beat_now or self._calls or flush:
                    call = self._calls.popleft() if self._calls else None
                    self._under_way = _Work(beat_now, call, self._buffer.take() if flush else [])
                    return self._under_way
                if self._closing:
                    return None
                waits = [due_in] if due_in is not None else []
                waits += [self._next_beat - now] if self._renewing else []
                self._changed.wait(min(waits, default=None))

    def _do(self, work: _Work) -> None:
        if work.beat:
            self._beat()
        if work.call is not None:
            self._answer(work.call)
        if work.batch:
            self._write_batch(work.batch)

    def _write_batch(self, batch: list[Entry]) -> None:
        records = [record for entry in batch for record in entry.objects]
        parts = [part for entry in batch for part in entry.parts]
        letters = [letter for entry in batch for letter in entry.letters]
        outcomes: list[RowOutcome] = []
        if records:
            outcomes = self._repeating(lambda conn: write_objects(conn, self._ref, records, self._merge))
        if parts:
            self._repeating(lambda conn: write_parts(conn, self._ref, parts))
        if letters:
            self._repeating(lambda conn: write_dead_letters(conn, self._ref, letters))
        with self._changed:
            self._buffer.written()
            self._changed.notify_all()
        _resolve(batch, outcomes)

    def _answer(self, call: _Call) -> None:
        def work(conn: Connection) -> object:
            with transaction(conn, self._ttl_s / 3):
                return call.work(conn)

        try:
            call.pending.resolve(self._repeating(work))
        except (LeaseLost, LedgerUnavailable):
            raise
        except Exception as error:
            call.pending.fail(error)

    def _beat(self) -> None:
        started = _lease_clock()
        renewal = self._repeating(
            lambda conn: beat(conn, self._ref, self._ttl_s, self._worker_id, self._process, dict(self._counters)),
            beating=False,
        )
        self._renewed = started
        self._next_beat = time.monotonic() + self._beat_every_s
        # Released means the run has been finished; there is nothing left to hold.
        self._renewing = not renewal.released
        if renewal.stop_requested is not None and not self._stop_seen:
            self._stop_seen = True
            _tell(partial(self._on_stop, renewal.stop_requested))

    def _repeating(self, work: Callable[[Connection], T], *, beating: bool = True) -> T:
        """`work`, repeated while what PostgreSQL says is passing and nobody has ended the session."""
        waits = pauses(self._retry_for_s)
        while True:
            try:
                return work(self._connection())
            except Exception as error:
                raise_unless_passing(error)
                if loses_connection(error):
                    self._disconnect()
                wait = next(waits, None)
                if wait is None:
                    raise unavailable(error, self._retry_for_s) from error
                _LOG.warning("ledger: %s; trying again in %.1f s", " ".join(str(error).split()), wait)
                self._pause(wait, error, beating=beating)

    def _pause(self, wait: float, error: Exception, *, beating: bool) -> None:
        """Sleep, but renew the lease when it is time: what keeps rows from their tables for long need not cost it."""
        until = time.monotonic() + wait
        while (left := until - time.monotonic()) > 0:
            beats = beating and self._renewing
            time.sleep(max(0.0, min(left, self._next_beat - time.monotonic()) if beats else left))
            if self._failure is not None:
                raise self._failure from error
            if beats and time.monotonic() >= self._next_beat:
                self._beat()

    def _connection(self) -> Connection:
        if self._conn is None or self._conn.broken or self._conn.closed:
            self._disconnect()
            conn = connect(self._dsn, f"run {self._ref.run_id} {self._worker_id}")
            try:
                require_current(conn)
            except BaseException:
                conn.close()
                raise
            self._conn = conn
        return self._conn

    def _disconnect(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            with suppress(psycopg.Error):
                conn.close()

    def _watch_lease(self) -> None:
        """Apart from the owning thread, which may be stuck in a read when the server falls silent."""
        while not self._ended.wait(min(0.5, self._ttl_s / 20)):
            if self._is_late():
                self._end_with(self._too_late())
                return

    def _is_late(self) -> bool:
        return self._renewing and _lease_clock() - self._renewed > self._ttl_s / 2

    def _too_late(self) -> LeaseLost:
        return LeaseLost(f"run {self._ref.run_id} could not renew its lease for {self._ttl_s / 2:.0f} s: it stops here")

    def _end_with(self, error: Exception) -> None:
        """The first error ends the session: all that waits, and all that comes, gets it."""
        with self._changed:
            if self._failure is not None:
                return
            self._failure = error
            # What is under way too: the owning thread may never come back from it.
            entries = [*self._under_way.batch, *self._buffer.drain()]
            calls = [*self._calls, *([self._under_way.call] if self._under_way.call else [])]
            self._calls.clear()
            self._rows_lost = bool(entries)
            self._changed.notify_all()
        for entry in entries:
            entry.fail(error)
        for call in calls:
            call.pending.fail(error)
        if isinstance(error, LeaseLost):
            _tell(self._on_lease_lost)


def _resolve(batch: Iterable[Entry], outcomes: Sequence[RowOutcome]) -> None:
    start = 0
    for entry in batch:
        end = start + len(entry.objects)
        if entry.object_ticket is not None:
            entry.object_ticket.resolve(list(outcomes[start:end]))
        if entry.plain_ticket is not None:
            entry.plain_ticket.resolve(None)
        start = end


def _lease_clock() -> float:
    """Seconds, from any beginning."""
    return time.clock_gettime(_CLOCK)


def _tell(callback: Callable[[], None]) -> None:
    try:
        callback()
    except Exception:
        _LOG.exception("ledger: a callback of the session failed")
