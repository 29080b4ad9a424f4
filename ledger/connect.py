"""Connections and transactions to the ledger: time-outs on all of them, nothing that a pooler would break.

Behind PgBouncer in transaction mode a setting or temporary table outlives its transaction on somebody
else's connection. So nothing is SET for a session, no statement is prepared on the server, and what a
transaction needs it sets for itself alone (`SET LOCAL`, by `set_config(…, true)`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow

Connection: TypeAlias = psycopg.Connection[TupleRow]

STATEMENT_TIMEOUT_S = 20.0
"""Of each statement, unless a transaction says otherwise; under a lease also no more than a third of its TTL."""

_DEFAULTS = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}


def connect(dsn: str, name: str) -> Connection:
    """A new connection in autocommit mode, shown in pg_stat_activity as `s3ferry <name>`.

    What `dsn` says of time-outs and keepalives stays; else 10 s to connect and 15 s until a silent peer
    is taken for dead. Raises psycopg errors; may be repeated.
    """
    given = conninfo_to_dict(dsn)
    options = {option: value for option, value in _DEFAULTS.items() if option not in given}
    # NAMEDATALEN: a longer application_name would be cut by the server.
    # UTF8: rows are encoded here, whatever the database's own encoding is.
    options_text = make_conninfo(dsn, application_name=f"s3ferry {name}"[:63], client_encoding="UTF8", **options)
    return psycopg.connect(options_text, autocommit=True, prepare_threshold=None)


@contextmanager
def transaction(conn: Connection, statement_timeout_s: float = STATEMENT_TIMEOUT_S) -> Iterator[Connection]:
    """A transaction whose statements, and waits for locks, end after `statement_timeout_s` seconds."""
    with conn.transaction():
        conn.execute(
            "SELECT set_config('statement_timeout', %s, true), set_config('lock_timeout', %s, true)",
            (f"{statement_timeout_s * 1000:.0f}ms", f"{statement_timeout_s * 500:.0f}ms"),
        )
        yield conn
