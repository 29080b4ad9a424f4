from __future__ import annotations

import psycopg
import pytest

from ledger.connect import Connection, connect
from ledger.errors import Meaning, broken, loses_connection, meaning, unavailable
from ledger.retry import pauses, repeat
from model.errors import LedgerUnavailable, RunBroken


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("08006", Meaning.RETRY),
        ("57P01", Meaning.RETRY),
        ("57P03", Meaning.RETRY),
        ("57014", Meaning.RETRY),
        ("53300", Meaning.RETRY),
        ("53100", Meaning.RETRY),
        ("40001", Meaning.RETRY),
        ("40P01", Meaning.RETRY),
        ("55P03", Meaning.RETRY),
        ("25006", Meaning.RETRY),
        ("22021", Meaning.POISON),
        ("23502", Meaning.POISON),
        ("54000", Meaning.POISON),
        ("42501", Meaning.BROKEN),
        ("42P01", Meaning.BROKEN),
        ("3D000", Meaning.BROKEN),
    ],
)
def test_each_state_has_its_meaning(state: str, expected: Meaning) -> None:
    assert meaning(psycopg.errors.lookup(state)()) is expected


def test_a_full_disk_breaks_the_run_once_retries_are_spent() -> None:
    assert type(unavailable(psycopg.errors.DiskFull("no space left on device"), 30)) is RunBroken
    assert isinstance(unavailable(psycopg.errors.AdminShutdown(), 30), LedgerUnavailable)


def test_a_deadlock_keeps_the_connection_and_a_shutdown_does_not() -> None:
    assert not loses_connection(psycopg.errors.DeadlockDetected())
    assert loses_connection(psycopg.errors.AdminShutdown())
    assert loses_connection(psycopg.OperationalError("server closed the connection unexpectedly"))


def test_a_missing_table_says_how_to_make_it(ledger_dsn: str) -> None:
    with connect(ledger_dsn, "test") as conn, pytest.raises(psycopg.Error) as caught:
        conn.execute("SELECT * FROM runs")
    assert "s3ferry ledger migrate" in str(broken(caught.value))


def test_a_missing_right_says_what_to_grant(ledger_dsn: str) -> None:
    with connect(ledger_dsn, "test") as conn:
        conn.execute("CREATE TABLE t (n int); CREATE ROLE nobody_here; SET ROLE nobody_here")
        with pytest.raises(psycopg.Error) as caught:
            conn.execute("SELECT * FROM t")
        conn.execute("RESET ROLE; DROP ROLE nobody_here")
    assert "grant" in str(broken(caught.value))


def test_a_database_that_is_not_there_is_not_waited_for(postgres_uri: str) -> None:
    dsn = psycopg.conninfo.make_conninfo(postgres_uri, dbname="not_there")
    with pytest.raises(RunBroken, match="not_there"):
        repeat(dsn, "test", lambda conn: None)


def test_a_server_that_is_not_there_is_waited_for_and_then_unavailable() -> None:
    with pytest.raises(LedgerUnavailable, match="did not answer for 1 s"):
        repeat("host=127.0.0.1 port=1 dbname=ledger", "test", lambda conn: None, total_s=1.0)


def test_pauses_double_up_to_their_bound_and_sum_up_to_the_total() -> None:
    waits = list(pauses(30.0))
    assert sum(waits) == pytest.approx(30.0)
    assert waits[0] <= 0.1 and max(waits) <= 3.0


def test_statements_of_a_transaction_time_out_and_the_setting_stays_in_it(conn: Connection) -> None:
    from ledger.connect import transaction

    with pytest.raises(psycopg.errors.QueryCanceled), transaction(conn, 0.05):
        conn.execute("SELECT pg_sleep(10)")
    assert conn.execute("SHOW statement_timeout").fetchone() == ("0",)
