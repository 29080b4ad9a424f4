from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ledger.connect import Connection, connect
from ledger.leases import RunRef, release
from ledger.objects import CLAIMED, RowOutcome
from ledger.queries import finished_in_run
from ledger.runs import start_run
from ledger.uploads import adopt_upload, parts_of
from ledger.writer import write_dead_letters, write_objects, write_parts
from model.errors import LeaseLost
from model.records import DeadLetter, IntegrityRecord, PartRecord, SentPart
from model.status import Status
from tests.ledger.examples import a_record, a_run, an_upload, statuses

VERIFIED = RowOutcome(Status.VERIFIED)


def next_run(dsn: str, conn: Connection, ref: RunRef) -> RunRef:
    release(conn, ref)
    return start_run(dsn, a_run())


def dead_letters(conn: Connection) -> list[tuple[int, str, str]]:
    return conn.execute("SELECT row_number, status::text, reason FROM dead_letters ORDER BY 1").fetchall()


def test_a_record_comes_back_as_it_was_written(ref: RunRef, conn: Connection) -> None:
    record = a_record(source_version="v1", destination_version="v2", error="slow; répété\t\\N\n")
    assert write_objects(conn, ref, [record]) == [VERIFIED]
    assert finished_in_run(conn, ref, [record.destination_key]) == {
        record.destination_key: record._replace(recorded=True)
    }
    assert statuses(conn, ref, "objects") == {record.destination_key: "VERIFIED"}


def test_the_same_rows_again_change_nothing(ref: RunRef, conn: Connection) -> None:
    records = [a_record(number) for number in range(20)]
    assert write_objects(conn, ref, records) == write_objects(conn, ref, records) == [VERIFIED] * 20
    assert len(statuses(conn, ref)) == 20


def test_within_a_run_a_status_never_gets_lower(ref: RunRef, conn: Connection) -> None:
    good, bad = a_record(), a_record(status=Status.FAILED, error="connection reset")
    assert write_objects(conn, ref, [bad]) == [RowOutcome(Status.FAILED)]
    assert write_objects(conn, ref, [good]) == [VERIFIED]
    assert write_objects(conn, ref, [bad]) == [VERIFIED]
    for table in ("attempts", "objects"):
        assert statuses(conn, ref, table) == {good.destination_key: "VERIFIED"}


def test_the_same_row_twice_in_one_batch_ends_as_the_better_one(ref: RunRef, conn: Connection) -> None:
    bad = a_record(status=Status.FAILED)
    assert write_objects(conn, ref, [a_record(), bad]) == [VERIFIED, VERIFIED]


@pytest.mark.parametrize("batches", [1, 2])
def test_a_second_row_for_the_same_source_object_is_a_duplicate(ref: RunRef, conn: Connection, batches: int) -> None:
    rows = [a_record(1), a_record(1)._replace(row_number=2)]
    assert in_batches(conn, ref, rows, batches) == [VERIFIED, RowOutcome(Status.DUPLICATE)]
    assert conn.execute("SELECT row_number FROM attempts").fetchall() == [(1,)]
    assert dead_letters(conn) == []


@pytest.mark.parametrize("batches", [1, 2])
def test_a_row_of_another_source_object_cannot_claim_a_taken_key(ref: RunRef, conn: Connection, batches: int) -> None:
    rows = [a_record(1), a_record(2, destination_key=a_record(1).destination_key)]
    assert in_batches(conn, ref, rows, batches) == [VERIFIED, RowOutcome(Status.FAILED, CLAIMED)]
    for table in ("attempts", "objects"):
        assert conn.execute(f"SELECT row_number FROM {table}").fetchall() == [(1,)]  # noqa: S608
    assert dead_letters(conn) == [(2, "FAILED", CLAIMED)]


def test_another_version_of_the_source_object_is_not_a_duplicate(ref: RunRef, conn: Connection) -> None:
    first = a_record(1, source_version="v1")
    second = first._replace(row_number=2, source_version="v2")
    assert write_objects(conn, ref, [first, second])[1].status is Status.FAILED


def test_a_repeated_batch_gives_the_same_places_to_the_same_rows(ref: RunRef, conn: Connection) -> None:
    first, second = a_record(1), a_record(2, destination_key=a_record(1).destination_key)
    write_objects(conn, ref, [second])
    assert write_objects(conn, ref, [first, second]) == [RowOutcome(Status.FAILED, CLAIMED), VERIFIED]


def test_of_two_processes_that_claim_one_key_one_gets_it(dsn: str, ref: RunRef, conn: Connection) -> None:
    keys = [a_record(number).destination_key for number in range(200)]
    start = threading.Barrier(2)

    def claim(offset: int) -> list[RowOutcome]:
        rows = [a_record(offset + number, destination_key=key) for number, key in enumerate(keys)]
        with connect(dsn, f"claimant {offset}") as own:
            start.wait()
            return write_objects(own, ref, rows if offset else rows[::-1])

    with ThreadPoolExecutor(2) as pool:
        ones, others = pool.map(claim, [0, 1000])
    pairs = list(zip(ones[::-1], others, strict=True))
    assert all({a.status, b.status} == {Status.VERIFIED, Status.FAILED} for a, b in pairs)
    assert conn.execute("SELECT count(*) FROM attempts").fetchone() == (200,)
    assert len(dead_letters(conn)) == 200


def test_a_newer_run_takes_the_object_over_and_an_older_one_does_not(dsn: str, ref: RunRef, conn: Connection) -> None:
    write_objects(conn, ref, [a_record()])
    newer = next_run(dsn, conn, ref)
    changed = a_record(status=Status.SOURCE_CHANGED, error="412")
    assert write_objects(conn, newer, [changed]) == [RowOutcome(Status.SOURCE_CHANGED)]
    assert conn.execute("SELECT run_id, status::text FROM objects").fetchall() == [(newer.run_id, "SOURCE_CHANGED")]

    conn.execute("UPDATE objects SET run_id = 999")
    write_objects(conn, newer, [a_record()])
    assert conn.execute("SELECT run_id, status::text FROM objects").fetchall() == [(999, "SOURCE_CHANGED")]
    assert statuses(conn, newer) == {changed.destination_key: "VERIFIED"}


def test_what_is_only_counted_or_already_recorded_is_not_written(ref: RunRef, conn: Connection) -> None:
    records = [a_record(1, status=Status.SKIPPED), a_record(2, recorded=True)]
    assert write_objects(conn, ref, records) == [RowOutcome(Status.SKIPPED), VERIFIED]
    assert statuses(conn, ref) == {}


@pytest.mark.parametrize(
    "poison",
    [
        {"destination_key": "nul\0"},
        {"source_key": "lone surrogate \ud800"},
        {"size": 2**70},
        {"destination_key": "".join(chr(0x4E00 + number * 7 % 20_000) for number in range(2_000))},
    ],
    ids=["nul", "surrogate", "out of range", "too long for the index"],
)
def test_a_row_that_cannot_be_stored_is_a_dead_letter_and_the_others_are_kept(
    ref: RunRef, conn: Connection, poison: dict[str, str]
) -> None:
    records = [a_record(number) for number in range(50)]
    records[17] = records[17]._replace(**poison)  # type: ignore[arg-type]
    outcomes = write_objects(conn, ref, records)
    assert [number for number, outcome in enumerate(outcomes) if outcome.status is Status.FAILED] == [17]
    assert outcomes.count(VERIFIED) == len(statuses(conn, ref)) == len(statuses(conn, ref, "objects")) == 49
    [(row_number, status, reason)] = dead_letters(conn)
    assert (row_number, status) == (17, "FAILED")
    assert reason == outcomes[17].reason


def test_an_error_text_that_cannot_be_stored_does_not_cost_the_record(ref: RunRef, conn: Connection) -> None:
    assert write_objects(conn, ref, [a_record(error="bad\0 \udcff")]) == [VERIFIED]
    assert conn.execute("SELECT error FROM objects").fetchone() == ("bad\\x00 \\udcff",)


def test_a_run_that_was_fenced_off_writes_nothing(dsn: str, ref: RunRef, conn: Connection) -> None:
    next_run(dsn, conn, ref)
    with pytest.raises(LeaseLost):
        write_objects(conn, ref, [a_record()])
    with pytest.raises(LeaseLost):
        write_parts(conn, ref, [SentPart("a" * 64, "upload-1", PartRecord(1, 5, "e", None, None, None))])
    with pytest.raises(LeaseLost):
        write_dead_letters(conn, ref, [DeadLetter(0, 0, Status.BAD_ROW, "why", "what")])
    for table in ("attempts", "objects", "parts", "dead_letters"):
        assert conn.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)  # noqa: S608


def test_parts_come_back_by_number_the_last_word_of_each(ref: RunRef, conn: Connection) -> None:
    adopt_upload(conn, ref, an_upload(identity="x"))
    first = PartRecord(1, 5, "e1", "a" * 32, "b" * 64, "AAAAAAAAAAA=", "AAAAAA==")
    second = PartRecord(2, 5, "e2", None, None, None)
    write_parts(conn, ref, [SentPart("x", "upload-1", part) for part in (second, first._replace(etag="old"), first)])
    write_parts(conn, ref, [SentPart("x", "upload-1", second._replace(etag="e3"))])
    write_parts(conn, ref, [])
    assert parts_of(conn, ["x", "y"]) == {"x": (first, second._replace(etag="e3"))}


def test_dead_letters_are_kept_once_and_whatever_their_text_holds(ref: RunRef, conn: Connection) -> None:
    letter = DeadLetter(0, 3, Status.BAD_ROW, "key is not UTF-8", "b,\udc80\0")
    write_dead_letters(conn, ref, [letter, letter])
    write_dead_letters(conn, ref, [letter])
    assert conn.execute("SELECT text FROM dead_letters").fetchall() == [("b,\\udc80\\x00",)]


def in_batches(conn: Connection, ref: RunRef, rows: list[IntegrityRecord], batches: int) -> list[RowOutcome]:
    if batches == 1:
        return write_objects(conn, ref, rows)
    return [outcome for row in rows for outcome in write_objects(conn, ref, [row])]
