"""The driver's eye on a running graph: progress from the workers' heartbeats, and the circuit breaker."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType
from typing import Self

from ledger import queries
from ledger.leases import RunRef
from ledger.session import LedgerSession
from model.errors import RunBroken
from model.status import SizeClass
from options.values import FailureLimit
from pipeline.progress import ClassProgress, ProgressSnapshot, open_progress
from transforms.circuit_breaker import exceeded, trip

_LOGGER = logging.getLogger("s3ferry")

_LOOK_EVERY_S = 1.0
_JOIN_S = 0.2


class Watch:
    """Shows how the run goes and stops it above `limit` failures. `rows_total` where it is known."""

    def __init__(self, session: LedgerSession, ref: RunRef, rows_total: int | None, limit: FailureLimit | None) -> None:
        self._session = session
        self._ref = ref
        self._rows_total = rows_total
        self._limit = limit
        self._progress = open_progress(sys.stderr)
        self._next_look = 0.0

    def __enter__(self) -> Self:
        self._progress.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._next_look = 0.0
        self.look()
        self._progress.__exit__(kind, error, trace)

    def look(self) -> float:
        """Look if it is time to; returns seconds until it is worth calling again."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + _LOOK_EVERY_S
            try:
                sums = self._session.call(lambda conn: queries.progress(conn, self._ref.run_id))
            except RunBroken as error:
                _LOGGER.debug("no progress to show: %s", error)
                return _LOOK_EVERY_S
            self._show(sums, now)
            self._break_circuit(sums)
        return _JOIN_S

    def _show(self, sums: dict[str, int], now: float) -> None:
        classes = tuple(
            ClassProgress(
                name,
                sums.get(f"{name}.objects", 0),
                sums.get(f"{name}.bytes", 0),
                sums.get(f"{name}.failed", 0),
            )
            for name in SizeClass
            if f"{name}.objects" in sums or f"{name}.bytes" in sums
        )
        ended = sum(one.objects for one in classes) + sums.get("passed_over", 0)
        self._progress.update(ProgressSnapshot(now, ended, self._rows_total, classes))

    def _break_circuit(self, sums: dict[str, int]) -> None:
        if self._limit is not None and exceeded(self._limit, sums):
            self._limit = None
            trip(self._session, self._ref.run_id)
