from __future__ import annotations

from dataclasses import replace

from ledger.connect import Connection
from ledger.heartbeat import beat
from ledger.leases import RunRef, release
from ledger.objects import Merge
from ledger.process import this_process
from ledger.queries import (
    VerifiedRow,
    example_row,
    failures,
    finished_in_run,
    progress,
    recorded,
    sample_verified,
    verified_before,
)
from ledger.runs import start_run
from ledger.writer import write_dead_letters, write_objects
from model.records import DeadLetter
from model.status import DestinationEvidence, Grade, Status, evidence_meeting
from tests.ledger.examples import a_record, a_run

SERVER, ETAG = evidence_meeting(Grade.SERVER), evidence_meeting(Grade.ETAG)


def a_later_run(ref: RunRef) -> RunRef:
    """Another run of the same job."""
    return replace(ref, run_id=ref.run_id + 1)


def test_failed_rows_are_not_finished(ref: RunRef, conn: Connection) -> None:
    gone, failed = a_record(1, status=Status.SOURCE_GONE), a_record(2, status=Status.FAILED)
    write_objects(conn, ref, [gone, failed])
    finished = finished_in_run(conn, ref, [gone.destination_key, failed.destination_key, "backup/unknown", "nul\0"])
    assert {key: (record.status, record.recorded) for key, record in finished.items()} == {
        gone.destination_key: (Status.SOURCE_GONE, True)
    }


def test_only_this_runs_rows_are_finished(dsn: str, ref: RunRef, conn: Connection) -> None:
    write_objects(conn, ref, [a_record()])
    release(conn, ref)
    assert finished_in_run(conn, start_run(dsn, a_run()), [a_record().destination_key]) == {}


def test_verified_before_tells_source_and_destination_as_they_were(dsn: str, ref: RunRef, conn: Connection) -> None:
    record = a_record(source_version="v1", destination_version="v9")
    write_objects(conn, ref, [record])
    assert verified_before(conn, a_later_run(ref), [record.destination_key], SERVER, SERVER) == {
        record.destination_key: VerifiedRow(
            "copies",
            record.destination_key,
            "originals",
            record.source_key,
            "v1",
            record.source_etag,
            record.size,
            record.destination_etag,
            "v9",
        )
    }
    assert (
        verified_before(conn, replace(a_later_run(ref), job="weekly"), [record.destination_key], SERVER, SERVER) == {}
    )


def test_what_a_run_verified_itself_is_not_verified_before(ref: RunRef, conn: Connection) -> None:
    write_objects(conn, ref, [a_record()])
    assert verified_before(conn, ref, [a_record().destination_key], SERVER, SERVER) == {}


def test_weaker_evidence_and_other_statuses_are_not_verified_before(ref: RunRef, conn: Connection) -> None:
    records = [
        a_record(1, destination_evidence=DestinationEvidence.ETAG_MD5),
        a_record(2, status=Status.COPIED),
        a_record(3),
    ]
    write_objects(conn, ref, records)
    keys = [record.destination_key for record in records]
    assert list(verified_before(conn, a_later_run(ref), keys, SERVER, SERVER)) == [keys[2]]
    assert set(verified_before(conn, a_later_run(ref), keys, ETAG, ())) == {keys[0], keys[2]}


def test_adopted_objects_need_evidence_of_their_own_kinds(ref: RunRef, conn: Connection) -> None:
    kinds = [DestinationEvidence.ETAG_MD5, DestinationEvidence.READBACK]
    records = [a_record(number, destination_evidence=kind) for number, kind in enumerate(kinds)]
    write_objects(conn, ref, records, Merge.ADOPTIONS)
    keys = [record.destination_key for record in records]
    assert set(verified_before(conn, a_later_run(ref), keys, SERVER, ETAG)) == set(keys)
    assert set(verified_before(conn, a_later_run(ref), keys, ETAG, SERVER)) == {keys[1]}


def test_an_object_is_recorded_as_it_was_written(ref: RunRef, conn: Connection) -> None:
    write_objects(conn, ref, [a_record()])
    found = recorded(conn, a_later_run(ref), [a_record().destination_key, "backup/unknown"])
    assert found == {a_record().destination_key: a_record()._replace(recorded=True)}


def test_many_keys_are_asked_for_in_several_queries(ref: RunRef, conn: Connection) -> None:
    records = [a_record(number) for number in range(2_500)]
    write_objects(conn, ref, records)
    keys = [record.destination_key for record in records]
    assert (
        verified_before(conn, a_later_run(ref), keys, SERVER, SERVER).keys()
        == finished_in_run(conn, ref, keys).keys()
        == set(keys)
    )


def test_a_sample_holds_verified_objects_of_the_job_alone(ref: RunRef, conn: Connection) -> None:
    write_objects(conn, ref, [a_record(number) for number in range(50)] + [a_record(99, status=Status.COPIED)])
    sample = sample_verified(conn, "nightly", 20)
    assert len({row.destination_key for row in sample}) == 20
    assert len(sample_verified(conn, "nightly", 100)) == 50
    assert sample_verified(conn, "weekly", 5) == []


def test_a_sample_of_a_big_table_is_as_long_as_asked_for(ref: RunRef, conn: Connection) -> None:
    write_objects(conn, ref, [a_record()])
    conn.execute(
        "INSERT INTO objects SELECT (jsonb_populate_record(o, jsonb_build_object('destination_key', 'k' || n))).*"
        " FROM objects o, generate_series(1, 120000) n"
    )
    conn.execute("ANALYZE objects")
    assert len({row.destination_key for row in sample_verified(conn, "nightly", 100)}) == 100


def test_failures_are_the_rows_that_stand_failed_now(ref: RunRef, conn: Connection) -> None:
    records = [
        a_record(1, status=Status.FAILED),
        a_record(2, status=Status.MISMATCH),
        a_record(3, status=Status.FAILED),
    ]
    write_objects(conn, ref, [*records, a_record(4), a_record(5, destination_key="nul\0")])
    write_objects(conn, ref, [a_record(3)])
    write_dead_letters(conn, ref, [DeadLetter(0, 1, Status.FAILED, "told twice", "")])
    assert failures(conn, ref.run_id) == 3


def test_progress_sums_what_the_workers_report(ref: RunRef, conn: Connection) -> None:
    for worker, counters in (("w1", {"VERIFIED": 5, "bytes": 7}), ("w2", {"VERIFIED": 2}), ("w1", {"VERIFIED": 6})):
        beat(conn, ref, 60, worker, this_process(), counters)
    assert progress(conn, ref.run_id) == {"VERIFIED": 8}


def test_the_example_is_a_verified_row_of_the_run(ref: RunRef, conn: Connection) -> None:
    assert example_row(conn, ref.run_id) is None
    write_objects(conn, ref, [a_record(1, status=Status.FAILED)])
    assert (example_row(conn, ref.run_id) or {})["status"] == "FAILED"
    write_objects(conn, ref, [a_record(2)])
    row = example_row(conn, ref.run_id) or {}
    assert (row["job"], row["status"], row["sha256"]) == ("nightly", "VERIFIED", a_record(2).sha256)
