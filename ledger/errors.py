"""What a PostgreSQL error means to the ledger: one mapping, by SQLSTATE.

Source: PostgreSQL manual, appendix A «PostgreSQL Error Codes». psycopg leaves `sqlstate` None for what
libpq or psycopg itself finds: a lost connection, a refused log-in, text that PostgreSQL cannot hold.
"""

from __future__ import annotations

import struct
from enum import Enum

import psycopg

from model.errors import LedgerUnavailable, RunBroken


class Meaning(Enum):
    """What to do about an error."""

    RETRY = "retry"
    """Passing trouble: reopen the connection where it is lost and repeat the transaction."""
    POISON = "poison"
    """The data of some row cannot be stored; the same row fails again, others do not."""
    BROKEN = "broken"
    """Nothing will help but a person."""


_RETRY_CLASSES = ("08", "40", "53", "57", "58")
_RETRY_STATES = frozenset(
    {
        "55P03",  # lock_not_available: lock_timeout
        "25006",  # read_only_sql_transaction: a fail-over under way
        "25P03",  # idle_in_transaction_session_timeout
        "25P04",  # transaction_timeout
    }
)
_POISON_CLASSES = ("22", "23", "54")
_REFUSED_AT_LOGIN = ("authentication failed", "does not exist", "no pg_hba.conf entry", "no password supplied")
_STATES_BY_WORDS = {
    "too many clients": "53300",
    "too many connections": "53300",
    "connection slots are reserved": "53300",
    "no more connections allowed": "53300",  # PgBouncer's words
    "No space left on device": "53100",
}
"""libpq gives no SQLSTATE where a connection was refused."""
_REMEDIES = {
    "28": "check the user and password of LEDGER_DSN",
    "3D": "create the database LEDGER_DSN names",
    "42501": "grant this role the rights on the ledger's tables and functions (again after a migration)",
    "42P01": "run `s3ferry ledger migrate`",
    "42703": "run `s3ferry ledger migrate`",
    "42704": "run `s3ferry ledger migrate`",
    "53100": "free space on the ledger's disk",
    "53300": "let the ledger's server, database, role or pooler take more connections",
    "53": "give the ledger's server more memory",
    "25006": "let LEDGER_DSN name the primary (target_session_attrs=read-write)",
}


def meaning(error: Exception) -> Meaning:
    """The meaning of `error`, raised by psycopg or while a value was turned into what PostgreSQL takes."""
    if isinstance(error, UnicodeError | struct.error):
        return Meaning.POISON
    if not isinstance(error, psycopg.Error):
        return Meaning.BROKEN
    state = error.sqlstate
    if state is None:
        return _without_state(error)
    if state.startswith(_RETRY_CLASSES) or state in _RETRY_STATES:
        return Meaning.RETRY
    return Meaning.POISON if state.startswith(_POISON_CLASSES) else Meaning.BROKEN


def loses_connection(error: Exception) -> bool:
    """Whether the connection must be reopened before the transaction is repeated."""
    state = error.sqlstate if isinstance(error, psycopg.Error) else None
    return state is None or state.startswith(("08", "53", "57P", "58")) or state in ("25006", "25P03", "25P04")


def broken(error: Exception) -> RunBroken:
    """`error` as the one line that ends a run, with its remedy where there is one."""
    return RunBroken(f"the ledger refused: {_line(error)}{_remedy(error)}")


def unavailable(error: Exception, tried_s: float) -> RunBroken:
    """What `error` is after `tried_s` seconds of repetition: LedgerUnavailable, or RunBroken on a full disk."""
    line = f"the ledger did not answer for {tried_s:.0f} s: {_line(error)}{_remedy(error)}"
    return RunBroken(line) if _state(error) == "53100" else LedgerUnavailable(line)


def _without_state(error: psycopg.Error) -> Meaning:
    if isinstance(error, psycopg.DataError):
        return Meaning.POISON
    # libpq gives no SQLSTATE for a failed log-in, only the server's words.
    if any(words in str(error) for words in _REFUSED_AT_LOGIN):
        return Meaning.BROKEN
    # Lost connections, and answers psycopg makes no sense of: a pooler whose server died says so twice.
    return Meaning.RETRY


def _state(error: Exception) -> str:
    """The SQLSTATE, or what the server's words say; "" where neither tells."""
    state = error.sqlstate if isinstance(error, psycopg.Error) else None
    return state or next((state for words, state in _STATES_BY_WORDS.items() if words in str(error)), "")


def _remedy(error: Exception) -> str:
    state = _state(error)
    text = _REMEDIES.get(state) or _REMEDIES.get(state[:2])
    return f"; {text}" if text else ""


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
