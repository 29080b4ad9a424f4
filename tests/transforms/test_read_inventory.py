"""ReadInventory: what is left of a file that cannot be read, and of one without rows."""

from __future__ import annotations

import dataclasses
import gzip
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that

from ledger.accounting import bad_files
from ledger.connect import connect
from model.errors import InvalidInput
from pipeline.failures import failure_in
from storage.inventory.location import parse_location
from storage.inventory.manifest import ManifestFile
from tests.transforms.examples import collected, in_process
from transforms.context import FileSlice, JobContext
from transforms.read_inventory import ReadInventory
from transforms.tallies import TALLIES


@pytest.fixture
def files(job: JobContext, tmp_path: Path) -> JobContext:
    """The job with three local files: one row, no row, and one that is not what its manifest says."""
    bodies = [gzip.compress(b'"src","k","5","e"\n'), gzip.compress(b""), b"no gzip"]
    made = []
    for number, body in enumerate(bodies):
        path = tmp_path / f"{number}.csv.gz"
        path.write_bytes(body)
        made.append(ManifestFile(number, parse_location(str(path)), len(body), None))
    manifest = dataclasses.replace(job.manifest, uri=str(tmp_path / "manifest.json"), files=tuple(made))
    inventory = dataclasses.replace(job.config.inventory, spool_dir=str(tmp_path / "spool"))
    return dataclasses.replace(job, manifest=manifest, config=dataclasses.replace(job.config, inventory=inventory))


def skipping(job: JobContext) -> JobContext:
    inventory = dataclasses.replace(job.config.inventory, skip_bad_files=True)
    return dataclasses.replace(job, config=dataclasses.replace(job.config, inventory=inventory))


def read(job: JobContext, numbers: list[int], tallied: list[tuple[int, int, int]]) -> None:
    """Reads these files, which must give (file, rows, bytes) as read."""

    def check(tallies: list[Any]) -> None:
        assert sorted((tally.file_number, tally.objects, tally.object_bytes) for tally in tallies) == tallied

    with in_process() as pipeline:
        slices = pipeline | beam.Create([FileSlice(number) for number in numbers])
        assert_that((slices | ReadInventory(job))[TALLIES], collected(check))


def test_a_file_without_rows_is_tallied_as_read(files: JobContext) -> None:
    read(files, [0, 1], [(0, 1, 5), (1, 0, 0)])


def test_a_bad_file_that_is_left_out_is_named_in_log_and_ledger(
    files: JobContext, ledger_dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    read(skipping(files), [0, 2], [(0, 1, 5)])
    with connect(ledger_dsn, "test") as conn:
        assert bad_files(conn, files.run.run_id) == 1
        [(reason,)] = conn.execute("SELECT bad_reason FROM manifest_files WHERE file_number = 2").fetchall()
    assert "is not gzip" in reason
    assert f"left out: {reason}" in caplog.text


def test_a_bad_file_ends_the_run_unless_it_is_to_be_left_out(files: JobContext) -> None:
    with pytest.raises(Exception) as ended:
        read(files, [2], [])
    assert isinstance(failure_in(ended.value), InvalidInput)
