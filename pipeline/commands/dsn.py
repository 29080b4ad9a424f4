"""Where the ledger is, for commands that are about nothing else."""

from __future__ import annotations

import os

from model.errors import InvalidInput


def named_dsn() -> str:
    """The DSN the environment names ("" for libpq's own variables). Raises InvalidInput where it names none."""
    from ledger.dsn import ledger_dsn  # noqa: PLC0415 (loads psycopg)

    dsn = ledger_dsn(os.environ)
    if dsn is None:
        raise InvalidInput("no ledger is named; set LEDGER_DSN, or PGHOST and the other PG* variables")
    return dsn
