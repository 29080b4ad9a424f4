from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from ledger import schema
from ledger.connect import Connection, connect
from ledger.rows import rank_sql, strength_sql
from ledger.schema import SCHEMA_VERSION, migrate, migrations, require_current
from model.errors import RunBroken
from model.status import DestinationEvidence, SizeClass, SourceEvidence, Status, rank, strength


def test_migrating_twice_is_the_same_as_once(ledger_dsn: str) -> None:
    assert migrate(ledger_dsn) == migrate(ledger_dsn) == SCHEMA_VERSION == migrations()[-1].version
    with connect(ledger_dsn, "test") as conn:
        require_current(conn)


def test_a_ledger_of_the_first_version_is_brought_up_to_date_with_its_rows(
    ledger_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as then:
        then.setattr(schema, "migrations", lambda: migrations()[:1])
        migrate(ledger_dsn)
    columns = "destination_key, source_bucket, source_key, destination_bucket, size, size_class, status"
    values = "'k', 'from', 'k', 'to', 1, 'small', 'VERIFIED', 'length', 'signed_body', 1, 0, 0, 1"
    more = "source_evidence, destination_evidence, attempts, file_number, row_number, run_id"
    with connect(ledger_dsn, "test") as conn:
        conn.execute("CREATE TABLE attempts_1 PARTITION OF attempts FOR VALUES IN (1)")
        conn.execute(f"INSERT INTO attempts ({columns}, {more}) VALUES ({values})")  # noqa: S608
        conn.execute(f"INSERT INTO objects ({columns}, {more}, job) VALUES ({values}, 'j')")  # noqa: S608
        conn.execute("INSERT INTO parts (identity, part_number, size, etag) VALUES ('u', 1, 5, 'e')")
    assert migrate(ledger_dsn) == SCHEMA_VERSION
    with connect(ledger_dsn, "test") as conn:
        for table in ("attempts_1", "objects", "parts"):
            assert conn.execute(f"SELECT crc32c FROM {table}").fetchall() == [(None,)]  # noqa: S608


def test_two_may_migrate_at_once(ledger_dsn: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(migrate, [ledger_dsn] * 4)) == [SCHEMA_VERSION] * 4


def test_a_ledger_that_was_never_migrated_is_refused_with_the_remedy(ledger_dsn: str) -> None:
    with connect(ledger_dsn, "test") as conn, pytest.raises(RunBroken, match="s3ferry ledger migrate"):
        require_current(conn)


def test_a_newer_ledger_is_refused(dsn: str, conn: Connection) -> None:
    conn.execute("INSERT INTO schema_migrations (version, name, checksum) VALUES (99, '0099_later.sql', 'x')")
    with pytest.raises(RunBroken, match="newer s3ferry"):
        require_current(conn)
    with pytest.raises(RunBroken, match="newer s3ferry"):
        migrate(dsn)


def test_a_migration_applied_with_another_text_is_refused(dsn: str, conn: Connection) -> None:
    conn.execute("UPDATE schema_migrations SET checksum = 'another'")
    with pytest.raises(RunBroken, match=r"0001_ledger\.sql"):
        migrate(dsn)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("object_status", Status),
        ("size_class", SizeClass),
        ("source_evidence", SourceEvidence),
        ("destination_evidence", DestinationEvidence),
    ],
)
def test_the_words_of_the_ledger_are_those_of_the_model(conn: Connection, name: str, words: type) -> None:
    rows = conn.execute("SELECT enumlabel FROM pg_enum WHERE enumtypid = %s::regtype", (name,)).fetchall()
    assert {label for (label,) in rows} == {word.value for word in words}


@pytest.mark.parametrize("kind", [SourceEvidence, DestinationEvidence])
def test_the_ledger_weighs_evidence_as_the_model_does(
    conn: Connection, kind: type[SourceEvidence] | type[DestinationEvidence]
) -> None:
    name = "source_evidence" if kind is SourceEvidence else "destination_evidence"
    rows = conn.execute(f"SELECT e, {strength_sql('e', kind)} FROM unnest(enum_range(NULL::{name})) e").fetchall()  # noqa: S608
    assert dict(rows) == {word.value: strength(word) for word in kind}


def test_the_ledger_ranks_statuses_as_the_model_does(conn: Connection) -> None:
    rows = conn.execute(f"SELECT s, {rank_sql('s')} FROM unnest(enum_range(NULL::object_status)) s").fetchall()  # noqa: S608
    assert dict(rows) == {status.value: rank(status) for status in Status}


def test_objects_reads_as_the_design_says(conn: Connection) -> None:
    columns = [column.name for column in conn.execute("SELECT * FROM objects").description or ()]
    assert ", ".join(columns[:21]) == (
        "job, source_bucket, source_key, source_version, destination_bucket, destination_key, size, size_class, "
        "source_etag, destination_etag, md5, sha256, crc64nvme, status, source_evidence, destination_evidence, run_id, "
        "attempts, started_at, finished_at, error"
    )


def test_a_database_that_is_not_in_utf8_is_refused_with_the_remedy(postgres_uri: str) -> None:
    with psycopg.connect(postgres_uri, autocommit=True) as admin:
        admin.execute("CREATE DATABASE in_latin1 ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    try:
        with pytest.raises(RunBroken, match=r"encoding LATIN1.*ENCODING 'UTF8'"):
            migrate(make_conninfo(postgres_uri, dbname="in_latin1"))
    finally:
        with psycopg.connect(postgres_uri, autocommit=True) as admin:
            admin.execute("DROP DATABASE in_latin1 WITH (FORCE)")
