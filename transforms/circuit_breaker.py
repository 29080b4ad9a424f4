"""The circuit breaker of `--max_failures`: judged over all workers, by what they report with their heartbeats."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress

from ledger import queries, runs
from ledger.session import LedgerSession
from model.errors import InvalidInput, S3ferryError
from model.outcome import MAX_FAILURES
from model.status import SizeClass
from options.values import FailureLimit

_LOOK_EVERY_S = 2.0


def exceeded(limit: FailureLimit, sums: Mapping[str, int]) -> bool:
    """Whether a run whose workers report `sums` has more failures than it may."""
    return limit.exceeded(sums.get("failed", 0), sum(sums.get(f"{name}.objects", 0) for name in SizeClass))


def trip(ledger: LedgerSession, run_id: int) -> None:
    """Ask the run to stop. Repeatable. Raises what ended the session."""
    with suppress(InvalidInput):  # it has ended meanwhile: nothing is left to stop
        ledger.call(lambda conn: runs.request_stop(conn, run_id, MAX_FAILURES))


class WorkersBreaker:
    """Judges a run without a driver from one of its workers, on a thread of its own, once something failed here."""

    def __init__(self, ledger: LedgerSession, run_id: int, limit: FailureLimit, counters: Mapping[str, int]) -> None:
        self._ledger = ledger
        self._run_id = run_id
        self._limit = limit
        self._counters = counters
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="max-failures", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Look no more. Repeatable."""
        self._closed.set()

    def _watch(self) -> None:
        with suppress(S3ferryError):  # the session has ended, and the worker with it
            while not self._closed.wait(_LOOK_EVERY_S):
                if self._counters.get("failed", 0) and self._look():
                    return

    def _look(self) -> bool:
        sums = self._ledger.call(lambda conn: queries.progress(conn, self._run_id), is_work=False)
        if exceeded(self._limit, sums):
            trip(self._ledger, self._run_id)
            return True
        return False
