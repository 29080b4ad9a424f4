"""The ledger's schema: numbered, checksummed migrations from `ledger/migrations/NNNN_name.sql`."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib import resources

import psycopg

from ledger.connect import Connection, transaction
from ledger.retry import repeat
from model.errors import RunBroken

SCHEMA_VERSION = 5
"""The version this package reads and writes: that of the newest migration."""

_LOCK = 0x7333_6665_7272_7901
"""Key of the advisory lock that migrations take: "s3ferry" in ASCII, and 1."""
_NAME = re.compile(r"(\d{4})_\w+\.sql")
_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class Migration:
    """One step. `checksum` is the SHA-256 of `sql`, in hex."""

    version: int
    name: str
    sql: str
    checksum: str


def migrations() -> list[Migration]:
    """All migrations of this package, oldest first."""
    found = []
    for entry in resources.files("ledger").joinpath("migrations").iterdir():
        match = _NAME.fullmatch(entry.name)
        if match:
            sql = entry.read_text(encoding="utf-8")
            found.append(Migration(int(match[1]), entry.name, sql, hashlib.sha256(sql.encode()).hexdigest()))
    return sorted(found, key=lambda migration: migration.version)


def migrate(dsn: str) -> int:
    """Brings the ledger up to date and returns its version.

    All in one transaction under an advisory lock, so two may start at once; repeatable. Raises RunBroken
    when the ledger is newer than this package, an applied migration was another text, or the database is not in UTF-8.
    """
    return repeat(dsn, "migrate", _migrate)


def require_current(conn: Connection) -> None:
    """Raises RunBroken, with the remedy, unless the ledger's version is this package's."""
    try:
        row = conn.execute("SELECT max(version) FROM schema_migrations").fetchone()
    except psycopg.errors.UndefinedTable:
        row = None
    version = (row[0] if row else None) or 0
    if version < SCHEMA_VERSION:
        raise RunBroken(
            f"the ledger's schema is at version {version}, this package needs {SCHEMA_VERSION}: "
            "run `s3ferry ledger migrate`"
        )
    _refuse_newer(version)


def _migrate(conn: Connection) -> int:
    with transaction(conn, _TIMEOUT_S):
        _refuse_other_encodings(conn)
        conn.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        conn.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations (version integer PRIMARY KEY, name text NOT NULL,"
            " checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"
        )
        applied = {row[0]: row[1] for row in conn.execute("SELECT version, checksum FROM schema_migrations")}
        _refuse_newer(max(applied, default=0))
        for migration in migrations():
            if migration.version not in applied:
                conn.execute(migration.sql)
                conn.execute(
                    "INSERT INTO schema_migrations (version, name, checksum) VALUES (%s, %s, %s)",
                    (migration.version, migration.name, migration.checksum),
                )
            elif applied[migration.version] != migration.checksum:
                raise RunBroken(
                    f"the ledger was made by another text of {migration.name}: "
                    "use the s3ferry version that made it, or a new database"
                )
    return SCHEMA_VERSION


def _refuse_other_encodings(conn: Connection) -> None:
    """Keys of S3 are UTF-8; what another encoding lacks could not be kept."""
    row = conn.execute("SELECT current_setting('server_encoding')").fetchone()
    if row is not None and row[0] != "UTF8":
        raise RunBroken(
            f"the ledger's database has the encoding {row[0]}, and keys are UTF-8: "
            "make it with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
        )


def _refuse_newer(version: int) -> None:
    if version > SCHEMA_VERSION:
        raise RunBroken(
            f"the ledger's schema is at version {version}, this package knows {SCHEMA_VERSION}: install a newer s3ferry"
        )
