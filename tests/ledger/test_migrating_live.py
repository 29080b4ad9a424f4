"""Changing the schema while a run is under way: what adds may, what breaks waits, and an older package stays out."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from ledger import schema
from ledger.connect import Connection, connect
from ledger.leases import START_LOCK, RunRef, release
from ledger.runs import Outcome, finish_run, run_status, start_run
from ledger.schema import Migration, migrate, migrations, require_current
from model.errors import LeaseHeld, LeaseLost, RunBroken
from tests.ledger.examples import a_record, a_run, statuses
from tests.ledger.sessions import VERIFIED, open_session, until
from tests.ledger.test_session_faults import terminate

ADDING = Migration(9_000, "9000_adding.sql", "-- additive\nALTER TABLE objects ADD COLUMN colour text", "x")
BREAKING = Migration(9_001, "9001_breaking.sql", "ALTER TABLE objects RENAME COLUMN md5 TO md_5", "y")


def migrate_by(dsn: str, newer: Migration) -> int:
    """What `ledger migrate` of a package does that has one migration more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "migrations", lambda: (*migrations(), newer))
        return migrate(dsn)


def test_what_adds_is_applied_under_a_live_run_and_the_older_package_goes_on(
    dsn: str, ref: RunRef, conn: Connection
) -> None:
    with open_session(dsn, ref) as session:
        assert session.write([a_record(1)]).wait(60) == [VERIFIED]
        assert migrate_by(dsn, ADDING) == 9_000
        assert session.write([a_record(1), a_record(2)]).wait(60) == [VERIFIED] * 2
        terminate(conn)
        assert session.write([a_record(3)]).wait(60) == [VERIFIED]
    assert len(statuses(conn, ref, "objects")) == 3
    release(conn, ref)
    assert migrate(dsn) == 9_000
    assert start_run(dsn, a_run()).run_id > ref.run_id


def test_what_breaks_is_refused_while_a_run_is_live_and_names_it(dsn: str, ref: RunRef, conn: Connection) -> None:
    with pytest.raises(LeaseHeld, match=rf"9001_breaking\.sql.* run {ref.run_id} .*s3ferry stop {ref.run_id}"):
        migrate_by(dsn, BREAKING)
    require_current(conn)
    with open_session(dsn, ref) as session:
        assert session.write([a_record()]).wait(60) == [VERIFIED]

    finish_run(conn, ref, Outcome.SUCCEEDED, 0, {})
    release(conn, ref)
    assert migrate_by(dsn, BREAKING) == 9_001


def test_a_run_whose_lease_ran_out_is_fenced_off_by_what_breaks(dsn: str, ref: RunRef, conn: Connection) -> None:
    session = open_session(dsn, ref)
    session.call(lambda own: None)
    conn.execute("UPDATE leases SET expires_at = clock_timestamp()")
    assert migrate_by(dsn, BREAKING) == 9_001
    assert run_status(conn, ref.run_id).outcome is Outcome.ABANDONED
    with pytest.raises(LeaseLost):
        session.write([a_record()]).wait(60)
    with pytest.raises(LeaseLost):
        session.close()
    assert statuses(conn, ref) == {}


def test_an_older_package_refuses_what_breaks(dsn: str, conn: Connection) -> None:
    migrate_by(dsn, BREAKING)
    for refused in (lambda: require_current(conn), lambda: migrate(dsn), lambda: start_run(dsn, a_run())):
        with pytest.raises(RunBroken, match="newer s3ferry"):
            refused()
    assert conn.execute("SELECT count(*) FROM runs").fetchone() == (0,)


@pytest.mark.parametrize("reconnects", [False, True])
def test_a_live_run_whose_schema_was_changed_by_hand_stops_and_keeps_what_it_recorded(
    dsn: str, ref: RunRef, conn: Connection, reconnects: bool
) -> None:
    session = open_session(dsn, ref)
    assert session.write([a_record(1)]).wait(60) == [VERIFIED]
    conn.execute(BREAKING.sql)
    conn.execute(
        "INSERT INTO schema_migrations (version, name, checksum) VALUES (%s, %s, %s)",
        (BREAKING.version, BREAKING.name, BREAKING.checksum),
    )
    if reconnects:
        terminate(conn)
    with pytest.raises(RunBroken, match="newer s3ferry" if reconnects else "md5"):
        session.write([a_record(2)]).wait(60)
    with pytest.raises(RunBroken):
        session.close()
    assert statuses(conn, ref) == {a_record(1).destination_key: "VERIFIED"}


def test_no_run_starts_beside_a_migration(dsn: str, conn: Connection) -> None:
    with ThreadPoolExecutor(1) as pool:
        with conn.transaction():
            conn.execute("SELECT pg_advisory_xact_lock(%s)", (START_LOCK,))
            starting = pool.submit(start_run, dsn, a_run())
            with connect(dsn, "watcher") as watcher:
                until(lambda: watcher.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone())
            conn.execute(
                "INSERT INTO schema_migrations (version, name, checksum) VALUES (%s, %s, %s)",
                (BREAKING.version, BREAKING.name, BREAKING.checksum),
            )
        with pytest.raises(RunBroken, match="newer s3ferry"):
            starting.result(60)


def test_a_reader_that_does_not_end_keeps_a_migration_out_but_not_the_run(
    dsn: str, ref: RunRef, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "_TABLE_LOCK_S", 1.0)
    with open_session(dsn, ref) as session, connect(dsn, "auditor") as auditor:
        with auditor.transaction():
            auditor.execute("SELECT count(*) FROM objects")
            with pytest.raises(RunBroken, match="lock timeout"):
                schema.repeat(dsn, "migrate", _adding_under_way, 1.0)
            assert session.write([a_record()]).wait(60) == [VERIFIED]
        assert migrate_by(dsn, ADDING) == 9_000


def _adding_under_way(conn: Connection) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "migrations", lambda: (*migrations(), ADDING))
        return schema._migrate(conn)
