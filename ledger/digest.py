"""One SHA-256 over a run's records: stored when the run is closed, computed again to see whether they changed.

What is hashed is the text PostgreSQL's COPY makes of the rows, sorted by destination key, so that psql and sha256sum
can do the same (docs/export.md; PostgreSQL manual, «COPY», «Text Format»). PostgreSQL sorts and encodes, this process
only hashes: memory does not grow with the number of rows.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from psycopg import sql

from ledger.connect import Connection, transaction
from ledger.rows import TYPES
from ledger.runs import partition

ENCODING = 1
"""The encoding new digests are made in."""

ENCODINGS = {
    1: (
        "file_number",
        "row_number",
        "source_bucket",
        "source_key",
        "source_version",
        "destination_bucket",
        "destination_key",
        "size",
        "size_class",
        "source_etag",
        "destination_etag",
        "destination_version",
        "md5",
        "sha256",
        "crc64nvme",
        "crc32c",
        "status",
        "source_evidence",
        "destination_evidence",
        "attempts",
        "started_at",
        "finished_at",
        "error",
        "replaced_etag",
        "replaced_version",
    ),
}
"""The columns of each encoding, in order. A new column of `attempts` needs a new encoding: old digests stay true."""

_TIMEOUT_S = 3_600.0


class RecordsDigest(NamedTuple):
    """How many records, and the SHA-256 over them (64 hex digits) in encoding number `encoding`."""

    records: int
    sha256: str
    encoding: int


def records_digest(conn: Connection, run_id: int, encoding: int = ENCODING) -> RecordsDigest:
    """The digest of what `attempts` holds of the run now. Repeatable.

    Raises psycopg's UndefinedTable where the run's history was dropped.
    """
    digest, records = hashlib.sha256(), 0
    with transaction(conn, _TIMEOUT_S), conn.cursor() as cursor, cursor.copy(canonical_copy(run_id, encoding)) as rows:
        for block in rows:
            digest.update(block)
            # Line feeds in values are escaped: each one ends a row.
            records += bytes(block).count(b"\n")
    return RecordsDigest(records, digest.hexdigest(), encoding)


def canonical_copy(run_id: int, encoding: int = ENCODING) -> sql.Composed:
    """The COPY whose output is hashed."""
    columns = sql.SQL(", ").join(_canonical(name) for name in ENCODINGS[encoding])
    return sql.SQL("COPY (SELECT {} FROM {} WHERE run_id = {} ORDER BY destination_key) TO STDOUT").format(
        columns, partition(run_id), sql.Literal(run_id)
    )


_STORE = "UPDATE runs SET records = %s, records_digest = %s, records_encoding = %s WHERE run_id = %s"


def seal(conn: Connection, run_id: int) -> RecordsDigest:
    """Computes the digest and stores it with the run. Repeatable."""
    digest = records_digest(conn, run_id)
    conn.execute(_STORE, (*digest, run_id))
    return digest


def seal_late(conn: Connection, run_id: int) -> RecordsDigest:
    """As `seal`, but a digest that is stored stays; returns the one that is. Repeatable."""
    digest = records_digest(conn, run_id)
    conn.execute(f"{_STORE} AND records_digest IS NULL", (*digest, run_id))
    return stored_digest(conn, run_id) or digest


def stored_digest(conn: Connection, run_id: int) -> RecordsDigest | None:
    """What `seal` stored; None for a run that was never closed. Repeatable."""
    row = conn.execute(
        "SELECT records, records_digest, records_encoding FROM runs WHERE run_id = %s AND records_digest IS NOT NULL",
        (run_id,),
    ).fetchone()
    return RecordsDigest(*row) if row else None


def _canonical(name: str) -> sql.Composable:
    column = sql.Identifier(name)
    if TYPES.get(name) != "timestamptz":
        return column
    # Whole microseconds since the epoch: the text of a timestamptz depends on the session's TimeZone and DateStyle.
    return sql.SQL("(extract(epoch FROM {}) * 1000000)::bigint").format(column)
