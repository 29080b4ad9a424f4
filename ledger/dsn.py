"""Where the ledger is: LEDGER_DSN or libpq's own PG* variables, and how to print that without its secrets."""

from __future__ import annotations

from collections.abc import Mapping

from model.errors import InvalidInput

_PG_VARIABLES = ("PGHOST", "PGHOSTADDR", "PGDATABASE", "PGSERVICE")
_SECRETS = frozenset({"password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"})


def ledger_dsn(environ: Mapping[str, str]) -> str | None:
    """The connection string in `environ`, or None where no ledger is named.

    LEDGER_DSN wins. With PGHOST, PGHOSTADDR, PGDATABASE or PGSERVICE set the answer is "", which makes
    libpq read its PG* variables from the process's environment. Raises InvalidInput, without quoting the
    value, when LEDGER_DSN is no connection string.
    """
    dsn = environ.get("LEDGER_DSN", "").strip()
    if dsn:
        _parsed(dsn)
        return dsn
    return "" if any(environ.get(name) for name in _PG_VARIABLES) else None


def redact(dsn: str) -> str:
    """`dsn` as keywords and values, without any secret; for logs. Raises InvalidInput as `ledger_dsn` does."""
    from psycopg.conninfo import make_conninfo  # noqa: PLC0415 - keeps the command line's start-up light

    public = {name: value for name, value in _parsed(dsn).items() if name not in _SECRETS}
    return make_conninfo("", **public) or "(PG* variables)"


def _parsed(dsn: str) -> dict[str, str | int | None]:
    import psycopg  # noqa: PLC0415 - as above
    from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415 - as above

    try:
        return dict(conninfo_to_dict(dsn))
    except psycopg.Error:
        # libpq quotes the offending word, which may be the password: its text is left out.
        raise InvalidInput(
            "LEDGER_DSN is not a PostgreSQL connection string: "
            "write postgresql://user@host:5432/database or host=… dbname=… user=…"
        ) from None
