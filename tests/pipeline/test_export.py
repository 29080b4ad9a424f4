"""The files an export makes of a run's rows."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import fastavro
import pyarrow.parquet as pq
import pytest

from ledger.accounting import InputFile, note_bad_file
from ledger.connect import Connection, connect
from ledger.destination_rows import ListedObject, keep_listed, make_room
from ledger.digest import seal
from ledger.leases import RunRef, release
from ledger.objects import CLAIMED, Merge
from ledger.rows import COLUMNS
from ledger.runs import drop_history, finish_run, start_run
from ledger.schema import migrate
from ledger.writer import write_dead_letters, write_objects
from model.errors import InvalidInput, RunBroken
from model.objects import InventoryRow
from model.outcome import Outcome, RunKind
from model.records import DeadLetter, IntegrityRecord
from model.status import DestinationEvidence, Status
from pipeline.export.formats import sum_line
from pipeline.export.run_files import export_all, export_dead, require_folder
from pipeline.export.schemas import DEAD_LETTER_FIELDS, RECORD_FIELDS, parquet_schema
from pipeline.whole_file import whole_file
from storage.inventory.columns import BATCH_OPERATIONS_COLUMNS, InventoryFormat
from storage.inventory.location import parse_location
from storage.inventory.manifest import ManifestFile
from storage.inventory.rows import read_rows
from tests.ledger.examples import a_record, a_run

ODD = 'a b+c%20d,"e"\n\r\té😀\\/'
SECRET = "wJalrXUtnFEMI-not-a-real-one"
RECORDS = [
    a_record(0, source_key=f"0{ODD}", status=Status.FAILED, error=f"403: password={SECRET}", attempts=5),
    a_record(1),
    a_record(2, status=Status.MISMATCH, error="the bytes differ"),
    a_record(3, source_key=f"3{ODD}", status=Status.ARCHIVED, error="restore it first"),
    a_record(4, status=Status.SOURCE_GONE, error="404"),
    a_record(5, status=Status.SOURCE_CHANGED, error="412"),
    a_record(6, status=Status.COPIED, destination_evidence=DestinationEvidence.ETAG_MD5),
    a_record(7, sha256=None),
]
LETTERS = [
    DeadLetter(0, 8, Status.BAD_ROW, "key is empty", f"bucket,,token={SECRET}"),
    DeadLetter(0, 9, Status.FAILED, "another row of this run already claims this destination key", "b/k -> c/k"),
]


@pytest.fixture
def conn(ledger_dsn: str) -> Iterator[Connection]:
    migrate(ledger_dsn)
    with connect(ledger_dsn, "test") as connection:
        yield connection


def ended(dsn: str, conn: Connection, records: list[IntegrityRecord], letters: list[DeadLetter]) -> RunRef:
    """A run with these rows, at its end."""
    ref = start_run(dsn, a_run())
    write_objects(conn, ref, records)
    write_dead_letters(conn, ref, letters)
    finish_run(conn, ref, Outcome.FAILED, 1, {})
    release(conn, ref)
    seal(conn, ref.run_id)
    return ref


@pytest.fixture
def ref(ledger_dsn: str, conn: Connection) -> RunRef:
    return ended(ledger_dsn, conn, RECORDS, LETTERS)


def avro(path: Path) -> list[dict[str, Any]]:
    with path.open("rb") as file:
        return list(fastavro.reader(file))  # type: ignore[arg-type]


def manifest(path: Path, encoding: str = "plus") -> list[tuple[str, str, str | None]]:
    """The rows `run --manifest=` reads."""
    file = ManifestFile(0, parse_location(str(path)), None, None)
    batches = read_rows(
        path, InventoryFormat.BATCH_OPERATIONS_CSV, BATCH_OPERATIONS_COLUMNS, file, csv_key_encoding=encoding
    )
    rows = [row for batch in batches for row in batch]
    assert all(isinstance(row, InventoryRow) for row in rows)
    return [(row.bucket, row.key, row.version_id) for row in rows if isinstance(row, InventoryRow)]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_row_that_did_not_end_well_is_a_dead_letter_in_the_order_of_the_input(
    ledger_dsn: str, ref: RunRef, tmp_path: Path
) -> None:
    exported = export_dead(ledger_dsn, ref.run_id, str(tmp_path))

    letters = avro(exported.folder / "dead-letters.avro")
    assert [(letter["row_number"], letter["status"]) for letter in letters] == [
        (0, "FAILED"),
        (2, "MISMATCH"),
        (3, "ARCHIVED"),
        (4, "SOURCE_GONE"),
        (5, "SOURCE_CHANGED"),
        (6, "COPIED"),
        (8, "BAD_ROW"),
        (9, "FAILED"),
    ]
    assert (letters[0]["source_key"], letters[0]["attempts"], letters[0]["run_id"]) == (f"0{ODD}", 5, ref.run_id)
    assert letters[0]["started_at"].timestamp() == RECORDS[0].started_at
    assert letters[5]["reason"] == "copied, but the destination shows less evidence than was asked for"
    assert (letters[6]["source_key"], letters[6]["reason"]) == (None, "key is empty")
    assert letters[7]["text"] == "b/k -> c/k"


def test_reasons_and_rows_are_redacted(ledger_dsn: str, ref: RunRef, tmp_path: Path) -> None:
    exported = export_dead(ledger_dsn, ref.run_id, str(tmp_path))

    letters = avro(exported.folder / "dead-letters.avro")
    assert letters[0]["reason"] == "403: password=***"
    assert letters[6]["text"] == "bucket,,token=***"


@pytest.mark.parametrize("encoding", ["plus", "percent"])
def test_manifests_name_what_can_be_retried_and_what_must_be_restored(
    encoding: str, ledger_dsn: str, ref: RunRef, tmp_path: Path
) -> None:
    exported = export_dead(ledger_dsn, ref.run_id, str(tmp_path))

    retried = [RECORDS[number] for number in (0, 2, 5, 6)]
    assert manifest(exported.folder / "retry.csv", encoding) == [
        (record.source_bucket, record.source_key, None) for record in retried
    ]
    assert manifest(exported.folder / "restore.csv", encoding) == [("originals", f"3{ODD}", None)]


def test_where_one_row_has_a_version_every_row_has_the_column(
    ledger_dsn: str, conn: Connection, tmp_path: Path
) -> None:
    failed = {"status": Status.FAILED, "error": "503"}
    ref = ended(
        ledger_dsn, conn, [a_record(0, **failed), a_record(1, source_version="3/L4kqtJlcpXroDTDmpUMLUo", **failed)], []
    )

    exported = export_dead(ledger_dsn, ref.run_id, str(tmp_path))

    retry = exported.folder / "retry.csv"
    assert [line.count(",") for line in retry.read_text().splitlines()] == [2, 2]
    assert [version for _, _, version in manifest(retry)] == [None, "3/L4kqtJlcpXroDTDmpUMLUo"]


@pytest.mark.parametrize("record_format", ["avro", "parquet"])
def test_repeating_an_export_writes_the_same_files(
    record_format: str, ledger_dsn: str, ref: RunRef, tmp_path: Path
) -> None:
    first, second = (
        export_all(ledger_dsn, ref.run_id, str(tmp_path / name), record_format) for name in ("first", "second")
    )

    assert contents(first.folder) == contents(second.folder)
    assert sorted(contents(first.folder)) == sorted(
        ["SHA256SUMS", "dead-letters.avro", "export.json", f"records.{record_format}", "restore.csv", "retry.csv"]
    )


def test_another_process_writes_the_same_avro_file() -> None:
    script = (
        "import hashlib, io\n"
        "from pipeline.export.formats import write_avro\n"
        "from pipeline.export.schemas import DEAD_LETTER_FIELDS as fields\n"
        "write_avro(file := io.BytesIO(), 'DeadLetter', fields, [], {'s3ferry.run_id': '1'})\n"
        "print(hashlib.sha256(file.getvalue()).hexdigest())\n"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(printed) == 1


def test_records_are_the_rows_of_the_ledger_by_destination_key_in_either_format(
    ledger_dsn: str, conn: Connection, ref: RunRef, tmp_path: Path
) -> None:
    folder = export_all(ledger_dsn, ref.run_id, str(tmp_path), "avro").folder
    from_avro = avro(folder / "records.avro")
    export_all(ledger_dsn, ref.run_id, str(tmp_path), "parquet")
    table = pq.read_table(folder / "records.parquet")

    assert not (folder / "records.avro").exists()
    assert table.to_pylist() == from_avro
    assert table.schema.equals(parquet_schema(RECORD_FIELDS, {}))
    rows = conn.execute(f"SELECT {', '.join(COLUMNS)} FROM attempts ORDER BY destination_key").fetchall()  # noqa: S608
    assert [tuple(record.values())[2:] for record in from_avro] == rows
    assert {(record["job"], record["run_id"]) for record in from_avro} == {(ref.job, ref.run_id)}


def test_schemas_follow_the_ledgers_columns() -> None:
    from ledger.exports import DeadRow

    assert tuple(field.name for field in RECORD_FIELDS) == ("job", "run_id", *COLUMNS)
    assert tuple(field.name for field in DEAD_LETTER_FIELDS) == ("job", "run_id", *DeadRow._fields)


def test_sums_are_of_whole_objects_at_the_destination(ledger_dsn: str, ref: RunRef, tmp_path: Path) -> None:
    exported = export_all(ledger_dsn, ref.run_id, str(tmp_path), "avro")

    there = sorted((RECORDS[1], RECORDS[6]), key=lambda record: record.destination_key.encode())
    assert (exported.folder / "SHA256SUMS").read_text() == "".join(
        f"{record.sha256}  {record.destination_key}\n" for record in there
    )


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("plain", "d  plain\n"),
        ("two  blanks ä", "d  two  blanks ä\n"),
        ("line\nfeed", "\\d  line\\nfeed\n"),
        ("carriage\r", "\\d  carriage\\r\n"),
        ("back\\slash\\n", "\\d  back\\\\slash\\\\n\n"),
    ],
)
def test_names_are_escaped_as_sha256sum_does(name: str, line: str) -> None:
    assert sum_line("d", name) == line


def test_export_json_names_the_files_and_the_digest(ledger_dsn: str, ref: RunRef, tmp_path: Path) -> None:
    exported = export_all(ledger_dsn, ref.run_id, str(tmp_path), "avro")

    told = json.loads((exported.folder / "export.json").read_text())
    assert exported.found == exported.stored
    assert exported.found is not None
    assert (told["records"], told["records_digest"]) == (8, exported.found.sha256)
    files = contents(exported.folder)
    assert {name: info["sha256"] for name, info in told["files"].items()} == {
        name: hashlib.sha256(body).hexdigest() for name, body in files.items() if name != "export.json"
    }
    assert {name: info["rows"] for name, info in told["files"].items()} == {
        "SHA256SUMS": 2,
        "dead-letters.avro": 8,
        "records.avro": 8,
        "restore.csv": 1,
        "retry.csv": 4,
    }


def test_without_rows_there_is_no_file_and_no_old_one_is_left(
    ledger_dsn: str, conn: Connection, tmp_path: Path
) -> None:
    ref = ended(ledger_dsn, conn, [a_record(1)], [])
    old = tmp_path / f"run-{ref.run_id}" / "retry.csv"
    old.parent.mkdir()
    old.write_text("bucket,key\n")

    exported = export_dead(ledger_dsn, ref.run_id, str(tmp_path))

    assert exported.files == {}
    assert contents(exported.folder) == {}


def test_a_run_without_records_has_an_empty_file_of_them(ledger_dsn: str, conn: Connection, tmp_path: Path) -> None:
    ref = ended(ledger_dsn, conn, [], [])

    for record_format in ("parquet", "avro"):
        exported = export_all(ledger_dsn, ref.run_id, str(tmp_path), record_format)
        assert exported.files[f"records.{record_format}"].rows == 0
    assert avro(exported.folder / "records.avro") == []


def test_a_file_that_is_not_finished_does_not_appear(tmp_path: Path) -> None:
    path = tmp_path / "retry.csv"
    path.write_bytes(b"whole")

    with pytest.raises(RuntimeError), whole_file(path) as file:
        file.write(b"half")
        raise RuntimeError

    assert contents(tmp_path) == {"retry.csv": b"whole"}


def test_a_run_that_is_still_going_is_not_exported(ledger_dsn: str, conn: Connection, tmp_path: Path) -> None:
    ref = start_run(ledger_dsn, a_run())

    with pytest.raises(InvalidInput, match="still going"):
        export_dead(ledger_dsn, ref.run_id, str(tmp_path))


def a_look(dsn: str, conn: Connection) -> RunRef:
    """A verification under way that found one of the two objects its destination lists in the source's inventory."""
    ref = start_run(dsn, a_run(kind=RunKind.VERIFY, options={"destination": {"bucket": "copies"}}))
    make_room(conn, ref)
    keep_listed(conn, ref, [ListedObject(a_record(n).destination_key, 5, "e") for n in range(2)])
    write_objects(conn, ref, [a_record(0)], Merge.FINDINGS)
    return ref


def close(conn: Connection, ref: RunRef, outcome: Outcome, code: int, **summary: object) -> None:
    finish_run(conn, ref, outcome, code, summary)
    release(conn, ref)


@pytest.mark.parametrize("code", [0, 1])
def test_what_only_the_destination_has_is_named_when_all_was_seen(
    ledger_dsn: str, conn: Connection, tmp_path: Path, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    ref = a_look(ledger_dsn, conn)
    # its key is there under the row that has it
    write_dead_letters(conn, ref, [DeadLetter(0, 9, Status.FAILED, CLAIMED, "b/k -> c/k")])
    close(conn, ref, Outcome.FAILED if code else Outcome.SUCCEEDED, code)

    exported = export_dead(ledger_dsn, ref.run_id, str(tmp_path))

    assert (exported.folder / "extra.csv").read_text().splitlines() == [f"copies,{quote(a_record(1).destination_key)}"]
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("end", "why"),
    [
        ((Outcome.INTERRUPTED, 5, {}), "it ended with exit code 5"),
        ((Outcome.BROKEN, 3, {}), "it ended with exit code 3"),
        ((Outcome.SUCCEEDED, 0, {"bad_files": 2}), "2 bad inventory files were left out"),
        ((Outcome.FAILED, 1, {"gaps": [[0, 5, 3]]}), "its accounts do not balance"),
    ],
)
def test_what_only_the_destination_has_is_not_told_by_a_run_that_did_not_see_all(
    ledger_dsn: str,
    conn: Connection,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    end: tuple[Outcome, int, dict[str, Any]],
    why: str,
) -> None:
    ref = a_look(ledger_dsn, conn)
    outcome, code, summary = end
    close(conn, ref, outcome, code, **summary)
    not_told(ledger_dsn, ref, tmp_path, caplog, why)


def not_told(dsn: str, ref: RunRef, tmp_path: Path, caplog: pytest.LogCaptureFixture, why: str) -> None:
    """Exports, finds neither a new nor an old file of extras, and one line that says why."""
    old = tmp_path / f"run-{ref.run_id}" / "extra.csv"
    old.parent.mkdir()
    old.write_text("copies,old\n")
    for export in (export_dead, lambda *where: export_all(*where, "avro")):
        caplog.clear()
        exported = export(dsn, ref.run_id, str(tmp_path))
        assert "extra.csv" not in exported.files
        assert not old.exists()
        [line] = caplog.messages
        assert line == f"extra.csv is not written: run {ref.run_id} did not see all its inventory names: {why}"


def test_an_abandoned_run_tells_no_extra_objects(
    ledger_dsn: str, conn: Connection, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ref = a_look(ledger_dsn, conn)
    release(conn, ref)
    not_told(ledger_dsn, ref, tmp_path, caplog, "it did not come to its end")


def test_a_run_with_rows_of_unknown_keys_tells_no_extra_objects(
    ledger_dsn: str, conn: Connection, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ref = a_look(ledger_dsn, conn)
    write_dead_letters(conn, ref, LETTERS)
    close(conn, ref, Outcome.SUCCEEDED, 0)
    not_told(ledger_dsn, ref, tmp_path, caplog, "1 rows have no usable key")


def test_a_run_that_left_out_a_file_by_itself_tells_no_extra_objects(
    ledger_dsn: str, conn: Connection, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ref = a_look(ledger_dsn, conn)
    note_bad_file(conn, ref, InputFile(1, "1.csv.gz", 5, None), "its MD5 differs")
    close(conn, ref, Outcome.SUCCEEDED, 0)
    not_told(ledger_dsn, ref, tmp_path, caplog, "1 bad inventory files were left out")


def test_a_run_whose_history_was_dropped_is_not_exported(
    ledger_dsn: str, conn: Connection, ref: RunRef, tmp_path: Path
) -> None:
    drop_history(conn, ref.run_id)

    with pytest.raises(InvalidInput, match="the history of run 1 was dropped"):
        export_all(ledger_dsn, ref.run_id, str(tmp_path), "avro")


def test_what_the_disk_refuses_is_one_line(ledger_dsn: str, ref: RunRef, tmp_path: Path) -> None:
    (tmp_path / f"run-{ref.run_id}").write_text("a file where the folder is to be")

    with pytest.raises(RunBroken, match=f"run {ref.run_id} could not be exported to "):
        export_dead(ledger_dsn, ref.run_id, str(tmp_path))


def test_a_folder_that_cannot_be_made_is_refused_by_its_flag(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(InvalidInput, match=r"^--export: .* cannot be made"):
        require_folder("--export", str(tmp_path / "file" / "folder"))
