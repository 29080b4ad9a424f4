"""Batches into the ledger, on an open connection: each call repeatable, each batch one fenced transaction."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from ledger.connect import Connection
from ledger.errors import Meaning, meaning
from ledger.leases import RunRef, fenced
from ledger.objects import AS_GIVEN, RowOutcome, create_incoming, insert_new, known_keys, upsert
from ledger.rows import storable
from model.records import DeadLetter, IntegrityRecord, PartRecord
from model.status import COUNTED_ONLY, Status

_Item = tuple[int, IntegrityRecord]
_Outcomes = dict[int, RowOutcome]


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
            outcomes[ord_] = AS_GIVEN[record.status]
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
            "INSERT INTO parts AS kept (identity, part_number, size, etag, md5, sha256, crc64nvme)"
            " SELECT * FROM unnest(%s::text[], %s::int[], %s::bigint[], %s::text[], %s::text[], %s::text[], %s::text[])"
            " AS part ORDER BY 1, 2"
            " ON CONFLICT (identity, part_number) DO UPDATE SET size = excluded.size, etag = excluded.etag,"
            " md5 = excluded.md5, sha256 = excluded.sha256, crc64nvme = excluded.crc64nvme,"
            " finished_at = excluded.finished_at",
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
    # In order of their keys, so that two writers lock rows in one order; of one key, the first comes first.
    ordered = sorted(items, key=_destination_key)
    try:
        return _write_once(conn, ref, ordered, look=True)
    except psycopg.errors.UniqueViolation:
        # Another writer was there between look and COPY: nothing of this batch is in yet.
        return _write_once(conn, ref, ordered, look=False)


def _write_once(conn: Connection, ref: RunRef, items: Sequence[_Item], *, look: bool) -> _Outcomes:
    """One transaction: with `look`, rows of new keys by COPY and the others by upsert; without, all by upsert."""
    outcomes: _Outcomes = {}
    with fenced(conn, ref):
        new, others = _parted(conn, ref, items) if look else ([], items)
        if new:
            insert_new(conn, ref, [record for _, record in new])
            outcomes.update((ord_, AS_GIVEN[record.status]) for ord_, record in new)
        if others:
            outcomes.update(_merge(conn, ref, others))
    return outcomes


def _parted(conn: Connection, ref: RunRef, items: Sequence[_Item]) -> tuple[list[_Item], list[_Item]]:
    """The first item of each key the ledger does not know, and the others."""
    new: list[_Item] = []
    others: list[_Item] = []
    keys = list(map(_destination_key, items))
    known = known_keys(conn, ref, keys)
    for key, item in zip(keys, items, strict=True):
        if key in known:
            others.append(item)
        else:
            known.add(key)
            new.append(item)
    return new, others


def _merge(conn: Connection, ref: RunRef, items: Sequence[_Item]) -> _Outcomes:
    outcomes: _Outcomes = {}
    refused: list[DeadLetter] = []
    create_incoming(conn)
    for batch in _rounds(items):
        met = upsert(conn, ref, [record for _, record in batch])
        for ord_, record in batch:
            outcomes[ord_] = outcome = met.get(record.destination_key) or AS_GIVEN[record.status]
            if outcome.reason:
                refused.append(_dead_letter(record, outcome.reason))
    if refused:
        _insert_dead_letters(conn, ref, refused)
    return outcomes


def _destination_key(item: _Item) -> str:
    return item[1].destination_key


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
