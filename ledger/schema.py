"""The ledger's schema: numbered, checksummed migrations from `ledger/migrations/NNNN_name.sql`.

A migration whose text begins with `-- additive` changes nothing that an older package reads or writes: it may be
applied while runs are under way, and packages that do not know it go on. Any other waits until no run is under way,
and shuts older packages out.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import NamedTuple

import psycopg

from ledger.connect import Connection, transaction
from ledger.leases import START_LOCK, Rival, fence_off, judge, lock_all, named
from ledger.process import this_process
from ledger.retry import repeat
from model.errors import LeaseHeld, RunBroken

SCHEMA_VERSION = 10
"""The version this package reads and writes: that of the newest migration."""

_LOCK = 0x7333_6665_7272_7901
"""Key of the advisory lock that migrations take: "s3ferry" in ASCII, and 1."""
_NAME = re.compile(r"(\d{4})_\w+\.sql")
_ADDITIVE = "-- additive"
_TIMEOUT_S = 600.0
_TABLE_LOCK_S = 5.0
"""A change that waits for a table holds up everybody who comes after it: runs bear that for so long."""
# Through jsonb, because the table of an older ledger has no such column.
_APPLIED = (
    "SELECT version, checksum, coalesce((to_jsonb(m) ->> 'additive')::boolean, false) FROM schema_migrations m"
    " ORDER BY version"
)


@dataclass(frozen=True, slots=True)
class Migration:
    """One step. `checksum` is the SHA-256 of `sql`, in hex. `additive`: see the module."""

    version: int
    name: str
    sql: str
    checksum: str

    @property
    def additive(self) -> bool:
        return self.sql.startswith(_ADDITIVE)


class Applied(NamedTuple):
    """One step the ledger has gone."""

    version: int
    checksum: str
    additive: bool


@cache
def migrations() -> Sequence[Migration]:
    """All migrations of this package, oldest first."""
    found = []
    for entry in resources.files("ledger").joinpath("migrations").iterdir():
        match = _NAME.fullmatch(entry.name)
        if match:
            sql = entry.read_text(encoding="utf-8")
            found.append(Migration(int(match[1]), entry.name, sql, hashlib.sha256(sql.encode()).hexdigest()))
    return tuple(sorted(found, key=lambda migration: migration.version))


def migrate(dsn: str) -> int:
    """Brings the ledger up to date and returns its version; only looks, with no more rights than that, if it is.

    All in one transaction under an advisory lock, so two may start at once; repeatable. Raises LeaseHeld, naming
    the run, when one is under way that a migration would break. Raises RunBroken when the ledger is newer than
    this package, an applied migration was another text, the database is not in UTF-8 or this role may not migrate.
    """
    return repeat(dsn, "migrate", _migrate)


def require_current(conn: Connection) -> None:
    """Raises RunBroken, with the remedy, unless this package can read and write the ledger."""
    applied = _applied(conn)
    if pending(migrations(), applied):
        raise RunBroken(f"{_behind(applied)}: run `s3ferry ledger migrate`")


def pending(known: Sequence[Migration], applied: Sequence[Applied]) -> list[Migration]:
    """Those of `known` that are still to be applied. Raises RunBroken for a ledger this package must not touch."""
    checksums = {step.version: step.checksum for step in applied}
    versions = {migration.version for migration in known}
    newer = [step.version for step in applied if step.version not in versions and not step.additive]
    if newer:
        raise RunBroken(
            f"the ledger's schema is at version {newer[-1]}, this package knows {max(versions)}: "
            "install a newer s3ferry"
        )
    for migration in known:
        if checksums.get(migration.version, migration.checksum) != migration.checksum:
            raise RunBroken(
                f"the ledger was made by another text of {migration.name}: "
                "use the s3ferry version that made it, or a new database"
            )
    return [migration for migration in known if migration.version not in checksums]


def _migrate(conn: Connection) -> int:
    applied = _applied(conn)
    if pending(migrations(), applied):
        try:
            applied = _apply_pending(conn)
        except psycopg.errors.InsufficientPrivilege as error:
            raise RunBroken(
                f"{_behind(applied)}, and this role may not change it: run `s3ferry ledger migrate` as the role "
                "that owns the tables (or, for a new ledger, the database)"
            ) from error
    return max(step.version for step in applied)


def _apply_pending(conn: Connection) -> list[Applied]:
    with transaction(conn, _TIMEOUT_S):
        _refuse_other_encodings(conn)
        for lock in (_LOCK, START_LOCK):
            conn.execute("SELECT pg_advisory_xact_lock(%s)", (lock,))
        conn.execute("SELECT set_config('lock_timeout', %s, true)", (f"{_TABLE_LOCK_S:.0f}s",))
        conn.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations (version integer PRIMARY KEY, name text NOT NULL,"
            " checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"
        )
        conn.execute("ALTER TABLE schema_migrations ADD COLUMN IF NOT EXISTS additive boolean NOT NULL DEFAULT false")
        applied = _applied(conn)
        steps = pending(migrations(), applied)
        breaking = [step.name for step in steps if not step.additive]
        if applied and breaking:
            _end_of_runs(conn, breaking[0])
        for step in steps:
            conn.execute(step.sql)
            conn.execute(
                "INSERT INTO schema_migrations (version, name, checksum, additive) VALUES (%s, %s, %s, %s)",
                (step.version, step.name, step.checksum, step.additive),
            )
        return _applied(conn)


def _end_of_runs(conn: Connection, migration: str) -> None:
    """No run writes past this transaction: a live one refuses it, what is left of dead ones is fenced off."""
    left: list[Rival] = lock_all(conn)
    _, obstacle = judge(left, this_process())
    if obstacle is not None:
        raise LeaseHeld(
            f"the ledger cannot be migrated ({migration}) under {named(obstacle)}: wait for it, or end it with "
            f"`s3ferry stop {obstacle.run_id}`"
        )
    fence_off(conn, left)


def _applied(conn: Connection) -> list[Applied]:
    try:
        return [Applied._make(row) for row in conn.execute(_APPLIED)]
    except psycopg.errors.UndefinedTable:
        return []


def _behind(applied: Sequence[Applied]) -> str:
    version = max((step.version for step in applied), default=0)
    return f"the ledger's schema is at version {version}, this package needs {SCHEMA_VERSION}"


def _refuse_other_encodings(conn: Connection) -> None:
    """Keys of S3 are UTF-8; what another encoding lacks could not be kept."""
    row = conn.execute("SELECT current_setting('server_encoding')").fetchone()
    if row is not None and row[0] != "UTF8":
        raise RunBroken(
            f"the ledger's database has the encoding {row[0]}, and keys are UTF-8: "
            "make it with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
        )
