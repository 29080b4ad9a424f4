"""Behind PgBouncer in transaction mode: every transaction on whichever connection is free, and they may die."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from ledger.accounting import ExpectedFile, InputFile, expect_files, write_counts
from ledger.check import check_run
from ledger.connect import Connection, connect
from ledger.digest import seal
from ledger.exports import ROWS_PER_FETCH
from ledger.leases import RunRef, release
from ledger.objects import RowOutcome
from ledger.reconciliation import reconcile
from ledger.retry import repeat
from ledger.runs import RunStatus, finish_run, request_stop, run_status, start_run
from ledger.schema import SCHEMA_VERSION, migrate
from ledger.uploads import UploadState, adopt_upload, close_upload, parts_of, recorded_part
from model.errors import LedgerUnavailable
from model.outcome import Outcome
from model.records import DeadLetter, PartRecord, SentPart, Tally
from model.status import SizeClass, Status
from pipeline.export.run_files import export_all
from tests.fixtures.pgbouncer import Pooler, pgbouncer_before
from tests.ledger.examples import a_record, a_run, an_upload, statuses
from tests.ledger.sessions import VERIFIED, open_session

KILL = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
    " AND application_name LIKE 's3ferry run %'"
)


@pytest.fixture
def pooler(postgres_uri: str, tmp_path: Path) -> Iterator[Pooler]:
    with pgbouncer_before(postgres_uri, tmp_path) as pooler:
        yield pooler


@pytest.fixture
def pooled(pooler: Pooler, ledger_dsn: str) -> str:
    """The DSN of a ledger that was never reached but through the pooler."""
    dsn = pooler.dsn(ledger_dsn)
    assert migrate(dsn) == migrate(dsn) == SCHEMA_VERSION
    return dsn


def test_sessions_share_connections_and_leave_nothing_on_them(pooled: str, ledger_dsn: str, pooler: Pooler) -> None:
    ref = start_run(pooled, a_run())
    with ExitStack() as stack, ThreadPoolExecutor(4) as pool:
        sessions = [stack.enter_context(open_session(pooled, ref, worker_id=f"worker-{n}")) for n in range(4)]

        def write(number: int) -> list[RowOutcome]:
            """New rows, known rows (through a temporary table) and parts, in turn."""
            session, outcomes = sessions[number], []
            for batch in range(10):
                mine = range(number * 1_000 + batch * 10, number * 1_000 + batch * 10 + 15)
                outcomes += session.write([a_record(row) for row in mine]).wait(60)
                part = PartRecord(batch + 1, 5, "e", None, None, None)
                session.write_parts([SentPart(f"{number}", "upload-1", part)]).wait(60)
                session.call(lambda own: own.execute("SELECT 1").fetchall())
            return outcomes

        assert [set(outcomes) for outcomes in pool.map(write, range(4))] == [{VERIFIED}] * 4
        backends = {session.call(lambda own: _one(own, "SELECT pg_backend_pid()")) for session in sessions * 5}
    assert len(backends) <= 2
    assert pooler.transactions(ledger_dsn) > 100
    with connect(ledger_dsn, "test") as conn:
        assert len(statuses(conn, ref)) == len(statuses(conn, ref, "objects")) == 4 * 105
    with connect(pooled, "test") as own:
        for _ in range(4):
            left = (
                "SELECT (SELECT count(*) FROM pg_prepared_statements) + (SELECT count(*) FROM pg_listening_channels())"
            )
            assert _one(own, left) == 0
            assert _one(own, "SELECT count(*) FROM pg_class WHERE relpersistence = 't'") == 0
            assert _one(own, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0
            assert _one(own, "SELECT current_setting('statement_timeout')") == "0"


def test_the_whole_life_of_a_run_goes_through_it(pooled: str) -> None:
    _live(pooled)
    _live(pooled)


def test_what_comes_after_a_run_goes_through_it(pooled: str, pooler: Pooler, tmp_path: Path) -> None:
    """A stop, the digest, a check and an export, whose cursors live on the server, beside other users of it."""
    ref = start_run(pooled, a_run())
    records = [a_record(number) for number in range(ROWS_PER_FETCH + 1)]
    with open_session(pooled, ref) as session:
        session.write(records).wait(60)
        repeat(pooled, "stop", lambda own: request_stop(own, ref.run_id, "s3ferry stop"))
        session.call(lambda own: finish_run(own, ref, Outcome.INTERRUPTED, 5, {}))
        session.call(lambda own: release(own, ref))
    sealed = repeat(pooled, "seal", lambda own: seal(own, ref.run_id))
    with open_session(pooled, start_run(pooled, a_run())) as other, ThreadPoolExecutor(1) as pool:
        exporting = pool.submit(export_all, pooled, ref.run_id, str(tmp_path / "out"), "avro")
        while not exporting.done():
            other.call(lambda own: own.execute("SELECT 1").fetchall())
        check = repeat(pooled, "check", lambda own: check_run(own, ref.run_id))
    exported = exporting.result()
    assert (check.same, check.found) == (True, sealed)
    assert (exported.found, exported.files["records.avro"].rows) == (sealed, len(records))
    assert run_status_of(pooled, ref).stop_requested == "s3ferry stop"


def run_status_of(pooled: str, ref: RunRef) -> RunStatus:
    return repeat(pooled, "status", lambda own: run_status(own, ref.run_id))


def _live(pooled: str) -> None:
    ref = start_run(pooled, a_run())
    with open_session(pooled, ref) as session:
        _work(session.call, ref)
        session.write([a_record(1)]).wait(60)
        session.write_dead_letters([DeadLetter(0, 9, Status.BAD_ROW, "why", "what")]).wait(60)
        session.call_apart(lambda own: reconcile(own, ref))
    with connect(pooled, "test") as conn:
        assert reconcile(conn, ref) == []
        finish_run(conn, ref, Outcome.SUCCEEDED, 0, {})
        release(conn, ref)
        assert run_status(conn, ref.run_id).outcome is Outcome.SUCCEEDED


def _work(call: Callable[[Callable[[Connection], object]], object], ref: RunRef) -> None:
    call(lambda own: adopt_upload(own, ref, an_upload()))
    call(lambda own: recorded_part(own, "a" * 64, "upload-1", 1))
    call(lambda own: parts_of(own, ["a" * 64]))
    call(lambda own: close_upload(own, ref, "a" * 64, "upload-1", UploadState.COMPLETED))
    size, file = a_record(1).size, InputFile(0, "0.csv.gz", 1, None)
    tallies = [Tally(0, None, None, 2, size), Tally(0, SizeClass.SMALL, Status.VERIFIED, 1, size)]
    tallies += [Tally(0, None, Status.BAD_ROW, 1, 0)]
    call(lambda own: expect_files(own, ref, [ExpectedFile(file, rows=2)]))
    call(lambda own: write_counts(own, ref, 0, [file], tallies))


def test_connections_that_die_behind_it_cost_nothing(pooled: str, ledger_dsn: str) -> None:
    ref = start_run(pooled, a_run())
    with open_session(pooled, ref, flush_rows=100) as session, connect(ledger_dsn, "killer") as killer:
        tickets, kills = [], 0
        for batch in range(30):
            tickets.append(session.write([a_record(batch * 50 + row) for row in range(50)]))
            if batch % 3 == 0:
                killed = killer.execute(KILL)
                kills += killed.rowcount
        assert all(ticket.wait(60) == [VERIFIED] * 50 for ticket in tickets)
    assert kills > 0
    with connect(ledger_dsn, "test") as conn:
        assert len(statuses(conn, ref)) == len(statuses(conn, ref, "objects")) == 1_500


def test_a_server_that_restarts_behind_it_costs_nothing(
    pooled: str, ledger_dsn: str, restart_postgres: Callable[[], None]
) -> None:
    ref = start_run(pooled, a_run())
    with open_session(pooled, ref) as session:
        assert session.write([a_record(1)]).wait(60) == [VERIFIED]
        restart_postgres()
        assert session.write([a_record(1), a_record(2)]).wait(60) == [VERIFIED] * 2
    with connect(ledger_dsn, "test") as conn:
        assert len(statuses(conn, ref)) == 2


def test_a_pooler_without_room_for_another_client_is_waited_for_and_says_what_is_missing(
    postgres_uri: str, dsn: str, tmp_path: Path
) -> None:
    with (
        pgbouncer_before(postgres_uri, tmp_path, max_client_conn=1) as pooler,
        connect(pooler.dsn(dsn), "other"),
        pytest.raises(LedgerUnavailable, match=r"no more connections allowed.*more .*connections"),
    ):
        start_run(pooler.dsn(dsn), a_run(), retry_for_s=0.3)


def _one(conn: Connection, query: str) -> object:
    row = conn.execute(query).fetchone()
    return row[0] if row else None
