"""Ledger sessions for tests, and waiting for what they do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from ledger.leases import RunRef
from ledger.objects import RowOutcome
from ledger.session import LedgerSession
from model.status import Status

VERIFIED = RowOutcome(Status.VERIFIED)
NEVER_S = 3_600.0


def open_session(dsn: str, ref: RunRef, **changes: Any) -> LedgerSession:
    """A session that flushes only when told to, unless `changes` say otherwise."""
    settings: dict[str, Any] = {
        "flush_rows": 2_000,
        "flush_bytes": 4 * 1024 * 1024,
        "flush_interval_s": NEVER_S,
        "lease_ttl_s": 60.0,
        "worker_id": "worker-1",
        "on_stop": lambda reason: None,
        "on_lease_lost": lambda: None,
    }
    return LedgerSession(dsn, ref, **(settings | changes))


def until(condition: Callable[[], object]) -> None:
    """Returns when `condition` holds; the test's own time-out is the bound."""
    pause = threading.Event()
    while not condition():
        pause.wait(0.02)
