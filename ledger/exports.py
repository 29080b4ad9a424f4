"""What an export reads of one run: streams from server-side cursors in one snapshot, so memory does not grow.

Every stream has one order, given by the data, so that a repetition gives the same rows in the same places.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, LiteralString, NamedTuple

from psycopg import sql
from psycopg.rows import TupleRow

from ledger.connect import Connection, transaction
from ledger.destination_rows import among_extras, part
from ledger.rows import LIST
from ledger.runs import partition
from model.status import Status

ROWS_PER_FETCH = 5_000
_TIMEOUT_S = 3_600.0


class DeadRow(NamedTuple):
    """A row that did not end well. What is not known of it is None.

    `text` is the row as it was read, of rows without a usable key. `reason` is not redacted yet.
    """

    file_number: int
    row_number: int
    status: str
    reason: str | None
    attempts: int
    source_bucket: str | None
    source_key: str | None
    source_version: str | None
    destination_bucket: str | None
    destination_key: str | None
    size: int | None
    size_class: str | None
    source_etag: str | None
    started_at: datetime | None
    finished_at: datetime | None
    text: str | None


class ObjectName(NamedTuple):
    """A source object as a manifest names it."""

    bucket: str
    key: str
    version: str | None


_OBJECT_FIELDS = ", ".join(name for name in DeadRow._fields if name not in ("reason", "text"))

_DEAD = """
SELECT {fields} FROM (
  SELECT {object_fields}, error AS reason, NULL AS text FROM {partition}
   WHERE run_id = {run} AND status = ANY({statuses}::object_status[])
  UNION ALL
  SELECT file_number, row_number, status, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, reason, text
    FROM dead_letters AS letter
   WHERE run_id = {run} AND status = ANY({statuses}::object_status[]) AND NOT EXISTS (
     SELECT FROM {partition} AS kept
      WHERE (kept.file_number, kept.row_number) = (letter.file_number, letter.row_number))
) AS dead ORDER BY file_number, row_number, status
"""


@contextmanager
def snapshot(conn: Connection) -> Iterator[Connection]:
    """One state of the ledger for everything read inside, and statements that may take an hour."""
    with conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        with transaction(conn, _TIMEOUT_S):
            yield conn


def has_history(conn: Connection, run_id: int) -> bool:
    """Whether the run's rows of `attempts` are still there. Repeatable."""
    return _exists(conn, partition(run_id))


def has_destination_rows(conn: Connection, run_id: int) -> bool:
    """Whether what the destination held, when the run verified against it, is still there. Repeatable."""
    return _exists(conn, part(run_id))


def dead_rows(conn: Connection, run_id: int, statuses: Collection[Status]) -> Iterator[DeadRow]:
    """The run's rows of these statuses, and the dead letters of rows that have no other; by file and row number."""
    query = sql.SQL(_DEAD).format(
        fields=_names(DeadRow._fields),
        object_fields=sql.SQL(_OBJECT_FIELDS),
        partition=partition(run_id),
        run=sql.Literal(run_id),
        statuses=sql.Literal([status.value for status in statuses]),
    )
    yield from map(DeadRow._make, _stream(conn, query))


def object_names(conn: Connection, run_id: int, statuses: Collection[Status]) -> Iterator[ObjectName]:
    """The source objects of the run's rows of these statuses, by file and row number."""
    query = _of_statuses(
        "SELECT source_bucket, source_key, source_version FROM {} WHERE run_id = {}"
        " AND status = ANY({}::object_status[]) ORDER BY file_number, row_number",
        run_id,
        statuses,
    )
    yield from map(ObjectName._make, _stream(conn, query))


def has_versions(conn: Connection, run_id: int, statuses: Collection[Status]) -> bool:
    """Whether any of `object_names` names a version."""
    query = _of_statuses(
        "SELECT EXISTS (SELECT FROM {} WHERE run_id = {} AND status = ANY({}::object_status[])"
        " AND source_version IS NOT NULL)",
        run_id,
        statuses,
    )
    row = conn.execute(query).fetchone()
    return bool(row and row[0])


def whole_sha256(conn: Connection, run_id: int, statuses: Collection[Status]) -> Iterator[tuple[str, str]]:
    """(SHA-256 in hex, destination key) of the run's rows of these statuses that have one, by key."""
    query = _of_statuses(
        "SELECT sha256, destination_key FROM {} WHERE run_id = {} AND status = ANY({}::object_status[])"
        " AND sha256 IS NOT NULL ORDER BY destination_key",
        run_id,
        statuses,
    )
    yield from _stream(conn, query)


def record_rows(conn: Connection, run_id: int) -> Iterator[TupleRow]:
    """All of the run's records as rows of `ledger.rows.COLUMNS`, by destination key."""
    query = sql.SQL("SELECT {} FROM {} WHERE run_id = {} ORDER BY destination_key").format(
        sql.SQL(LIST), partition(run_id), sql.Literal(run_id)
    )
    yield from _stream(conn, query)


def extra_names(conn: Connection, run_id: int, bucket: str) -> Iterator[ObjectName]:
    """Objects of the destination's inventory that no row of the run stands for, by key; `bucket` is the destination's.

    The run must have destination rows, and have seen each row of its own inventory.
    """
    query = sql.SQL("SELECT {}, destination_key, NULL {} ORDER BY destination_key").format(
        sql.Literal(bucket), among_extras(run_id)
    )
    yield from map(ObjectName._make, _stream(conn, query))


def _exists(conn: Connection, table: sql.Identifier) -> bool:
    row = conn.execute("SELECT to_regclass(%s) IS NOT NULL", (table.as_string(conn),)).fetchone()
    return bool(row and row[0])


def _of_statuses(query: LiteralString, run_id: int, statuses: Collection[Status]) -> sql.Composed:
    words = [status.value for status in statuses]
    return sql.SQL(query).format(partition(run_id), sql.Literal(run_id), sql.Literal(words))


def _names(names: Collection[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))


def _stream(conn: Connection, query: sql.Composed) -> Iterator[TupleRow]:
    cursor: Any
    with conn.cursor(name="export") as cursor:
        cursor.itersize = ROWS_PER_FETCH
        cursor.execute(query)
        yield from cursor
