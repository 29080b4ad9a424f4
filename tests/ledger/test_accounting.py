from __future__ import annotations

import pytest

from ledger.accounting import ClassCount, Gap, InputFile, reconcile, summary_counts, write_counts
from ledger.connect import Connection
from ledger.leases import RunRef, release
from ledger.runs import start_run
from ledger.writer import write_objects
from model.errors import LeaseLost
from model.records import Tally
from model.status import SizeClass, Status
from tests.ledger.examples import a_record, a_run

FILES = [InputFile(0, "data/0.csv.gz", 1_000, "d" * 32), InputFile(1, "data/1.csv.gz", 2_000, None)]


def read(file_number: int, objects: int) -> Tally:
    return Tally(file_number, None, None, objects, objects * 10)


def ended(file_number: int, status: Status, objects: int, size_class: SizeClass | None = SizeClass.SMALL) -> Tally:
    return Tally(file_number, size_class, status, objects, objects * 10)


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
    write_objects(conn, ref, [a_record(1), a_record(2, file_number=1, status=Status.SOURCE_GONE)])
    tallies = [read(0, 2), ended(0, Status.VERIFIED, 1), ended(0, Status.SKIPPED, 1), read(1, 1)]
    write_counts(conn, ref, 0, FILES, [*tallies, ended(1, Status.SOURCE_GONE, 1)])
    assert reconcile(conn, ref) == []


def test_a_row_read_but_not_accounted_for_is_a_gap(ref: RunRef, conn: Connection) -> None:
    write_counts(
        conn, ref, 0, FILES, [read(0, 5), ended(0, Status.SKIPPED, 3), read(1, 1), ended(1, Status.SKIPPED, 1)]
    )
    [gap] = reconcile(conn, ref)
    assert gap == Gap(0, None, 5, 3)
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
    write_objects(conn, ref, [a_record(1)])
    write_counts(conn, ref, 0, FILES, [read(0, 2), ended(0, Status.VERIFIED, 2)])
    assert reconcile(conn, ref) == [Gap(0, Status.VERIFIED, 2, 1)]


def test_a_row_in_the_ledger_but_not_counted_is_a_gap(ref: RunRef, conn: Connection) -> None:
    write_objects(conn, ref, [a_record(1)])
    assert reconcile(conn, ref) == [Gap(0, Status.VERIFIED, 0, 1)]


def test_failed_rows_that_only_dead_letters_hold_are_accounted_for(ref: RunRef, conn: Connection) -> None:
    records = [a_record(1), a_record(2, destination_key="nul\0"), a_record(3, status=Status.FAILED)]
    outcomes = write_objects(conn, ref, records)
    write_counts(conn, ref, 0, FILES, [read(0, 3), *(ended(0, outcome.status, 1) for outcome in outcomes)])
    assert reconcile(conn, ref) == []


def test_rows_of_a_file_nobody_named_are_a_mistake_of_the_caller(ref: RunRef, conn: Connection) -> None:
    with pytest.raises(ValueError, match=r"\[1\]"):
        write_counts(conn, ref, 0, FILES[:1], [read(1, 5)])


def test_a_run_that_was_fenced_off_counts_nothing(dsn: str, ref: RunRef, conn: Connection) -> None:
    release(conn, ref)
    start_run(dsn, a_run())
    with pytest.raises(LeaseLost):
        write_counts(conn, ref, 0, FILES, [read(0, 5)])
    assert conn.execute("SELECT count(*) FROM manifest_files").fetchone() == (0,)
