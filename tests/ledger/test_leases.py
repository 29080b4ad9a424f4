from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import psycopg
import pytest

from ledger.connect import Connection, connect
from ledger.heartbeat import beat
from ledger.leases import RunRef, fenced, release, renew
from ledger.process import ProcessIdentity, this_process
from ledger.runs import Outcome, finish_run, run_status, start_run
from model.errors import LeaseHeld, LeaseLost
from tests.ledger.examples import a_run

ELSEWHERE = ProcessIdentity("another-host", 7, boot_id="another-boot")


def a_dead_process() -> ProcessIdentity:
    """The identity of a process of this host that has ended."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    child.communicate()
    return replace(this_process(), pid=child.pid, started=1)


def expire(conn: Connection) -> None:
    conn.execute("UPDATE leases SET expires_at = clock_timestamp() - interval '1 second'")


def test_a_job_held_by_a_live_run_is_refused_and_the_holder_named(dsn: str, ref: RunRef) -> None:
    with pytest.raises(LeaseHeld) as caught:
        start_run(dsn, a_run())
    line = str(caught.value)
    me = this_process()
    assert f"run {ref.run_id}" in line and me.host in line and f"pid {me.pid}" in line and "\n" not in line


@pytest.mark.parametrize("prefix", ["", "back", "backup/2026/"])
def test_an_overlapping_destination_of_another_job_is_refused(dsn: str, ref: RunRef, prefix: str) -> None:
    with pytest.raises(LeaseHeld, match=r"s3://copies/backup/ .*of job nightly"):
        start_run(dsn, a_run(job="weekly", destination_prefix=prefix, destination_endpoint="HTTPS://S3.example.org/"))


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"destination_prefix": "other/"},
        {"destination_bucket": "others"},
        {"destination_endpoint": "https://s3.example.net"},
    ],
)
def test_jobs_with_apart_destinations_run_side_by_side(dsn: str, ref: RunRef, elsewhere: dict[str, str]) -> None:
    assert start_run(dsn, a_run(job="weekly", **elsewhere)).run_id != ref.run_id


def test_of_two_overlapping_jobs_started_at_once_one_is_refused(dsn: str) -> None:
    def outcome(job: str) -> str:
        try:
            start_run(dsn, a_run(job=job))
        except LeaseHeld:
            return "refused"
        return "started"

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(outcome, ["a", "b", "c", "d"])) == ["refused", "refused", "refused", "started"]


def test_a_released_job_starts_again_with_a_higher_fence(dsn: str, ref: RunRef, conn: Connection) -> None:
    finish_run(conn, ref, Outcome.SUCCEEDED, 0, {})
    release(conn, ref)
    again = start_run(dsn, a_run())
    assert again.fence == ref.fence + 1
    assert run_status(conn, ref.run_id).outcome is Outcome.SUCCEEDED


def test_an_expired_lease_is_taken_over_and_its_run_abandoned(dsn: str, conn: Connection) -> None:
    old = start_run(dsn, a_run(), holder=ELSEWHERE)
    expire(conn)
    new = start_run(dsn, a_run())
    assert (new.job, new.fence) == (old.job, old.fence + 1)
    assert run_status(conn, old.run_id).outcome is Outcome.ABANDONED
    with pytest.raises(LeaseLost):
        renew(conn, old, 60)


def test_a_run_on_another_host_is_not_taken_over_before_its_lease_expires(dsn: str) -> None:
    start_run(dsn, a_run(), holder=ELSEWHERE)
    with pytest.raises(LeaseHeld, match="another-host"):
        start_run(dsn, a_run())


def test_a_run_that_may_wait_starts_once_the_lease_has_expired(dsn: str, conn: Connection) -> None:
    old = start_run(dsn, a_run(lease_ttl_s=2.0), holder=ELSEWHERE)
    new = start_run(dsn, a_run(lease_wait_s=60.0))
    assert new.fence == old.fence + 1
    assert run_status(conn, old.run_id).outcome is Outcome.ABANDONED


def test_a_run_that_has_waited_in_vain_is_refused(dsn: str) -> None:
    start_run(dsn, a_run(), holder=ELSEWHERE)
    with pytest.raises(LeaseHeld, match="another-host"):
        start_run(dsn, a_run(lease_wait_s=0.2))


def test_the_lease_of_a_killed_process_of_this_host_is_taken_over_at_once(dsn: str, conn: Connection) -> None:
    old = start_run(dsn, a_run(), holder=a_dead_process())
    new = start_run(dsn, a_run())
    assert new.fence == old.fence + 1
    assert run_status(conn, old.run_id).outcome is Outcome.ABANDONED


def _start_and_die(dsn: str) -> None:
    start_run(dsn, a_run())
    os.kill(os.getpid(), signal.SIGKILL)


def test_the_next_run_starts_at_once_after_kill_9(dsn: str, conn: Connection) -> None:
    victim = multiprocessing.get_context("spawn").Process(target=_start_and_die, args=(dsn,))
    victim.start()
    victim.join()
    assert start_run(dsn, a_run()).fence == 2
    assert conn.execute("SELECT outcome FROM runs ORDER BY run_id").fetchall() == [("abandoned",), ("running",)]


def test_a_pid_that_belongs_to_a_later_process_is_a_killed_process(dsn: str) -> None:
    old = start_run(dsn, a_run(), holder=replace(this_process(), started=1))
    assert start_run(dsn, a_run()).fence == old.fence + 1


def test_a_pid_of_another_pid_namespace_proves_nothing(dsn: str) -> None:
    start_run(dsn, a_run(), holder=replace(a_dead_process(), pid_namespace="pid:[1]"))
    with pytest.raises(LeaseHeld):
        start_run(dsn, a_run())


def test_a_detached_run_is_held_by_its_workers(dsn: str, conn: Connection) -> None:
    ref = start_run(dsn, a_run(), holder=a_dead_process())
    beat(conn, ref, 60, "worker-1", ELSEWHERE, {})
    with pytest.raises(LeaseHeld, match=f"run {ref.run_id}"):
        start_run(dsn, a_run())


def test_a_start_waits_for_the_last_workers_of_a_killed_driver(dsn: str, conn: Connection) -> None:
    ref = start_run(dsn, a_run(), holder=a_dead_process())
    worker = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    alive = replace(this_process(), pid=worker.pid, started=_started(worker.pid))
    beat(conn, ref, 60, "worker-1", alive, {})
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(start_run, dsn, a_run())
        while conn.execute("SELECT 1 FROM pg_stat_activity WHERE application_name LIKE 's3ferry start%'").fetchone():
            pass
        worker.communicate()
        assert starting.result().fence == ref.fence + 1


def test_an_expired_overlapping_job_is_fenced_off_for_good(dsn: str, ref: RunRef, conn: Connection) -> None:
    expire(conn)
    start_run(dsn, a_run(job="weekly"))
    with pytest.raises(LeaseLost):
        renew(conn, ref, 60)
    with pytest.raises(LeaseLost), fenced(conn, ref):
        pass


def test_an_expired_lease_nobody_took_is_renewed(ref: RunRef, conn: Connection) -> None:
    expire(conn)
    assert run_status(conn, ref.run_id).outcome is Outcome.ABANDONED
    assert not renew(conn, ref, 60).released
    assert run_status(conn, ref.run_id).outcome is Outcome.RUNNING


def test_a_late_renewal_does_not_bring_a_released_lease_back(dsn: str, ref: RunRef, conn: Connection) -> None:
    release(conn, ref)
    assert renew(conn, ref, 60).released
    start_run(dsn, a_run())


def test_nothing_is_written_under_a_released_lease_but_how_the_run_ended(ref: RunRef, conn: Connection) -> None:
    finish_run(conn, ref, Outcome.SUCCEEDED, 0, {})
    release(conn, ref)
    with pytest.raises(LeaseLost, match="has ended"), fenced(conn, ref):
        pass
    finish_run(conn, ref, Outcome.FAILED, 1, {})
    assert run_status(conn, ref.run_id).outcome is Outcome.FAILED


def test_a_release_waits_for_a_write_under_way(dsn: str, ref: RunRef, conn: Connection) -> None:
    def let_go() -> None:
        with connect(dsn, "driver") as own:
            release(own, ref)

    with ThreadPoolExecutor(1) as pool, connect(dsn, "watcher") as watcher:
        with fenced(conn, ref):
            releasing = pool.submit(let_go)
            while not watcher.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone():
                assert not releasing.done()
        releasing.result()


def test_a_take_over_waits_for_a_write_under_way(dsn: str, ref: RunRef, conn: Connection) -> None:
    expire(conn)
    with ThreadPoolExecutor(1) as pool:
        with fenced(conn, ref), connect(dsn, "watcher") as watcher:
            taking = pool.submit(start_run, dsn, a_run())
            while not watcher.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone():
                assert not taking.done()
        assert taking.result().fence == ref.fence + 1


@pytest.mark.parametrize(("ttl_s", "longest"), [(60.0, "20s"), (6.0, "2s"), (1.0, "333ms")])
def test_no_statement_under_a_lease_takes_longer_than_a_third_of_its_ttl(
    ref: RunRef, conn: Connection, ttl_s: float, longest: str
) -> None:
    renew(conn, ref, ttl_s)
    # two clocks are read for one TTL
    conn.execute("UPDATE leases SET expires_at = renewed_at + make_interval(secs => %s)", (ttl_s,))
    with fenced(conn, ref):
        assert conn.execute("SELECT current_setting('statement_timeout')").fetchone() == (longest,)


def test_statements_under_a_lease_that_was_released_have_the_usual_time(ref: RunRef, conn: Connection) -> None:
    renew(conn, ref, 1)
    release(conn, ref)
    with fenced(conn, ref, after_release=True):
        assert conn.execute("SELECT current_setting('statement_timeout')").fetchone() == ("20s",)


def test_a_renewal_does_not_wait_for_a_write_under_way(dsn: str, ref: RunRef, conn: Connection) -> None:
    with fenced(conn, ref), connect(dsn, "heartbeat") as other:
        other.execute("SET lock_timeout = '1ms'")
        assert not renew(other, ref, 60).released


def test_starting_a_run_does_not_wait_for_readers_of_other_runs(dsn: str, ref: RunRef, conn: Connection) -> None:
    with conn.transaction():
        conn.execute("SELECT count(*) FROM attempts")
        assert start_run(dsn, a_run(job="weekly", destination_prefix="other/")).run_id > ref.run_id


def test_a_start_repeated_after_a_lost_answer_finds_its_own_run(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import ledger.runs

    once = ledger.runs._try_start
    answers: list[object] = []

    def answer_lost_once(*args: object) -> object:
        answers.append(once(*args))  # type: ignore[arg-type]
        if len(answers) == 1:
            raise psycopg.OperationalError("server closed the connection unexpectedly")
        return answers[-1]

    monkeypatch.setattr(ledger.runs, "_try_start", answer_lost_once)
    assert start_run(dsn, a_run()) == answers[0] == answers[1]


def _started(pid: int) -> int | None:
    from ledger.process import _started as started

    return started(pid)
