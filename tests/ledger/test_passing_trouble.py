"""Deadlocks, serialization failures, time-outs, no connection left, a full disk: repeated, nothing lost or double."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ledger.connect import Connection, connect
from ledger.leases import RunRef, fenced
from ledger.runs import start_run
from ledger.schema import migrate
from model.errors import LedgerUnavailable, RunBroken
from model.status import Status
from tests.fixtures.full_disk import SmallDisk
from tests.ledger.examples import a_record, a_run, statuses
from tests.ledger.sessions import VERIFIED, open_session, until

WAITING = "SELECT 1 FROM pg_locks WHERE NOT granted"


@pytest.fixture
def admin(postgres_uri: str, dsn: str) -> Iterator[Connection]:
    """The administrator, in the ledger's database."""
    name = conninfo_to_dict(dsn)["dbname"]
    with psycopg.connect(make_conninfo(postgres_uri, dbname=name), autocommit=True) as admin:
        yield admin


def set_for_database(admin: Connection, setting: str) -> None:
    """Holds for every connection made from now on."""
    row = admin.execute("SELECT current_database()").fetchone()
    assert row is not None
    admin.execute(f'ALTER DATABASE "{row[0]}" SET {setting}')


def deadlocks(admin: Connection) -> int:
    admin.execute("SELECT pg_stat_clear_snapshot()")
    row = admin.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").fetchone()
    return int(row[0]) if row else 0


def test_a_mixed_batch_that_a_deadlock_ends_is_repeated(
    dsn: str, ref: RunRef, admin: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    """The batch holds its new keys and waits for a known one; another writer holds that and waits for a new one."""
    known, new = a_record(1, destination_key="known"), a_record(2, destination_key="new")
    set_for_database(admin, "deadlock_timeout = '3s'")
    with open_session(dsn, ref) as session:
        assert session.write([known._replace(status=Status.FAILED)]).wait(60)[0].status is Status.FAILED
        with connect(dsn, "other") as other, connect(dsn, "watcher") as watcher:
            # The session's wait is the one that is looked at: it is the deadlock's victim.
            other.execute("SET deadlock_timeout = '1h'")
            with other.transaction():
                other.execute("UPDATE objects SET error = 'theirs' WHERE destination_key = 'known'")
                ticket = session.write([known, new])
                session.flush()
                until(lambda: watcher.execute(WAITING).fetchone())
                other.execute(
                    "INSERT INTO objects (job, destination_key, source_bucket, source_key, destination_bucket, size,"
                    " size_class, status, source_evidence, destination_evidence, run_id, attempts, file_number,"
                    " row_number) SELECT job, 'new', source_bucket, 'other', destination_bucket, size, size_class,"
                    " 'FAILED', source_evidence, destination_evidence, 0, 1, 0, 0 FROM objects"
                    " WHERE destination_key = 'known' ON CONFLICT DO NOTHING"
                )
        assert ticket.wait(60) == [VERIFIED] * 2
    assert deadlocks(admin) == 1
    assert "deadlock detected" in caplog.text
    for table in ("attempts", "objects"):
        assert statuses(admin, ref, table) == {"known": "VERIFIED", "new": "VERIFIED"}


def test_serialization_failures_are_repeated(
    dsn: str, ref: RunRef, admin: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    """As on a database where somebody has made every transaction serializable."""
    set_for_database(admin, "default_transaction_isolation = 'serializable'")
    records = [a_record(number, status=Status.FAILED) for number in range(200)]
    with open_session(dsn, ref, worker_id="one") as one, open_session(dsn, ref, worker_id="two") as two:
        while "could not serialize" not in caplog.text:
            tickets = [session.write(records) for session in (one, two)]
            for session in (one, two):
                session.flush()
            assert [set(ticket.wait(60)) for ticket in tickets] == [{(Status.FAILED, None)}] * 2
        assert one.write([record._replace(status=Status.VERIFIED) for record in records]).wait(60) == [VERIFIED] * 200
    for table in ("attempts", "objects"):
        assert set(statuses(admin, ref, table).values()) == {"VERIFIED"}
        assert len(statuses(admin, ref, table)) == 200


def test_a_statement_that_times_out_is_repeated(
    dsn: str, ref: RunRef, admin: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    admin.execute(
        "CREATE SEQUENCE tries; CREATE FUNCTION slow_at_first() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN IF nextval('tries') = 1 THEN PERFORM pg_sleep(60); END IF; RETURN NEW; END$$;"
        " CREATE TRIGGER slow BEFORE INSERT ON parts FOR EACH STATEMENT EXECUTE FUNCTION slow_at_first()"
    )
    with open_session(dsn, ref, lease_ttl_s=6.0) as session:
        count = session.call(lambda own: own.execute("INSERT INTO parts VALUES ('u', 1, 5, 'e')").rowcount)
    assert count == 1
    assert "statement timeout" in caplog.text
    assert admin.execute("SELECT count(*) FROM parts").fetchone() == (1,)


def test_a_lock_that_lasts_longer_than_the_lease_costs_neither(
    dsn: str, ref: RunRef, conn: Connection, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease is renewed between the repetitions of a batch that waits for its table."""
    monkeypatch.setattr(vars(fenced)["__wrapped__"], "__defaults__", (0.6,))
    with open_session(dsn, ref, lease_ttl_s=3.0) as session:
        with conn.transaction():
            conn.execute("LOCK TABLE objects IN EXCLUSIVE MODE")
            ticket = session.write([a_record()])
            session.flush()
            with connect(dsn, "watcher") as watcher:
                since = "SELECT clock_timestamp() - started_at > interval '4 s' FROM runs"
                until(lambda: watcher.execute(since).fetchone() == (True,))
        assert ticket.wait(60) == [VERIFIED]
    assert "lock timeout" in caplog.text
    assert len(statuses(conn, ref)) == len(statuses(conn, ref, "objects")) == 1


@pytest.mark.parametrize("limited", ["role", "database"])
def test_a_connection_limit_at_the_start_is_waited_for(dsn: str, admin: Connection, limited: str) -> None:
    name = conninfo_to_dict(dsn)["dbname"]
    what = "ROLE visitor" if limited == "role" else f'DATABASE "{name}"'
    admin.execute("CREATE ROLE visitor LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO visitor")
    admin.execute("GRANT EXECUTE ON FUNCTION add_attempts_partition TO visitor")
    try:
        admin.execute(f"ALTER {what} CONNECTION LIMIT 0")
        visitor = make_conninfo(dsn, user="visitor")
        with pytest.raises(LedgerUnavailable, match=r"too many connections for .*take more connections"):
            start_run(visitor, a_run(), retry_for_s=0.3)
        admin.execute(f"ALTER {what} CONNECTION LIMIT -1")
        assert start_run(visitor, a_run()).run_id == 1
    finally:
        admin.execute("DROP OWNED BY visitor; DROP ROLE visitor")


def test_a_connection_limit_under_way_costs_nothing(
    dsn: str, ref: RunRef, admin: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    admin.execute("CREATE ROLE visitor LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO visitor")
    admin.execute(f"GRANT ALL ON attempts_{ref.run_id} TO visitor")
    try:
        with open_session(make_conninfo(dsn, user="visitor"), ref) as session:
            assert session.write([a_record(1)]).wait(60) == [VERIFIED]
            admin.execute("ALTER ROLE visitor CONNECTION LIMIT 0")
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'visitor'")
            ticket = session.write([a_record(1), a_record(2)])
            session.flush()
            until(lambda: "too many connections" in caplog.text)
            admin.execute("ALTER ROLE visitor CONNECTION LIMIT -1")
            assert ticket.wait(60) == [VERIFIED] * 2
        assert len(statuses(admin, ref)) == len(statuses(admin, ref, "objects")) == 2
    finally:
        admin.execute("DROP OWNED BY visitor; DROP ROLE visitor")


@pytest.fixture
def small_dsn(small_dsn: str) -> str:
    """A ledger whose tables are on `disk`."""
    migrate(small_dsn)
    return small_dsn


def test_a_full_disk_is_waited_for(small_dsn: str, disk: SmallDisk, caplog: pytest.LogCaptureFixture) -> None:
    ref = start_run(small_dsn, a_run())
    with open_session(small_dsn, ref) as session:
        assert set(session.write([a_record(row) for row in range(1_000)]).wait(60)) == {VERIFIED}
        disk.fill()
        ticket = session.write([a_record(row) for row in range(10_000)])
        session.flush()
        until(lambda: "No space left on device" in caplog.text)
        disk.free()
        assert set(ticket.wait(60)) == {VERIFIED}
    with connect(small_dsn, "test") as conn:
        assert len(statuses(conn, ref)) == len(statuses(conn, ref, "objects")) == 10_000


def test_a_disk_that_stays_full_says_so_and_keeps_what_was_recorded(small_dsn: str, disk: SmallDisk) -> None:
    ref = start_run(small_dsn, a_run())
    session = open_session(small_dsn, ref, retry_for_s=0.5)
    assert set(session.write([a_record(row) for row in range(1_000)]).wait(60)) == {VERIFIED}
    disk.fill()
    with pytest.raises(RunBroken, match="free space on the ledger's disk"):
        session.write([a_record(row) for row in range(1_000, 11_000)]).wait(60)
    with pytest.raises(RunBroken):
        session.close()
    with connect(small_dsn, "test") as conn:
        assert len(statuses(conn, ref)) == len(statuses(conn, ref, "objects")) == 1_000
