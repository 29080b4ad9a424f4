from __future__ import annotations

from typing import Any

import pytest

from ledger.accounting import (
    ClassCount,
    ExpectedFile,
    InputFile,
    bad_files,
    expect_files,
    note_bad_file,
    summary_counts,
    write_counts,
)
from ledger.connect import Connection
from ledger.leases import RunRef, release
from ledger.reconciliation import gap_queries, reconcile
from ledger.runs import start_run
from ledger.writer import write_dead_letters, write_objects
from model.errors import LeaseLost
from model.outcome import Gap, GapKind
from model.records import DeadLetter, IntegrityRecord, Tally
from model.status import SizeClass, Status
from tests.ledger.examples import a_record, a_run

FILES = [InputFile(0, "data/0.csv.gz", 1_000, "d" * 32), InputFile(1, "data/1.csv.gz", 2_000, None)]


def read(file_number: int, objects: int) -> Tally:
    return Tally(file_number, None, None, objects, objects * 10)


def ended(file_number: int, status: Status, objects: int, size_class: SizeClass | None = SizeClass.SMALL) -> Tally:
    return Tally(file_number, size_class, status, objects, objects * 10)


def ten_bytes(row_number: int, **changes: Any) -> IntegrityRecord:
    """A record as `ended` counts it."""
    return a_record(row_number, size=10, **changes)


def unrecorded(status: Status, expected: int, found: int, size_class: SizeClass | None = SizeClass.SMALL) -> Gap:
    """A gap of file 0 between rows counted and rows in the ledger."""
    return Gap(0, expected, found, GapKind.UNRECORDED, "rows", size_class, status)


def test_counts_add_up_over_slices_and_repetitions_replace_them(ref: RunRef, conn: Connection) -> None:
    tallies = [
        read(0, 3),
        ended(0, Status.VERIFIED, 1),
        ended(0, Status.VERIFIED, 1),
        ended(0, Status.EXCLUDED, 1, None),
    ]
    write_counts(conn, ref, 0, FILES, tallies)
    write_counts(conn, ref, 1, FILES[:1], [read(0, 2), ended(0, Status.VERIFIED, 2)])
    write_counts(conn, ref, 0, FILES, tallies)
    assert summary_counts(conn, ref.run_id) == [
        ClassCount(SizeClass.SMALL, Status.VERIFIED, 4, 40),
        ClassCount(None, Status.EXCLUDED, 1, 10),
    ]
    rows = conn.execute("SELECT file_number, slice, file_key, rows, object_bytes FROM manifest_files ORDER BY 1, 2")
    assert rows.fetchall() == [
        (0, 0, "data/0.csv.gz", 3, 30),
        (0, 1, "data/0.csv.gz", 2, 20),
        (1, 0, "data/1.csv.gz", 0, 0),
    ]


def test_a_run_whose_rows_add_up_has_no_gap(ref: RunRef, conn: Connection) -> None:
    write_objects(conn, ref, [ten_bytes(1), ten_bytes(2, file_number=1, status=Status.SOURCE_GONE)])
    tallies = [read(0, 2), ended(0, Status.VERIFIED, 1), ended(0, Status.SKIPPED, 1), read(1, 1)]
    write_counts(conn, ref, 0, FILES, [*tallies, ended(1, Status.SOURCE_GONE, 1)])
    assert reconcile(conn, ref) == []


def test_a_row_read_but_not_accounted_for_is_a_gap(ref: RunRef, conn: Connection) -> None:
    write_counts(
        conn, ref, 0, FILES, [read(0, 5), ended(0, Status.SKIPPED, 3), read(1, 1), ended(1, Status.SKIPPED, 1)]
    )
    [gap] = reconcile(conn, ref)
    assert gap == Gap(0, 5, 3)
    assert str(gap) == "input file 0: 5 rows read, 3 accounted for"


def test_bytes_read_but_not_accounted_for_are_a_gap(ref: RunRef, conn: Connection) -> None:
    tallies = [Tally(0, None, None, 2, 300), Tally(0, SizeClass.SMALL, Status.SKIPPED, 2, 200)]
    write_counts(conn, ref, 0, FILES, tallies)
    [gap] = reconcile(conn, ref)
    assert str(gap) == "input file 0: 300 bytes read, 200 accounted for"


def test_sizes_that_only_the_source_stated_are_no_gap(ref: RunRef, conn: Connection) -> None:
    tallies = [Tally(0, None, None, 2, 0), Tally(0, SizeClass.SMALL, Status.SKIPPED, 2, 200)]
    write_counts(conn, ref, 0, FILES, tallies)
    assert reconcile(conn, ref) == []


def test_a_row_counted_but_not_in_the_ledger_is_a_gap(ref: RunRef, conn: Connection) -> None:
    write_objects(conn, ref, [ten_bytes(1)])
    write_counts(conn, ref, 0, FILES, [read(0, 2), ended(0, Status.VERIFIED, 2)])
    [gap] = reconcile(conn, ref)
    assert gap == unrecorded(Status.VERIFIED, 2, 1)
    assert str(gap) == "input file 0: 2 rows counted small VERIFIED, 1 in the ledger"


def test_a_row_in_the_ledger_but_not_counted_is_a_gap(ref: RunRef, conn: Connection) -> None:
    write_objects(conn, ref, [ten_bytes(1)])
    assert reconcile(conn, ref) == [unrecorded(Status.VERIFIED, 0, 1)]


def test_a_row_counted_in_another_class_than_it_is_kept_in_is_a_gap_of_both(ref: RunRef, conn: Connection) -> None:
    write_objects(conn, ref, [ten_bytes(1)])
    write_counts(conn, ref, 0, FILES, [read(0, 1), ended(0, Status.VERIFIED, 1, SizeClass.LARGE)])
    assert reconcile(conn, ref) == [
        unrecorded(Status.VERIFIED, 1, 0, SizeClass.LARGE),
        unrecorded(Status.VERIFIED, 0, 1, SizeClass.SMALL),
    ]


@pytest.mark.parametrize("kept", [9, 11])
def test_bytes_counted_that_are_not_those_in_the_ledger_are_a_gap(ref: RunRef, conn: Connection, kept: int) -> None:
    write_objects(conn, ref, [a_record(1, size=kept)])
    write_counts(conn, ref, 0, FILES, [read(0, 1), ended(0, Status.VERIFIED, 1)])
    [gap] = reconcile(conn, ref)
    assert gap == Gap(0, 10, kept, GapKind.UNRECORDED, "bytes", SizeClass.SMALL, Status.VERIFIED)
    assert str(gap) == f"input file 0: 10 bytes counted small VERIFIED, {kept} in the ledger"


def test_more_bytes_accounted_for_than_were_read_are_a_gap(ref: RunRef, conn: Connection) -> None:
    tallies = [Tally(0, None, None, 2, 300), Tally(0, SizeClass.SMALL, Status.SKIPPED, 2, 400)]
    write_counts(conn, ref, 0, FILES, tallies)
    assert reconcile(conn, ref) == [Gap(0, 300, 400, unit="bytes")]


def test_sizes_of_what_is_there_now_are_no_gap(ref: RunRef, conn: Connection) -> None:
    conn.execute("""UPDATE runs SET options = '{"copy": {"on_change": "copy"}}'""")
    for counted in (200, 400):
        tallies = [Tally(0, None, None, 2, 300), Tally(0, SizeClass.SMALL, Status.SKIPPED, 2, counted)]
        write_counts(conn, ref, 0, FILES, tallies)
        assert reconcile(conn, ref) == []


def test_failed_rows_that_only_dead_letters_hold_are_accounted_for(ref: RunRef, conn: Connection) -> None:
    records = [ten_bytes(1), ten_bytes(2, destination_key="nul\0"), ten_bytes(3, status=Status.FAILED)]
    outcomes = write_objects(conn, ref, records)
    write_counts(conn, ref, 0, FILES, [read(0, 3), *(ended(0, outcome.status, 1) for outcome in outcomes)])
    assert reconcile(conn, ref) == []


def test_a_dead_letter_accounts_for_one_failed_row_of_any_class(ref: RunRef, conn: Connection) -> None:
    write_objects(conn, ref, [ten_bytes(1, status=Status.FAILED)])
    write_dead_letters(conn, ref, [DeadLetter(0, 2, Status.FAILED, "why", "text")])
    small, large = ended(0, Status.FAILED, 1), ended(0, Status.FAILED, 1, SizeClass.LARGE)
    write_counts(conn, ref, 0, FILES, [read(0, 2), small, large])
    assert reconcile(conn, ref) == []
    write_counts(conn, ref, 0, FILES, [read(0, 3), small, small, large])
    assert reconcile(conn, ref) == [unrecorded(Status.FAILED, 3, 2, None)]
    write_counts(conn, ref, 0, FILES, [read(0, 2), large, large])
    assert reconcile(conn, ref) == [unrecorded(Status.FAILED, 0, 1)]


def test_a_dead_letter_that_nobody_counted_is_a_gap(ref: RunRef, conn: Connection) -> None:
    write_dead_letters(conn, ref, [DeadLetter(0, 2, Status.FAILED, "why", "text")])
    assert reconcile(conn, ref) == [unrecorded(Status.FAILED, 0, 1, None)]


def test_a_file_nobody_read_is_a_gap(ref: RunRef, conn: Connection) -> None:
    expect_files(conn, ref, [ExpectedFile(FILES[0], rows=7), ExpectedFile(FILES[1])])
    gaps = reconcile(conn, ref)
    assert gaps == [Gap(0, 7, 0, GapKind.UNREAD), Gap(1, 1, 0, GapKind.UNREAD, "files")]
    assert [str(gap) for gap in gaps] == ["input file 0: 7 rows in it, 0 read", "input file 1: never read"]


def test_rows_read_are_those_counted_before(ref: RunRef, conn: Connection) -> None:
    expect_files(conn, ref, [ExpectedFile(FILES[0], rows=7)])
    write_counts(conn, ref, 0, FILES, [read(0, 4), ended(0, Status.SKIPPED, 4)])
    assert reconcile(conn, ref) == [Gap(0, 7, 4, GapKind.UNREAD)]
    write_counts(conn, ref, 1, FILES, [read(0, 3), ended(0, Status.SKIPPED, 3)])
    assert reconcile(conn, ref) == []


def test_a_file_without_rows_was_read_all_the_same(ref: RunRef, conn: Connection) -> None:
    expect_files(conn, ref, [ExpectedFile(FILES[0], rows=0), ExpectedFile(FILES[1])])
    write_counts(conn, ref, 0, FILES[1:], [read(1, 0)])
    assert reconcile(conn, ref) == []


def test_a_bad_file_is_no_gap_and_is_counted(ref: RunRef, conn: Connection) -> None:
    expect_files(conn, ref, [ExpectedFile(FILES[0], bad_reason="its MD5 differs"), ExpectedFile(FILES[1])])
    for _ in range(2):
        note_bad_file(conn, ref, FILES[1], "it cannot be read\0")
    assert (reconcile(conn, ref), bad_files(conn, ref.run_id)) == ([], 2)


def test_a_file_that_was_bad_at_first_and_then_read_is_not_counted_as_bad(ref: RunRef, conn: Connection) -> None:
    expect_files(conn, ref, [ExpectedFile(file) for file in FILES])
    note_bad_file(conn, ref, FILES[0], "it cannot be read")
    write_counts(conn, ref, 0, FILES, [read(0, 1), ended(0, Status.SKIPPED, 1), read(1, 0)])
    assert (reconcile(conn, ref), bad_files(conn, ref.run_id)) == ([], 0)


def test_the_queries_of_gaps_show_each_of_them(ref: RunRef, conn: Connection) -> None:
    expect_files(conn, ref, [ExpectedFile(file, rows=3) for file in FILES])
    write_objects(conn, ref, [a_record(1, size=9)])
    write_counts(
        conn, ref, 0, FILES, [read(0, 2), ended(0, Status.VERIFIED, 1), read(1, 3), ended(1, Status.FAILED, 3)]
    )
    gaps = reconcile(conn, ref)
    queries = gap_queries(ref.run_id, gaps)
    assert [query.count("\n") for query in queries] == [0] * 3
    shown = [row for query in queries for row in conn.execute(query.encode()).fetchall()]
    assert sorted((row[0], *row[-2:]) for row in shown) == sorted(
        (gap.file_number, gap.expected, gap.found) for gap in gaps
    )
    assert {gap.kind for gap in gaps} == set(GapKind)
    assert gap_queries(ref.run_id, [gap for gap in gaps if gap.kind is GapKind.UNREAD]) == queries[:1]
    assert gap_queries(ref.run_id, []) == []


def test_rows_of_a_file_nobody_named_are_a_mistake_of_the_caller(ref: RunRef, conn: Connection) -> None:
    with pytest.raises(ValueError, match=r"\[1\]"):
        write_counts(conn, ref, 0, FILES[:1], [read(1, 5)])


def test_a_run_that_was_fenced_off_counts_nothing(dsn: str, ref: RunRef, conn: Connection) -> None:
    release(conn, ref)
    start_run(dsn, a_run())
    with pytest.raises(LeaseLost):
        write_counts(conn, ref, 0, FILES, [read(0, 5)])
    assert conn.execute("SELECT count(*) FROM manifest_files").fetchone() == (0,)
