"""Bounded repetition of what PostgreSQL refuses for the moment."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import psycopg

from ledger.connect import Connection, connect
from ledger.errors import Meaning, broken, meaning, unavailable

T = TypeVar("T")

_LOG = logging.getLogger(__name__)
RETRY_FOR_S = 30.0
_FIRST_S = 0.1
_LONGEST_S = 3.0


def pauses(total_s: float) -> Iterator[float]:
    """Pauses in seconds, doubling from 0.1 to 3 with jitter (half to full), about `total_s` in all."""
    spent, pause = 0.0, _FIRST_S
    while spent < total_s:
        jittered = min(pause * random.uniform(0.5, 1.0), total_s - spent)  # noqa: S311 - not a secret
        yield jittered
        spent += jittered
        pause = min(2 * pause, _LONGEST_S)


def repeat(dsn: str, name: str, work: Callable[[Connection], T], total_s: float = RETRY_FOR_S) -> T:
    """`work` on a connection of its own, repeated for up to `total_s` seconds; `work` must be repeatable.

    Raises RunBroken with a remedy for what repetition cannot mend, LedgerUnavailable when time is up, and
    whatever else `work` raises.
    """
    waits = pauses(total_s)
    while True:
        try:
            with connect(dsn, name) as conn:
                return work(conn)
        except Exception as error:
            raise_unless_passing(error)
            wait = next(waits, None)
            if wait is None:
                raise unavailable(error, total_s) from error
            _LOG.warning("ledger: %s; trying again in %.1f s", " ".join(str(error).split()), wait)
            time.sleep(wait)


def raise_unless_passing(error: Exception) -> None:
    """Returns if `error` is worth a repetition; else raises it, or RunBroken with a remedy if it is psycopg's."""
    if not isinstance(error, psycopg.Error):
        raise error
    if meaning(error) is not Meaning.RETRY:
        raise broken(error) from error
