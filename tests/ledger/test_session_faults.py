"""Lost connections, a restarted server, a lost lease: nothing lost, nothing double, nobody left waiting."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

import ledger.session
from ledger.connect import Connection, connect
from ledger.leases import RunRef
from ledger.queries import finished_in_run
from ledger.runs import start_run
from model.errors import LeaseLost, LedgerUnavailable
from model.status import Status
from tests.ledger.examples import a_record, a_run, statuses
from tests.ledger.sessions import VERIFIED, open_session, until

SESSION = "application_name LIKE 's3ferry run %%' AND datname = current_database()"


def terminate(conn: Connection) -> int:
    """Ends the backends of all sessions; how many there were."""
    return conn.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {SESSION}").rowcount  # noqa: S608


def test_a_connection_lost_in_the_middle_of_a_batch_costs_nothing(dsn: str, ref: RunRef, conn: Connection) -> None:
    records = [a_record(number) for number in range(100)]
    with open_session(dsn, ref) as session, connect(dsn, "watcher") as watcher:
        with conn.transaction():
            # The batch gets as far as `objects`: `attempts` is already written, in the same transaction.
            conn.execute("LOCK TABLE objects IN EXCLUSIVE MODE")
            ticket = session.write(records)
            session.flush()
            until(lambda: watcher.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone())
            assert terminate(watcher) == 1
            until(lambda: not watcher.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone())
        assert ticket.wait(60) == [VERIFIED] * 100
    assert len(statuses(conn, ref)) == len(statuses(conn, ref, "objects")) == 100


def test_connections_lost_again_and_again_cost_nothing(dsn: str, ref: RunRef, conn: Connection) -> None:
    with open_session(dsn, ref, flush_rows=200) as session:
        tickets = []
        for batch in range(40):
            tickets.append(session.write([a_record(batch * 100 + row) for row in range(100)]))
            if batch % 4 == 0:
                terminate(conn)
        assert all(ticket.wait(60) == [VERIFIED] * 100 for ticket in tickets)
    assert len(statuses(conn, ref)) == len(statuses(conn, ref, "objects")) == 4_000


def test_a_call_is_repeated_when_its_connection_is_lost(dsn: str, ref: RunRef, conn: Connection) -> None:
    asked: list[int] = []

    def ask(own: Connection) -> int:
        asked.append(own.info.backend_pid)
        if len(asked) == 1:
            terminate(conn)
        return len(finished_in_run(own, ref, [a_record().destination_key]))

    with open_session(dsn, ref) as session:
        session.write([a_record()]).wait(60)
        assert session.call(ask) == 1
    assert len(set(asked)) == 2


def test_a_restarted_server_costs_nothing(dsn: str, ref: RunRef, restart_postgres: Callable[[], None]) -> None:
    with open_session(dsn, ref) as session:
        first = session.write([a_record(1)])
        assert first.wait(60) == [VERIFIED]
        restart_postgres()
        assert session.write([a_record(2)]).wait(60) == [VERIFIED]
    with connect(dsn, "test") as conn:
        assert len(statuses(conn, ref)) == 2


def test_when_the_ledger_stays_away_everyone_is_told(dsn: str, ref: RunRef, postgres_uri: str) -> None:
    name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
    session = open_session(dsn, ref, retry_for_s=0.5)
    session.write([a_record(1)]).wait(60)
    with psycopg.connect(postgres_uri, autocommit=True) as admin:
        admin.execute(f'ALTER DATABASE "{name}" CONNECTION LIMIT 0')
        admin.execute("CREATE ROLE visitor LOGIN")
        try:
            session._dsn = psycopg.conninfo.make_conninfo(dsn, user="visitor")
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
            waiting = session.write([a_record(2)])
            with pytest.raises(LedgerUnavailable, match="did not answer"):
                waiting.wait(60)
            for late in (lambda: session.write([a_record(3)]), lambda: session.call(lambda conn: None)):
                with pytest.raises(LedgerUnavailable):
                    late()
            with pytest.raises(LedgerUnavailable):
                session.close()
        finally:
            admin.execute("DROP ROLE visitor")


def test_a_session_that_was_fenced_off_writes_nothing_and_says_so(dsn: str, ref: RunRef, conn: Connection) -> None:
    lost = threading.Event()
    session = open_session(dsn, ref, lease_ttl_s=3_600.0, on_lease_lost=lost.set)
    session.call(lambda own: None)
    conn.execute("UPDATE leases SET expires_at = clock_timestamp()")
    start_run(dsn, a_run())
    ticket = session.write([a_record()])
    with pytest.raises(LeaseLost):
        ticket.wait(60)
    assert lost.wait(60)
    with pytest.raises(LeaseLost):
        session.write([a_record()])
    with pytest.raises(LeaseLost):
        session.close()
    assert statuses(conn, ref) == {}


def test_a_heartbeat_notices_a_lost_lease_by_itself(dsn: str, ref: RunRef, conn: Connection) -> None:
    lost = threading.Event()
    session = open_session(dsn, ref, lease_ttl_s=1.0, on_lease_lost=lost.set)
    conn.execute("UPDATE leases SET fence = fence + 1")
    assert lost.wait(60)
    session.close()


def test_a_silent_server_ends_the_session_at_half_the_ttl(dsn: str, ref: RunRef, conn: Connection) -> None:
    lost = threading.Event()
    session = open_session(dsn, ref, lease_ttl_s=2.0, on_lease_lost=lost.set)
    backend = session.call(lambda own: own.info.backend_pid)
    # A stopped backend still has its connection open: nothing comes back and nothing breaks.
    os.kill(backend, signal.SIGSTOP)
    try:
        ticket = session.write([a_record()])
        with pytest.raises(LeaseLost, match="could not renew its lease for 1 s"):
            ticket.wait(60)
        assert lost.wait(60)
        with pytest.raises(LeaseLost):
            session.close()
    finally:
        os.kill(backend, signal.SIGCONT)


def test_a_write_that_waits_for_room_is_told_of_the_end_too(dsn: str, ref: RunRef, conn: Connection) -> None:
    session = open_session(dsn, ref, flush_rows=1)
    with ThreadPoolExecutor(1) as pool:
        with conn.transaction():
            conn.execute("LOCK TABLE objects IN EXCLUSIVE MODE")
            for number in range(4):
                session.write([a_record(number)])
            blocked = pool.submit(session.write, [a_record(9)])
            conn.execute("UPDATE leases SET fence = fence + 1")
        with pytest.raises(LeaseLost):
            blocked.result().wait(60)
    with pytest.raises(LeaseLost):
        session.close()


def test_outcomes_survive_a_lost_answer_to_a_commit(dsn: str, ref: RunRef, conn: Connection) -> None:
    records = [a_record(1), a_record(2, destination_key=a_record(1).destination_key), a_record(3, status=Status.FAILED)]
    with open_session(dsn, ref) as session:
        once = session.write(records).wait(60)
        again = session.write(records).wait(60)
    assert once == again
    assert len(statuses(conn, ref)) == 2


def test_whoever_asks_for_the_lease_sees_at_once_that_it_was_not_renewed(
    dsn: str, ref: RunRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a process that was stopped for longer than half the TTL, before any of its threads has looked."""
    with open_session(dsn, ref, lease_ttl_s=3_600.0) as session:
        session.call(lambda own: None)
        session.require_lease()
        now = ledger.session._lease_clock()
        with monkeypatch.context() as later:
            later.setattr(ledger.session, "_lease_clock", lambda: now + 1_801)
            with pytest.raises(LeaseLost, match="could not renew its lease for 1800 s"):
                session.require_lease()
