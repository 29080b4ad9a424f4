"""Batches into the ledger, on an open connection: each call repeatable, each batch one fenced transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import psycopg

from ledger.connect import Connection
from ledger.errors import Meaning, meaning
from ledger.leases import RunRef, fenced
from ledger.objects import AS_GIVEN, CLAIMED, Merge, RowOutcome, create_incoming, insert_new, known_keys, upsert
from ledger.rows import storable
from model.records import DeadLetter, IntegrityRecord, SentPart
from model.status import COUNTED_ONLY, Status

_Outcomes = dict[int, RowOutcome]
"""By place in the batch, of those records alone that are not to be counted as what they say."""


def write_objects(
    conn: Connection, ref: RunRef, records: Sequence[IntegrityRecord], merge: Merge = Merge.COPIES
) -> list[RowOutcome]:
    """Writes records into `attempts` and, as `merge` says, `objects`; one outcome per record, in order.

    Within a run a status never gets lower: the outcome is what the ledger holds. A second row for a claimed
    destination key comes back DUPLICATE if it is the same source object, else FAILED, as a dead letter.
    Records marked `recorded`, and statuses that are only counted, are not written. Text PostgreSQL cannot
    hold makes that row a dead letter and FAILED, the others are kept: the batch is halved until the row is
    found, so then it is several transactions. Not within another transaction. Raises LeaseLost (nothing
    written) and psycopg errors of other meanings (repeat).
    """
    outcomes = [AS_GIVEN[record.status] for record in records]
    places = [place for place, record in enumerate(records) if not (record.recorded or record.status in COUNTED_ONLY)]
    if places:
        for place, outcome in _isolating(_Target(conn, ref, merge), records, places).items():
            outcomes[place] = outcome
    return outcomes


def write_dead_letters(conn: Connection, ref: RunRef, letters: Sequence[DeadLetter]) -> None:
    """Keeps dead letters, the last one of each row and status; what text cannot hold is escaped. Repeatable."""
    with fenced(conn, ref):
        _insert_dead_letters(conn, ref, letters)


def write_parts(conn: Connection, ref: RunRef, parts: Sequence[SentPart]) -> None:
    """Keeps the parts of uploads, the last one of each number. Repeatable."""
    latest = {(sent.identity, sent.part.number): sent for sent in parts}
    if not latest:
        return
    columns = [
        [sent.identity for sent in latest.values()],
        [sent.upload_id for sent in latest.values()],
        *map(list, zip(*(sent.part for sent in latest.values()), strict=True)),
    ]
    with fenced(conn, ref):
        conn.execute(
            "INSERT INTO parts AS kept"
            " (identity, upload_id, part_number, size, etag, md5, sha256, crc64nvme, crc32c)"
            " SELECT * FROM unnest(%s::text[], %s::text[], %s::int[], %s::bigint[], %s::text[], %s::text[], %s::text[],"
            " %s::text[], %s::text[]) AS part ORDER BY 1, 3"
            " ON CONFLICT (identity, part_number) DO UPDATE SET upload_id = excluded.upload_id, size = excluded.size,"
            " etag = excluded.etag, md5 = excluded.md5, sha256 = excluded.sha256, crc64nvme = excluded.crc64nvme,"
            " crc32c = excluded.crc32c, finished_at = excluded.finished_at",
            columns,
        )


class _Target(NamedTuple):
    """Where a batch goes: under which run, on which connection, and what it does to `objects`."""

    conn: Connection
    ref: RunRef
    merge: Merge


def _isolating(target: _Target, records: Sequence[IntegrityRecord], places: list[int]) -> _Outcomes:
    """Writes the records at `places`; a batch with one that cannot be stored is halved until that one stands alone."""
    try:
        return _write_batch(target, records, places)
    except Exception as error:
        if meaning(error) is not Meaning.POISON:
            raise
        if len(places) == 1:
            return _bury(target, records, places[0], error)
    half = len(places) // 2
    return _isolating(target, records, places[:half]) | _isolating(target, records, places[half:])


def _bury(target: _Target, records: Sequence[IntegrityRecord], place: int, error: Exception) -> _Outcomes:
    # The first line: PostgreSQL's context lines repeat the row.
    reason = "the ledger cannot store this row: " + storable(str(error)).splitlines()[0]
    write_dead_letters(target.conn, target.ref, [DeadLetter.of(records[place], reason)])
    return {place: RowOutcome(Status.FAILED, reason)}


def _write_batch(target: _Target, records: Sequence[IntegrityRecord], places: list[int]) -> _Outcomes:
    # In order of their keys, so that two writers lock rows in one order; of one key, the first comes first.
    ordered = sorted(places, key=[record.destination_key for record in records].__getitem__)
    try:
        # findings never make an object by themselves: all of them go by upsert
        return _write_once(target, records, ordered, look=target.merge is Merge.COPIES)
    except psycopg.errors.UniqueViolation:
        # Another writer was there between look and COPY: nothing of this batch is in yet.
        return _write_once(target, records, ordered, look=False)


def _write_once(target: _Target, records: Sequence[IntegrityRecord], places: list[int], *, look: bool) -> _Outcomes:
    """One transaction: with `look`, rows of new keys by COPY and the others by upsert; without, all by upsert."""
    conn, ref, _ = target
    with fenced(conn, ref):
        new, others = _parted(conn, ref, records, places) if look else ([], places)
        if new:
            insert_new(conn, ref, [records[place] for place in new])
        return _merge(target, records, others) if others else {}


def _parted(
    conn: Connection, ref: RunRef, records: Sequence[IntegrityRecord], places: list[int]
) -> tuple[list[int], list[int]]:
    """The first place of each key the ledger does not know, and the others."""
    keys = [records[place].destination_key for place in places]
    known = known_keys(conn, ref, keys)
    if not known and len(set(keys)) == len(keys):
        return places, []
    new: list[int] = []
    others: list[int] = []
    for key, place in zip(keys, places, strict=True):
        (others if key in known else new).append(place)
        known.add(key)
    return new, others


def _merge(target: _Target, records: Sequence[IntegrityRecord], places: list[int]) -> _Outcomes:
    conn, ref, merge = target
    outcomes: _Outcomes = {}
    create_incoming(conn)
    for batch in _rounds(records, places):
        met = upsert(conn, ref, [records[place] for place in batch], merge)
        outcomes.update((place, met[key]) for place in batch if (key := records[place].destination_key) in met)
    refused = [DeadLetter.of(records[place], CLAIMED) for place, outcome in outcomes.items() if outcome.reason]
    if refused:
        _insert_dead_letters(conn, ref, refused)
    return outcomes


def _rounds(records: Sequence[IntegrityRecord], places: list[int]) -> list[list[int]]:
    """`places` so that no round holds a destination key twice: an upsert cannot touch a row twice."""
    rounds: list[list[int]] = []
    seen: Counter[str] = Counter()
    for place in places:
        key = records[place].destination_key
        if seen[key] == len(rounds):
            rounds.append([])
        rounds[seen[key]].append(place)
        seen[key] += 1
    return rounds


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
