"""What docs/ledger.md and docs/evidence.md say, done for real."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pytest
from psycopg.rows import dict_row

from ledger.accounting import ExpectedFile, InputFile, expect_files, note_bad_file, write_counts
from ledger.connect import Connection
from ledger.destination_rows import ListedObject, keep_listed, make_room
from ledger.leases import RunRef, release
from ledger.objects import Merge
from ledger.runs import start_run
from ledger.uploads import UploadState, adopt_upload, close_upload
from ledger.writer import write_objects, write_parts
from model.outcome import RunKind
from model.records import PartRecord, SentPart, Tally
from model.status import DestinationEvidence, SizeClass, SourceEvidence, Status
from storage.checksums import multipart_etag
from tests.fixtures.roles import GUIDE, STATEMENTS
from tests.ledger.examples import a_record, a_run, an_upload

FAILED = a_record(3, status=Status.FAILED, error="403 Forbidden", source_evidence=SourceEvidence.LENGTH)
EVIDENCE = (Path(__file__).parents[2] / "docs/evidence.md").read_text()
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


def test_the_ledger_says_what_held_of_a_large_object(ref: RunRef, conn: Connection) -> None:
    [query] = re.findall(r"^```sql\n(.*?)^```", EVIDENCE, re.MULTILINE | re.DOTALL)
    md5s = ["0" * 32, "f" * 32]
    made = multipart_etag(md5s)
    for key, source_etag in (("kept", made), ("apart", "e" * 32 + "-2")):
        upload = an_upload(identity=key, destination_key=key, source_etag=source_etag)
        adopt_upload(conn, ref, upload)
        write_parts(
            conn,
            ref,
            [
                SentPart(key, upload.upload_id, PartRecord(n, 5, md5, md5, "a" * 64, "AAAAAAAAAAA="))
                for n, md5 in enumerate(md5s)
            ],
        )
        close_upload(conn, ref, key, upload.upload_id, UploadState.COMPLETED)
    proof = DestinationEvidence.FULL_OBJECT_CRC64NVME
    large = partial(a_record, size_class=SizeClass.LARGE, destination_evidence=proof, destination_etag=made)
    records = [
        large(1, destination_key="kept", source_etag=made),
        large(2, destination_key="apart", source_etag="e" * 32 + "-2"),
    ]
    write_objects(conn, ref, records)

    found = conn.cursor(row_factory=dict_row).execute(query).fetchall()

    assert [row["destination_key"] for row in found] == ["apart", "kept"]
    counted = ("parts", "with_md5", "with_sha256", "with_crc64nvme", "md5_is_etag")
    assert {tuple(row[name] for name in counted) for row in found} == {(2, 2, 2, 2, 2)}
    assert [row["composed_etag"] for row in found] == [made, made]
    assert [row["makes_source_etag"] for row in found] == [False, True]
    assert [(row["makes_destination_etag"], row["head_has_crc64nvme"]) for row in found] == [(True, True)] * 2


def test_an_object_whose_parts_have_no_md5_has_no_etag_to_compare(ref: RunRef, conn: Connection) -> None:
    [query] = re.findall(r"^```sql\n(.*?)^```", EVIDENCE, re.MULTILINE | re.DOTALL)
    adopt_upload(conn, ref, an_upload())
    write_parts(conn, ref, [SentPart("a" * 64, "upload-1", PartRecord(1, 5, "opaque", None, "a" * 64, "AAAAAAAAAAA="))])
    close_upload(conn, ref, "a" * 64, "upload-1", UploadState.COMPLETED)
    write_objects(conn, ref, [a_record(1, destination_key="backup/video.mkv", source_etag="e" * 32)])

    [row] = conn.cursor(row_factory=dict_row).execute(query).fetchall()

    assert (row["parts"], row["with_md5"], row["composed_etag"], row["makes_source_etag"]) == (1, 0, None, None)
