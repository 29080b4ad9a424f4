"""A check finds rows of `objects` that are not what the records say, and none that are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ledger.check import Check, check_run
from ledger.connect import Connection
from ledger.digest import seal
from ledger.leases import RunRef, release
from ledger.objects import Merge
from ledger.runs import drop_history, finish_run, start_run
from ledger.writer import write_objects
from model.outcome import Outcome, RunKind
from model.records import IntegrityRecord
from model.status import DestinationEvidence, SourceEvidence, Status
from tests.ledger.examples import a_record, a_run

BARE: dict[str, Any] = {"md5": None, "sha256": None, "crc64nvme": None, "crc32c": None}
NONE: dict[str, Any] = {
    "source_evidence": SourceEvidence.NONE,
    "destination_evidence": DestinationEvidence.NONE,
    **BARE,
}

Run = Callable[..., int]


@pytest.fixture
def run(dsn: str, conn: Connection) -> Run:
    """Makes a run with records, from its start to its digest; returns its number."""

    def make(*records: IntegrityRecord, merge: Merge = Merge.COPIES) -> int:
        kind = RunKind.RUN if merge is Merge.COPIES else RunKind.VERIFY
        options = {"verify": {"adopt": merge is Merge.ADOPTIONS}}
        ref: RunRef = start_run(dsn, replace(a_run(kind=kind), options=options))
        write_objects(conn, ref, records, merge)
        finish_run(conn, ref, Outcome.SUCCEEDED, 0, {})
        release(conn, ref)
        seal(conn, ref.run_id)
        return ref.run_id

    return make


@pytest.fixture
def copied(run: Run) -> int:
    """A run that copied five objects."""
    return run(*(a_record(number) for number in range(5)))


def looked(run: Run) -> int:
    """A run that verified: one object gone, one shown by stronger evidence, one as recorded, one nobody copied."""
    gone = a_record(0, status=Status.DESTINATION_GONE, error="404", destination_etag=None, **NONE)
    stronger = a_record(1, destination_evidence=DestinationEvidence.READBACK, **BARE)
    as_recorded = a_record(2, destination_evidence=DestinationEvidence.RECORDED_ETAG)
    return run(gone, stronger, as_recorded, a_record(9), merge=Merge.FINDINGS)


def tried(run: Run, **changes: Any) -> int:
    """A run one of whose copies never reached the destination."""
    values = NONE | {"status": Status.FAILED, "error": "503", "destination_etag": None, "untouched": True} | changes
    return run(a_record(0, **values), a_record(1))


def change(conn: Connection, number: int, what: str, table: str = "objects") -> None:
    changed = conn.execute(
        f"UPDATE {table} SET {what} WHERE destination_key = %s",  # noqa: S608
        (a_record(number).destination_key,),
    )
    assert changed.rowcount


def named(check: Check) -> tuple[bool, tuple[str, ...]]:
    return check.same, check.examples


def key(number: int) -> tuple[str, ...]:
    return (a_record(number).destination_key,)


def test_what_a_verification_did_is_no_change(run: Run, copied: int, conn: Connection) -> None:
    found = looked(run)

    assert named(check_run(conn, found)) == (True, ())
    assert named(check_run(conn, copied)) == (True, ())


def test_what_was_adopted_is_no_change(run: Run, copied: int, conn: Connection) -> None:
    theirs = a_record(0, destination_etag="another", **(BARE | {"crc32c": "new"}))
    found = run(theirs, a_record(9), a_record(1), merge=Merge.ADOPTIONS)

    assert named(check_run(conn, found)) == (True, ())
    assert named(check_run(conn, copied)) == (True, ())


def test_what_a_try_left_as_it_was_is_no_change(run: Run, copied: int, conn: Connection) -> None:
    first, again = tried(run), tried(run)
    gone = run(a_record(2, status=Status.DESTINATION_GONE, **NONE), merge=Merge.FINDINGS)
    settled = run(a_record(2, status=Status.FAILED, untouched=True, **NONE))

    assert {named(check_run(conn, number)) for number in (copied, first, again, gone, settled)} == {(True, ())}


def test_rows_of_older_versions_are_no_change(run: Run, copied: int, conn: Connection) -> None:
    conn.execute("UPDATE objects SET verified_run = NULL, verified_at = NULL")
    found, later = looked(run), tried(run)

    assert {named(check_run(conn, number)) for number in (copied, found, later)} == {(True, ())}


@pytest.mark.parametrize("what", ["status = 'VERIFIED'", "sha256 = repeat('0', 64)", "finished_at = NULL"])
def test_a_changed_record_of_a_verification_is_found_by_the_digest(
    run: Run, copied: int, conn: Connection, what: str
) -> None:
    found = looked(run)
    change(conn, 0, what, f"attempts_{found}")

    check = check_run(conn, found)
    assert not check.same
    assert check.found != check.stored


@pytest.mark.parametrize(
    "what",
    [
        "status = 'VERIFIED'",
        "error = NULL",
        "finished_at = finished_at + interval '1 day'",
        "sha256 = repeat('0', 64)",
        "destination_etag = 'x'",
        "destination_evidence = 'readback'",
        "size = size + 1",
        "verified_run = run_id",
        "verified_at = verified_at - interval '1 day'",
        "verified_run = NULL",
    ],
)
@pytest.mark.parametrize("by", [looked, tried])
def test_a_changed_row_that_several_runs_made_is_found(
    run: Run, copied: int, conn: Connection, by: Callable[[Run], int], what: str
) -> None:
    later = by(run)
    change(conn, 0, what)

    assert named(check_run(conn, later)) == (False, key(0))
    assert named(check_run(conn, copied)) == (False, key(0))


def test_a_row_that_is_gone_is_found(run: Run, copied: int, conn: Connection) -> None:
    conn.execute("DELETE FROM objects WHERE destination_key = %s", key(3))
    assert named(check_run(conn, copied)) == (False, key(3))


def test_an_adopted_row_that_is_gone_is_found(run: Run, copied: int, conn: Connection) -> None:
    found = run(a_record(9), merge=Merge.ADOPTIONS)
    conn.execute("DELETE FROM objects WHERE destination_key = %s", key(9))
    assert named(check_run(conn, found)) == (False, key(9))


def test_a_row_given_to_a_run_that_has_no_record_of_it_is_found(run: Run, copied: int, conn: Connection) -> None:
    later = looked(run)
    change(conn, 3, f"sha256 = repeat('0', 64), run_id = {later}")

    assert named(check_run(conn, copied)) == (False, key(3))
    assert named(check_run(conn, later)) == (False, key(3))


@pytest.mark.parametrize("run_id", ["0", "99"])
def test_a_row_given_to_a_run_there_never_was_is_found(run: Run, copied: int, conn: Connection, run_id: str) -> None:
    change(conn, 3, f"run_id = {run_id}")
    assert named(check_run(conn, copied)) == (False, key(3))


def test_a_row_given_to_a_run_of_another_job_is_found(dsn: str, run: Run, copied: int, conn: Connection) -> None:
    other = start_run(dsn, a_run(job="weekly", destination_prefix="elsewhere/"))
    write_objects(conn, other, [a_record(3)])
    change(conn, 3, f"run_id = {other.run_id}")
    assert named(check_run(conn, copied)) == (False, key(3))


def test_a_row_given_to_a_later_run_with_a_record_of_it_must_agree_with_that(
    run: Run, copied: int, conn: Connection
) -> None:
    later = looked(run)
    change(conn, 2, f"sha256 = repeat('0', 64), run_id = {later}")
    assert named(check_run(conn, copied)) == (False, key(2))


def test_a_row_given_back_to_an_earlier_run_is_found(run: Run, copied: int, conn: Connection) -> None:
    later = run(a_record(0, finished_at=1_795_009_999.0))
    assert named(check_run(conn, later)) == (True, ())
    conn.execute(
        "UPDATE objects SET run_id = %s, finished_at = a.finished_at FROM attempts a"
        " WHERE a.run_id = %s AND a.destination_key = objects.destination_key AND a.destination_key = %s",
        (copied, copied, *key(0)),
    )
    assert named(check_run(conn, later)) == (False, key(0))


@pytest.mark.parametrize("status", [Status.MISMATCH, Status.DESTINATION_GONE])
def test_a_finding_that_was_undone_is_found(run: Run, copied: int, conn: Connection, status: Status) -> None:
    conn.execute("CREATE TEMPORARY TABLE before AS SELECT * FROM objects")
    found = run(a_record(0, status=status, **NONE), merge=Merge.FINDINGS)
    conn.execute("DELETE FROM objects; INSERT INTO objects SELECT * FROM before")

    assert named(check_run(conn, found)) == (False, key(0))


def test_what_a_dropped_run_told_is_not_missed(run: Run, copied: int, conn: Connection) -> None:
    found, later = looked(run), tried(run)
    drop_history(conn, copied)
    assert {named(check_run(conn, number)) for number in (found, later)} == {(True, ())}

    drop_history(conn, later)
    assert named(check_run(conn, found)) == (True, ())


def test_what_the_try_itself_says_is_found_although_an_earlier_run_was_dropped(
    run: Run, copied: int, conn: Connection
) -> None:
    later = tried(run)
    drop_history(conn, copied)
    change(conn, 0, "status = 'VERIFIED'")
    assert named(check_run(conn, later)) == (False, key(0))


def test_as_many_are_counted_as_there_are_and_the_first_named(copied: int, conn: Connection) -> None:
    conn.execute("DELETE FROM objects")

    check = check_run(conn, copied)
    keys = sorted((a_record(number).destination_key for number in range(5)), key=str.encode)
    assert (check.others, check.examples) == (5, tuple(keys[:3]))
