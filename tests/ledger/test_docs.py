"""What docs/ledger.md says, done for real."""

from __future__ import annotations

import re

import pytest

from ledger.accounting import ExpectedFile, InputFile, expect_files, note_bad_file, write_counts
from ledger.connect import Connection
from ledger.destination_rows import ListedObject, keep_listed, make_room
from ledger.leases import RunRef, release
from ledger.objects import Merge
from ledger.runs import start_run
from ledger.writer import write_objects
from model.outcome import RunKind
from model.records import Tally
from model.status import SizeClass, SourceEvidence, Status
from tests.fixtures.roles import GUIDE, STATEMENTS
from tests.ledger.examples import a_record, a_run

FAILED = a_record(3, status=Status.FAILED, error="403 Forbidden", source_evidence=SourceEvidence.LENGTH)
KEY = "backup/data/part-000000001.parquet"


@pytest.fixture
def filled(ref: RunRef, conn: Connection) -> RunRef:
    """Run 1: five rows read; two verified, one failed, one skipped, and one nobody accounts for."""
    write_objects(conn, ref, [a_record(1, destination_key=KEY), a_record(2), FAILED])
    endings = [(Status.VERIFIED, 2), (Status.FAILED, 1), (Status.SKIPPED, 1)]
    tallies = [Tally(0, SizeClass.SMALL, status, objects, 0) for status, objects in endings]
    write_counts(conn, ref, 0, [InputFile(0, "0.csv.gz", 1, None)], [Tally(0, None, None, 5, 0), *tallies])
    return ref


def ask(conn: Connection, start: str) -> list[tuple[object, ...]]:
    [query] = [query for query in STATEMENTS if query.startswith(start)]
    return conn.execute(query).fetchall()


def test_the_queries_answer_what_the_guide_says(filled: RunRef, conn: Connection) -> None:
    assert ask(conn, "SELECT status, count(*)") == [("FAILED", 1, "98 kB", "403 Forbidden", 0)]
    assert [line for (line,) in ask(conn, "SELECT sha256")] == [
        f"{record.sha256}  {record.destination_key}"
        for record in sorted(
            (a_record(1, destination_key=KEY), a_record(2)), key=lambda record: record.destination_key.encode()
        )
    ]
    evidence = ask(conn, "SELECT status, source_evidence")
    assert [row[:4] for row in evidence] == [
        ("VERIFIED", "etag_md5", "signed_body", 2),
        ("FAILED", "length", "signed_body", 1),
    ]
    assert ask(conn, "SELECT file_number") == [(0, "0.csv.gz", None, 5, 4, None)]
    files = [InputFile(number, f"{number}.csv.gz", 1, None) for number in range(4)]
    expect_files(conn, filled, [ExpectedFile(files[0], 5), ExpectedFile(files[1]), ExpectedFile(files[2], 3)])
    note_bad_file(conn, filled, files[3], "its MD5 differs")
    assert sorted(ask(conn, "SELECT file_number")) == [
        (0, "0.csv.gz", 5, 5, 4, None),
        (1, "1.csv.gz", None, 0, 0, None),
        (2, "2.csv.gz", 3, 0, 0, None),
        (3, "3.csv.gz", None, 0, 0, "its MD5 differs"),
    ]
    [history] = ask(conn, "SELECT run_id, status, size")
    assert history[:2] == (1, "VERIFIED")
    [run] = ask(conn, "SELECT run_id, kind")
    assert (run[:2], run[4]) == ((1, "run"), "running")
    assert ask(conn, "SELECT count(*) AS objects")[0][:2] == (2, "195 kB")


def test_the_objects_whose_source_stated_nothing_are_named_with_what_is_known_of_them(
    filled: RunRef, conn: Connection
) -> None:
    bare = a_record(4, source_evidence=SourceEvidence.LENGTH)
    write_objects(conn, filled, [bare])
    assert ask(conn, "SELECT destination_key, size, sha256") == [
        (bare.destination_key, bare.size, bare.sha256, bare.crc64nvme)
    ]


def test_there_are_ten_of_them() -> None:
    section = GUIDE.partition("## Useful queries")[2].partition("\n## ")[0]
    assert section.count("```sql") == 10


def test_the_queries_about_a_verification_name_what_is_wrong_and_what_is_beside(
    filled: RunRef, dsn: str, conn: Connection
) -> None:
    make_room(conn, filled)
    keep_listed(conn, filled, [ListedObject("alone", 5, "e"), ListedObject(KEY, 5, "e")])
    assert ask(conn, "SELECT destination_key, size, etag") == [("alone", 5, "e")]
    release(conn, filled)
    looking = start_run(dsn, a_run(kind=RunKind.VERIFY))
    gone = a_record(1, destination_key=KEY, status=Status.DESTINATION_GONE, sha256=None, error="404")
    write_objects(conn, looking, [gone], Merge.FINDINGS)
    [wrong] = ask(conn, "SELECT o.destination_key")
    assert wrong[:5] == (KEY, "DESTINATION_GONE", "404", a_record(1).sha256, looking.run_id)


def test_the_guide_names_every_column(conn: Connection) -> None:
    rows = conn.execute(
        "SELECT table_name, column_name FROM information_schema.columns"
        " WHERE table_schema = 'public' AND table_name <> 'attempts'"
    ).fetchall()
    lines = {match[1]: match[0] for match in re.finditer(r"^\| `(\w+)` \|.*$", GUIDE, re.MULTILINE)}
    assert [f"{table}.{column}" for table, column in rows if f"`{column}`" not in lines[table]] == []


def test_a_large_ledger_is_vacuumed_in_good_time_once_it_is_told_so(conn: Connection) -> None:
    [statement] = [text for text in STATEMENTS if text.startswith("ALTER TABLE objects")]
    conn.execute(statement)
    [(options,)] = conn.execute("SELECT reloptions FROM pg_class WHERE relname = 'objects'").fetchall()
    assert "autovacuum_vacuum_insert_scale_factor=0.05" in options
