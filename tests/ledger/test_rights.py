"""The role that runs every day does all a run does, and can neither drop nor alter what it works with."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from ledger import schema
from ledger.accounting import ExpectedFile, InputFile, expect_files, note_bad_file, write_counts
from ledger.connect import connect
from ledger.destination_rows import ListedObject, keep_listed, listed, make_room
from ledger.digest import seal
from ledger.leases import release
from ledger.queries import failures
from ledger.reconciliation import reconcile
from ledger.runs import Outcome, drop_history, finish_run, request_stop, run_status, start_run
from ledger.schema import Migration, migrate, migrations
from ledger.uploads import UploadState, adopt_upload, close_upload
from model.errors import RunBroken
from model.records import DeadLetter, PartRecord, SentPart
from model.status import Status
from tests.fixtures.roles import TwoRoles, two_roles
from tests.ledger.examples import a_record, a_run, an_upload, statuses
from tests.ledger.sessions import VERIFIED, open_session


@pytest.fixture
def roles(postgres_uri: str) -> Iterator[TwoRoles]:
    with two_roles(postgres_uri) as roles:
        yield roles


def all_that_a_run_does(dsn: str) -> None:
    ref, file = start_run(dsn, a_run()), InputFile(0, "0.csv.gz", 1, None)
    with open_session(dsn, ref) as session:
        assert session.write([a_record()]).wait(30) == [VERIFIED]
        assert session.write([a_record(), a_record(1)]).wait(30) == [VERIFIED] * 2
        session.call(lambda own: adopt_upload(own, ref, an_upload()))
        session.write_parts([SentPart("a" * 64, "upload-1", PartRecord(1, 5, "e", None, None, None))]).wait(30)
        session.call(lambda own: close_upload(own, ref, "a" * 64, "upload-1", UploadState.COMPLETED))
        session.call(lambda own: make_room(own, ref))
        session.call(lambda own: keep_listed(own, ref, [ListedObject("k", 5, "e")]))
        assert session.call(lambda own: listed(own, ref, ["k"])) != {}
        session.write_dead_letters([DeadLetter(0, 9, Status.BAD_ROW, "why", "what")]).wait(30)
        for _ in range(2):
            session.call(lambda own: expect_files(own, ref, [ExpectedFile(file, rows=2)]))
            session.call(lambda own: note_bad_file(own, ref, file, "its MD5 differs"))
        session.call(lambda own: write_counts(own, ref, 0, [], []))
        assert session.call(lambda own: reconcile(own, ref)) != []
        assert session.call(lambda own: failures(own, ref.run_id)) == 0
        session.call(lambda own: request_stop(own, ref.run_id, "s3ferry stop"))
        session.call(lambda own: finish_run(own, ref, Outcome.INTERRUPTED, 5, {}))
        session.call(lambda own: release(own, ref))
        assert session.call(lambda own: seal(own, ref.run_id)).records == 2
    with connect(dsn, "test") as conn:
        assert run_status(conn, ref.run_id).outcome is Outcome.INTERRUPTED
        assert len(statuses(conn, ref)) == 2


def test_the_daily_role_does_all_that_a_run_does(roles: TwoRoles) -> None:
    assert migrate(roles.run_dsn) == migrations()[-1].version
    all_that_a_run_does(roles.run_dsn)
    all_that_a_run_does(roles.run_dsn)


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE objects",
        "DROP TABLE attempts_1",
        "ALTER TABLE attempts DETACH PARTITION attempts_1",
        "ALTER TABLE objects ADD COLUMN x int",
        "TRUNCATE objects",
        "DELETE FROM objects",
        "DELETE FROM attempts",
        "DELETE FROM runs",
        "DELETE FROM leases",
        "UPDATE schema_migrations SET checksum = 'x'",
        "CREATE TABLE mine (n int)",
        "DROP FUNCTION add_attempts_partition",
        "CREATE OR REPLACE FUNCTION add_attempts_partition(run bigint) RETURNS void LANGUAGE sql AS ''",
    ],
)
def test_the_daily_role_cannot_drop_alter_or_forget(roles: TwoRoles, statement: str) -> None:
    assert start_run(roles.run_dsn, a_run()).run_id == 1
    with connect(roles.run_dsn, "test") as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute(statement)


def test_history_is_the_owners_to_drop(roles: TwoRoles) -> None:
    ref = start_run(roles.run_dsn, a_run())
    with connect(roles.run_dsn, "test") as conn:
        finish_run(conn, ref, Outcome.SUCCEEDED, 0, {})
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            drop_history(conn, ref.run_id)
    with connect(roles.owner_dsn, "test") as conn:
        drop_history(conn, ref.run_id)


def test_a_partition_is_made_for_a_run_under_way_and_for_nothing_else(roles: TwoRoles) -> None:
    ref = start_run(roles.run_dsn, a_run())
    with connect(roles.run_dsn, "test") as conn:
        finish_run(conn, ref, Outcome.SUCCEEDED, 0, {})
        for run_id in (ref.run_id, 99):
            with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="no run"):
                conn.execute("SELECT add_attempts_partition(%s)", (run_id,))


def test_no_table_of_the_caller_stands_in_for_the_ledgers(roles: TwoRoles) -> None:
    with connect(roles.run_dsn, "test") as conn:
        conn.execute("CREATE TEMPORARY TABLE runs AS SELECT 7::bigint AS run_id, 'running'::text AS outcome")
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
            conn.execute("SELECT add_attempts_partition(7)")


def test_others_may_not_make_partitions(roles: TwoRoles, postgres_uri: str) -> None:
    start_run(roles.run_dsn, a_run())
    with psycopg.connect(psycopg.conninfo.make_conninfo(postgres_uri, dbname="ferry"), autocommit=True) as admin:
        admin.execute("CREATE ROLE auditor; GRANT SELECT ON runs TO auditor")
        try:
            admin.execute("SET ROLE auditor")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                admin.execute("SELECT add_attempts_partition(1)")
        finally:
            admin.execute("RESET ROLE; DROP OWNED BY auditor; DROP ROLE auditor")


def test_a_ledger_that_is_behind_names_who_has_to_migrate(roles: TwoRoles, monkeypatch: pytest.MonkeyPatch) -> None:
    later = Migration(9_000, "9000_later.sql", "ALTER TABLE objects ADD COLUMN later text", "x")
    monkeypatch.setattr(schema, "migrations", lambda: (*migrations(), later))
    with pytest.raises(RunBroken, match="as the role that owns the tables"):
        migrate(roles.run_dsn)
    assert migrate(roles.owner_dsn) == 9_000
    assert migrate(roles.run_dsn) == 9_000
