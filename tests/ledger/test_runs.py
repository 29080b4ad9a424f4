from __future__ import annotations

import pickle

import pytest

from ledger.connect import Connection
from ledger.leases import RunRef, release, renew
from ledger.process import this_process
from ledger.runs import Outcome, drop_history, finish_run, request_stop, run_status, start_run
from ledger.writer import write_objects
from model.errors import InvalidInput, LeaseLost
from tests.ledger.examples import a_record, a_run


def test_a_new_run_reads_running_with_what_it_was_started_with(ref: RunRef, conn: Connection) -> None:
    status = run_status(conn, ref.run_id)
    assert (status.outcome, status.job, status.package_version) == (Outcome.RUNNING, "nightly", "0.1.0")
    assert status.holder == this_process()
    assert status.lease_expires_at is not None and status.lease_expires_at > status.started_at


def test_a_run_reference_travels_to_workers(ref: RunRef) -> None:
    assert pickle.loads(pickle.dumps(ref)) == ref


def test_finishing_twice_keeps_the_first_time_and_the_last_words(ref: RunRef, conn: Connection) -> None:
    finish_run(conn, ref, Outcome.BROKEN, 3, {}, "no bucket")
    first = run_status(conn, ref.run_id)
    release(conn, ref)
    finish_run(conn, ref, Outcome.FAILED, 1, {"objects": 5})
    second = run_status(conn, ref.run_id)
    assert (second.outcome, second.exit_code, second.summary, second.error) == (Outcome.FAILED, 1, {"objects": 5}, None)
    assert first.finished_at == second.finished_at


def test_a_run_that_was_taken_over_cannot_be_finished(dsn: str, ref: RunRef, conn: Connection) -> None:
    conn.execute("UPDATE leases SET expires_at = clock_timestamp()")
    start_run(dsn, a_run())
    with pytest.raises(LeaseLost):
        finish_run(conn, ref, Outcome.SUCCEEDED, 0, {})
    assert run_status(conn, ref.run_id).outcome is Outcome.ABANDONED


def test_a_stop_request_is_learned_with_the_renewal_and_keeps_its_first_reason(ref: RunRef, conn: Connection) -> None:
    assert renew(conn, ref, 60).stop_requested is None
    request_stop(conn, ref.run_id, "SIGTERM")
    request_stop(conn, ref.run_id, "s3ferry stop")
    assert renew(conn, ref, 60).stop_requested == "SIGTERM"


def test_stopping_a_run_that_is_not_there_or_has_ended_is_bad_input(ref: RunRef, conn: Connection) -> None:
    finish_run(conn, ref, Outcome.SUCCEEDED, 0, {})
    for run_id in (ref.run_id, 999):
        with pytest.raises(InvalidInput, match=f"run {run_id} is not running"):
            request_stop(conn, run_id, "s3ferry stop")


def test_dropping_history_keeps_objects_and_the_run(ref: RunRef, conn: Connection) -> None:
    write_objects(conn, ref, [a_record()])
    with pytest.raises(InvalidInput, match="still going"):
        drop_history(conn, ref.run_id)
    finish_run(conn, ref, Outcome.SUCCEEDED, 0, {})
    drop_history(conn, ref.run_id)
    drop_history(conn, ref.run_id)
    assert conn.execute("SELECT count(*) FROM attempts").fetchone() == (0,)
    assert conn.execute("SELECT count(*) FROM objects").fetchone() == (1,)
    assert run_status(conn, ref.run_id).outcome is Outcome.SUCCEEDED


def test_a_run_that_is_not_there_is_bad_input(conn: Connection) -> None:
    with pytest.raises(InvalidInput, match="no run 42"):
        run_status(conn, 42)
