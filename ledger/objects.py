"""Records into `attempts` and `objects` within a transaction: COPY for keys never seen, an upsert for the others.

COPY straight into both tables costs PostgreSQL half of what the upsert does, which goes through a temporary table
and looks in the index twice. It cannot meet a row, though: the key of each record is looked up first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum
from typing import NamedTuple

from psycopg import sql

from ledger.binary_copy import copy_in, encoded, with_verified
from ledger.connect import Connection
from ledger.findings import ADOPT, LOWER, RAISE
from ledger.leases import RunRef
from ledger.rows import (
    COLUMNS,
    LIST,
    TYPES,
    UPDATE_ALL,
    UPDATE_ATTEMPT,
    VERIFIED_BY_RECORD,
    VERIFIED_COLUMNS,
    rank_sql,
    text_array,
)
from ledger.runs import partition
from ledger.untouched import SETTLE, TRY
from model.records import IntegrityRecord
from model.status import Status

CLAIMED = "another row of this run already claims this destination key"


class Merge(Enum):
    """What records do to the rows of `objects` they meet."""

    COPIES = "copies"
    """They take their place: a copy was made, or tried."""
    FINDINGS = "findings"
    """They say what a later look found, of objects the job knows; see `ledger.findings`."""
    ADOPTIONS = "adoptions"
    """As FINDINGS, and objects that another tool wrote come in."""


class RowOutcome(NamedTuple):
    """What a record is to be counted as; `reason` where that is not its own status."""

    status: Status
    reason: str | None = None


AS_GIVEN = {status: RowOutcome(status) for status in Status}
"""The outcomes of records that are counted as what they say."""

_CREATE_INCOMING = (
    "CREATE TEMPORARY TABLE incoming ("
    + ", ".join(f"{name} {TYPES.get(name, 'text')}" for name in COLUMNS)
    + ") ON COMMIT DROP"
)

_UPSERT_ATTEMPTS = f"""
INSERT INTO {{partition}} AS kept (run_id, {LIST})
SELECT %(run)s, {LIST} FROM incoming ORDER BY destination_key
ON CONFLICT (run_id, destination_key) DO UPDATE SET {UPDATE_ATTEMPT}
WHERE (kept.file_number, kept.row_number) = (excluded.file_number, excluded.row_number)
  AND {rank_sql("kept.status")} <= {rank_sql("excluded.status")}
RETURNING replaced_etag IS NOT NULL
"""  # noqa: S608 - column names of this package; ordered so that two writers lock rows in one order

_NOT_WRITTEN = """
DELETE FROM incoming AS new USING {partition} AS kept
WHERE kept.run_id = %(run)s AND kept.destination_key = new.destination_key
  AND ((kept.file_number, kept.row_number) <> (new.file_number, new.row_number) OR kept.status <> new.status)
RETURNING new.destination_key, kept.status,
  (kept.file_number, kept.row_number) = (new.file_number, new.row_number),
  (kept.source_bucket, kept.source_key) = (new.source_bucket, new.source_key)
    AND kept.source_version IS NOT DISTINCT FROM new.source_version
"""

_AS_ATTEMPTED = """
UPDATE incoming AS new SET replaced_etag = kept.replaced_etag, replaced_version = kept.replaced_version
FROM {partition} AS kept
WHERE kept.run_id = %(run)s AND kept.destination_key = new.destination_key AND kept.replaced_etag IS NOT NULL
"""

_UPSERT_OBJECTS = f"""
INSERT INTO objects AS kept (job, run_id, {", ".join(VERIFIED_COLUMNS)}, {LIST})
SELECT %(job)s, %(run)s, {VERIFIED_BY_RECORD}, {LIST} FROM incoming ORDER BY destination_key
ON CONFLICT (job, destination_key) DO UPDATE SET {UPDATE_ALL}, run_id = excluded.run_id, adopted = false,
  verified_run = excluded.verified_run, verified_at = excluded.verified_at
WHERE kept.run_id < excluded.run_id
   OR (kept.run_id = excluded.run_id AND {rank_sql("kept.status")} <= {rank_sql("excluded.status")})
"""  # noqa: S608 - as above


_INTO_OBJECTS = {
    Merge.COPIES: (_UPSERT_OBJECTS,),
    Merge.FINDINGS: (LOWER, RAISE),
    Merge.ADOPTIONS: (LOWER, RAISE, ADOPT),
}


def known_keys(conn: Connection, ref: RunRef, destination_keys: Sequence[str]) -> set[str]:
    """Those of the keys under which the job has an object, from this run or an earlier one. Repeatable."""
    rows = conn.execute(
        "SELECT destination_key FROM objects WHERE job = %s AND destination_key = ANY(%s::text[])",
        (ref.job, text_array(destination_keys)),
    )
    return {key for (key,) in rows}


def insert_new(conn: Connection, ref: RunRef, records: Sequence[IntegrityRecord]) -> None:
    """Writes records, in order of their keys, whose keys neither table has.

    Raises psycopg's UniqueViolation when another transaction was first with one: then the caller's has to be
    repeated, with `upsert`.
    """
    chunks: list[list[bytes]] = []

    def kept() -> Iterator[list[bytes]]:
        for chunk in encoded(records):
            chunks.append(chunk)
            yield chunk

    copy_in(conn, partition(ref.run_id), {"run_id": ref.run_id}, kept())
    constants: dict[str, str | int] = {"job": ref.job, "run_id": ref.run_id}
    copy_in(conn, sql.Identifier("objects"), constants, with_verified(ref.run_id, records, chunks), VERIFIED_COLUMNS)


def create_incoming(conn: Connection) -> None:
    """Makes the table `upsert` goes through, for the rest of the transaction: a pooler keeps no more than that."""
    conn.execute(_CREATE_INCOMING)


def upsert(
    conn: Connection, ref: RunRef, records: Sequence[IntegrityRecord], merge: Merge = Merge.COPIES
) -> dict[str, RowOutcome]:
    """Writes records, all of different destination keys; the outcomes, by key, of those that met another row.

    Repeatable: within a run a status never gets lower, and an object never goes back to an older run.
    """
    values: dict[str, object] = {"run": ref.run_id, "job": ref.job}
    table = partition(ref.run_id)
    outcomes: dict[str, RowOutcome] = {}
    conn.execute("TRUNCATE incoming")
    copy_in(conn, sql.Identifier("incoming"), {}, encoded(records))
    written = conn.execute(sql.SQL(_UPSERT_ATTEMPTS).format(partition=table), values).fetchall()
    if len(written) < len(records):
        for key, status, same_row, same_source in conn.execute(sql.SQL(_NOT_WRITTEN).format(partition=table), values):
            outcomes[key] = _kept(Status(status), same_row, same_source)
    if any(replaced for (replaced,) in written):
        conn.execute(sql.SQL(_AS_ATTEMPTED).format(partition=table), values)
    untouched = [record.destination_key for record in records if record.untouched]
    if untouched and merge is Merge.COPIES:
        for statement in (TRY, SETTLE):
            conn.execute(statement, values | {"untouched": text_array(untouched)})
    for statement in _INTO_OBJECTS[merge]:
        conn.execute(statement, values)
    return outcomes


def _kept(status: Status, same_row: bool, same_source: bool) -> RowOutcome:
    """The outcome of a row that met another, with `status`, at its place."""
    if same_row:
        return AS_GIVEN[status]
    return AS_GIVEN[Status.DUPLICATE] if same_source else RowOutcome(Status.FAILED, CLAIMED)
