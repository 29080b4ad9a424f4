"""Batches into the ledger, on an open connection: each call repeatable, each batch one fenced transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from psycopg import sql

from ledger.connect import Connection
from ledger.errors import Meaning, meaning
from ledger.leases import RunRef, fenced
from ledger.rows import (
    COPY_INCOMING,
    CREATE_INCOMING,
    FROM_INCOMING,
    LIST,
    UPDATE_ALL,
    copy_row,
    rank_sql,
    storable,
)
from ledger.runs import partition
from model.records import DeadLetter, IntegrityRecord, PartRecord
from model.status import COUNTED_ONLY, Status

CLAIMED = "another row of this run already claims this destination key"


class RowOutcome(NamedTuple):
    """What a record is to be counted as; `reason` where that is not its own status."""

    status: Status
    reason: str | None = None


_Item = tuple[int, IntegrityRecord]
_Outcomes = dict[int, RowOutcome]
_AS_GIVEN = {status: RowOutcome(status) for status in Status}

_UPSERT_ATTEMPTS = f"""
INSERT INTO {{partition}} AS kept (run_id, {LIST})
SELECT %(run)s, {FROM_INCOMING} FROM incoming ORDER BY destination_key
ON CONFLICT (run_id, destination_key) DO UPDATE SET {UPDATE_ALL}
WHERE (kept.file_number, kept.row_number) = (excluded.file_number, excluded.row_number)
  AND {rank_sql("kept.status")} <= {rank_sql("excluded.status")}
"""  # noqa: S608 - column names of this package; ordered so that two writers lock rows in one order

_NOT_WRITTEN = """
DELETE FROM incoming AS new USING {partition} AS kept
WHERE kept.run_id = %(run)s AND kept.destination_key = new.destination_key
  AND ((kept.file_number, kept.row_number) <> (new.file_number, new.row_number) OR kept.status <> new.status)
RETURNING new.ord, kept.status,
  (kept.file_number, kept.row_number) = (new.file_number, new.row_number),
  (kept.source_bucket, kept.source_key) = (new.source_bucket, new.source_key)
    AND kept.source_version IS NOT DISTINCT FROM new.source_version
"""

_UPSERT_OBJECTS = f"""
INSERT INTO objects AS kept (job, run_id, {LIST})
SELECT %(job)s, %(run)s, {FROM_INCOMING} FROM incoming ORDER BY destination_key
ON CONFLICT (job, destination_key) DO UPDATE SET {UPDATE_ALL}, run_id = excluded.run_id
WHERE kept.run_id < excluded.run_id
   OR (kept.run_id = excluded.run_id AND {rank_sql("kept.status")} <= {rank_sql("excluded.status")})
"""  # noqa: S608 - as above


def write_objects(conn: Connection, ref: RunRef, records: Sequence[IntegrityRecord]) -> list[RowOutcome]:
    """Writes records into `attempts` and `objects`; one outcome per record, in order.

    Within a run a status never gets lower: the outcome is what the ledger holds. A second row for a claimed
    destination key comes back DUPLICATE if it is the same source object, else FAILED, as a dead letter.
    Records marked `recorded`, and statuses that are only counted, are not written. Text PostgreSQL cannot
    hold makes that row a dead letter and FAILED, the others are kept: the batch is halved until the row is
    found, so then it is several transactions. Not within another transaction. Raises LeaseLost (nothing
    written) and psycopg errors of other meanings (repeat).
    """
    outcomes: _Outcomes = {}
    todo: list[_Item] = []
    for ord_, record in enumerate(records):
        if record.recorded or record.status in COUNTED_ONLY:
            outcomes[ord_] = _AS_GIVEN[record.status]
        else:
            todo.append((ord_, record))
    if todo:
        outcomes.update(_isolating(conn, ref, todo))
    return [outcomes[ord_] for ord_ in range(len(records))]


def write_dead_letters(conn: Connection, ref: RunRef, letters: Sequence[DeadLetter]) -> None:
    """Keeps dead letters, the last one of each row and status; what text cannot hold is escaped. Repeatable."""
    with fenced(conn, ref):
        _insert_dead_letters(conn, ref, letters)


def write_parts(conn: Connection, ref: RunRef, parts: Sequence[tuple[str, PartRecord]]) -> None:
    """Keeps the parts of uploads, (upload identity, part), the last one of each number. Repeatable."""
    latest = {(identity, part.number): part for identity, part in parts}
    columns = [
        [identity for identity, _ in latest],
        *map(list, zip(*latest.values(), strict=True)),
    ]
    if not latest:
        return
    with fenced(conn, ref):
        conn.execute(
            "INSERT INTO parts AS kept (identity, part_number, size, etag, md5, sha256, crc64nvme, crc32c)"
            " SELECT * FROM unnest(%s::text[], %s::int[], %s::bigint[], %s::text[], %s::text[], %s::text[], %s::text[],"
            " %s::text[]) AS part ORDER BY 1, 2"
            " ON CONFLICT (identity, part_number) DO UPDATE SET size = excluded.size, etag = excluded.etag,"
            " md5 = excluded.md5, sha256 = excluded.sha256, crc64nvme = excluded.crc64nvme,"
            " crc32c = excluded.crc32c, finished_at = excluded.finished_at",
            columns,
        )


def _isolating(conn: Connection, ref: RunRef, items: list[_Item]) -> _Outcomes:
    """Outcomes of `items`; a batch with a row that cannot be stored is halved until that row stands alone."""
    try:
        return _write_batch(conn, ref, items)
    except Exception as error:
        if meaning(error) is not Meaning.POISON:
            raise
        if len(items) == 1:
            return _bury(conn, ref, items[0], error)
    half = len(items) // 2
    return _isolating(conn, ref, items[:half]) | _isolating(conn, ref, items[half:])


def _bury(conn: Connection, ref: RunRef, item: _Item, error: Exception) -> _Outcomes:
    ord_, record = item
    # The first line: PostgreSQL's context lines repeat the row.
    reason = "the ledger cannot store this row: " + storable(str(error)).splitlines()[0]
    write_dead_letters(conn, ref, [_dead_letter(record, reason)])
    return {ord_: RowOutcome(Status.FAILED, reason)}


def _write_batch(conn: Connection, ref: RunRef, items: Sequence[_Item]) -> _Outcomes:
    outcomes: _Outcomes = {}
    records = dict(items)
    with fenced(conn, ref):
        conn.execute(CREATE_INCOMING)
        for number, batch in enumerate(_rounds(items)):
            if number:
                conn.execute("TRUNCATE incoming")
            outcomes.update(_upsert(conn, ref, batch))
        refused = [_dead_letter(records[ord_], CLAIMED) for ord_, outcome in outcomes.items() if outcome.reason]
        if refused:
            _insert_dead_letters(conn, ref, refused)
    return outcomes


def _rounds(items: Sequence[_Item]) -> list[list[_Item]]:
    """`items` so that no round holds a destination key twice: an upsert cannot touch a row twice."""
    rounds: list[list[_Item]] = []
    seen: dict[str, int] = {}
    for item in items:
        key = item[1].destination_key
        number = seen.get(key, 0)
        seen[key] = number + 1
        if number == len(rounds):
            rounds.append([])
        rounds[number].append(item)
    return rounds


def _upsert(conn: Connection, ref: RunRef, items: Sequence[_Item]) -> _Outcomes:
    values: dict[str, object] = {"run": ref.run_id, "job": ref.job}
    table = partition(ref.run_id)
    with conn.cursor() as cursor:
        with cursor.copy(COPY_INCOMING) as copy:
            for ord_, record in items:
                copy.write_row(copy_row(ord_, record))
        outcomes = {ord_: _AS_GIVEN[record.status] for ord_, record in items}
        cursor.execute(sql.SQL(_UPSERT_ATTEMPTS).format(partition=table), values)
        if cursor.rowcount < len(items):
            cursor.execute(sql.SQL(_NOT_WRITTEN).format(partition=table), values)
            for ord_, status, same_row, same_source in cursor.fetchall():
                outcomes[ord_] = _kept(Status(status), same_row, same_source)
        cursor.execute(_UPSERT_OBJECTS, values)
    return outcomes


def _kept(status: Status, same_row: bool, same_source: bool) -> RowOutcome:
    """The outcome of a row that met another, with `status`, at its place."""
    if same_row:
        return _AS_GIVEN[status]
    return _AS_GIVEN[Status.DUPLICATE] if same_source else RowOutcome(Status.FAILED, CLAIMED)


def _dead_letter(record: IntegrityRecord, reason: str) -> DeadLetter:
    text = f"{record.source_bucket}/{record.source_key} -> {record.destination_bucket}/{record.destination_key}"
    return DeadLetter(record.file_number, record.row_number, Status.FAILED, reason, text)


def _insert_dead_letters(conn: Connection, ref: RunRef, letters: Sequence[DeadLetter]) -> None:
    latest = {(letter.file_number, letter.row_number, letter.status): letter for letter in letters}
    conn.execute(
        "INSERT INTO dead_letters (run_id, file_number, row_number, status, reason, text)"
        " SELECT %s, file_number, row_number, status, reason, text FROM"
        " unnest(%s::int[], %s::bigint[], %s::object_status[], %s::text[], %s::text[])"
        " AS letter (file_number, row_number, status, reason, text) ORDER BY 2, 3, 4"
        " ON CONFLICT (run_id, file_number, row_number, status) DO UPDATE"
        " SET reason = excluded.reason, text = excluded.text",
        (
            ref.run_id,
            [letter.file_number for letter in latest.values()],
            [letter.row_number for letter in latest.values()],
            [letter.status.value for letter in latest.values()],
            [storable(letter.reason) for letter in latest.values()],
            [storable(letter.text) for letter in latest.values()],
        ),
    )
