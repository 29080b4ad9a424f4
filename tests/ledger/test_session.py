from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ledger.connect import Connection
from ledger.leases import RunRef, release
from ledger.objects import RowOutcome
from ledger.queries import finished_in_run, progress
from ledger.runs import Outcome, finish_run, request_stop
from ledger.session import LedgerSession
from ledger.uploads import adopt_upload, parts_of
from model.errors import LeaseLost, RunBroken
from model.records import DeadLetter, PartRecord, SentPart
from model.status import Status
from tests.ledger.examples import a_record, an_upload, statuses
from tests.ledger.sessions import VERIFIED, open_session, until


@pytest.fixture
def session(dsn: str, ref: RunRef) -> Iterator[LedgerSession]:
    with open_session(dsn, ref) as opened:
        yield opened


def test_waiting_for_a_ticket_writes_what_waits(session: LedgerSession, ref: RunRef, conn: Connection) -> None:
    first = session.write([a_record(1), a_record(2)])
    second = session.write([a_record(3, status=Status.FAILED)])
    assert second.wait(30) == [RowOutcome(Status.FAILED)]
    assert first.done and first.wait(0) == [VERIFIED, VERIFIED]
    assert len(statuses(conn, ref)) == 3


def test_parts_and_dead_letters_are_durable_once_their_tickets_are(
    session: LedgerSession, ref: RunRef, conn: Connection
) -> None:
    part = PartRecord(1, 5, "e", None, None, None)
    session.call(lambda own: adopt_upload(own, ref, an_upload(identity="x")))
    parts = session.write_parts([SentPart("x", "upload-1", part)])
    letters = session.write_dead_letters([DeadLetter(0, 1, Status.BAD_ROW, "why", "what")])
    parts.wait(30)
    letters.wait(30)
    assert parts_of(conn, ["x"]) == {"x": (part,)}
    assert conn.execute("SELECT reason FROM dead_letters").fetchall() == [("why",)]


@pytest.mark.parametrize("limits", [{"flush_rows": 2}, {"flush_bytes": 500}, {"flush_interval_s": 0.05}])
def test_a_batch_is_written_unasked_by_rows_bytes_or_time(dsn: str, ref: RunRef, limits: dict[str, float]) -> None:
    with open_session(dsn, ref, **limits) as session:
        ticket = session.write([a_record(1), a_record(2)])
        until(lambda: ticket.done)


def test_a_call_answers_from_the_ledger_and_sees_what_is_durable(session: LedgerSession, ref: RunRef) -> None:
    record = a_record()
    session.write([record]).wait(30)
    assert list(session.call(lambda conn: finished_in_run(conn, ref, [record.destination_key]))) == [
        record.destination_key
    ]
    assert session.call(lambda conn: adopt_upload(conn, ref, an_upload())) == an_upload()


def test_a_call_that_fails_fails_its_caller_alone(session: LedgerSession) -> None:
    with pytest.raises(RunBroken, match="s3ferry ledger migrate"):
        session.call(lambda conn: conn.execute("SELECT * FROM not_there"))
    with pytest.raises(ZeroDivisionError):
        session.call(lambda conn: 1 // 0)
    assert session.write([a_record()]).wait(30) == [VERIFIED]


def test_a_long_call_apart_keeps_the_lease(dsn: str, ref: RunRef) -> None:
    with open_session(dsn, ref, lease_ttl_s=0.6) as session:
        assert session.call_apart(lambda own: own.execute("SELECT 1 FROM pg_sleep(1)").rowcount) == 1
        assert session.write([a_record()]).wait(30) == [VERIFIED]


def test_counters_are_reported_with_the_heartbeats_and_at_the_end(dsn: str, ref: RunRef, conn: Connection) -> None:
    with open_session(dsn, ref, lease_ttl_s=0.6) as session:
        counters = {"VERIFIED": 7}
        session.report(counters)
        until(lambda: progress(conn, ref.run_id) == {"VERIFIED": 7})
        counters["VERIFIED"] = 8
    assert progress(conn, ref.run_id) == {"VERIFIED": 8}


def test_closing_writes_what_waits(dsn: str, ref: RunRef, conn: Connection) -> None:
    session = open_session(dsn, ref)
    ticket = session.write([a_record()])
    session.close()
    session.close()
    assert ticket.wait(0) == [VERIFIED]
    with pytest.raises(RunBroken, match="closed"):
        session.write([a_record()])


def test_a_stop_request_reaches_the_worker_once(dsn: str, ref: RunRef, conn: Connection) -> None:
    reasons: list[str] = []
    with open_session(dsn, ref, lease_ttl_s=0.6, on_stop=reasons.append) as session:
        request_stop(conn, ref.run_id, "SIGTERM")
        until(lambda: reasons)
        session.call(lambda own: own.execute("SELECT 1"))
    assert reasons == ["SIGTERM"]


def test_a_released_run_does_not_alarm_its_workers(dsn: str, ref: RunRef, conn: Connection) -> None:
    lost: list[bool] = []
    with open_session(dsn, ref, lease_ttl_s=0.3, on_lease_lost=lambda: lost.append(True)) as session:
        finish_run(conn, ref, Outcome.SUCCEEDED, 0, {})
        release(conn, ref)
        until(lambda: not session._renewing)
        threading.Event().wait(0.5)
    assert lost == []
    assert conn.execute("SELECT expires_at FROM leases").fetchone() == (None,)


def test_nothing_is_done_or_written_under_a_released_lease(dsn: str, ref: RunRef, conn: Connection) -> None:
    session = open_session(dsn, ref, lease_ttl_s=0.6)
    session.require_lease()
    release(conn, ref)
    until(lambda: not session._renewing)
    with pytest.raises(LeaseLost, match="has ended"):
        session.require_lease()
    session.write([a_record()])
    with pytest.raises(LeaseLost, match="has ended"):
        session.close()
    assert conn.execute("SELECT count(*) FROM attempts").fetchone() == (0,)


def test_a_writer_waits_while_four_batches_are_waiting(dsn: str, ref: RunRef, conn: Connection) -> None:
    with open_session(dsn, ref, flush_rows=10) as session, ThreadPoolExecutor(1) as pool:
        with conn.transaction():
            conn.execute("LOCK TABLE objects IN EXCLUSIVE MODE")
            for number in range(4):
                session.write([a_record(number * 10 + row) for row in range(10)])
            blocked = pool.submit(session.write, [a_record(99)])
            until(lambda: conn.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone())
            assert not blocked.done()
        assert blocked.result().wait(30) == [VERIFIED]


def test_a_row_that_cannot_be_stored_fails_in_its_own_ticket_alone(session: LedgerSession) -> None:
    good, bad = session.write([a_record(1)]), session.write([a_record(2, destination_key="nul\0")])
    assert good.wait(30) == [VERIFIED]
    assert [outcome.status for outcome in bad.wait(30)] == [Status.FAILED]


def _write_from_a_process(dsn: str, ref: RunRef, worker: int, barrier: Any) -> None:
    with open_session(dsn, ref, worker_id=f"worker-{worker}", flush_rows=100) as session:
        barrier.wait()
        own = [session.write([a_record(worker * 10_000 + n * 50 + row) for row in range(50)]) for n in range(20)]
        shared = session.write([a_record(row) for row in range(500)][:: 1 if worker % 2 else -1])
        session.report({"VERIFIED": 1_500})
        outcomes = [outcome for ticket in [*own, shared] for outcome in ticket.wait(60)]
    if outcomes != [VERIFIED] * 1_500:
        raise SystemExit(1)


def test_processes_of_one_run_write_side_by_side(dsn: str, ref: RunRef, conn: Connection) -> None:
    spawn = multiprocessing.get_context("spawn")
    barrier = spawn.Barrier(3)
    workers = [spawn.Process(target=_write_from_a_process, args=(dsn, ref, n, barrier)) for n in (1, 2, 3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert len(statuses(conn, ref)) == len(statuses(conn, ref, "objects")) == 3 * 1_000 + 500
    assert progress(conn, ref.run_id) == {"VERIFIED": 4_500}
