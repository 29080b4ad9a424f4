"""ReadInventory: inventory files, verified and spooled, into batches of rows.

One element in is a `FileSlice`. A file is checked (size, MD5, and that it can be read to its end)
before a row of it goes on; a corrupt one raises InvalidInput, which fails the run, or with `--skip_bad_files` is
noted in the ledger and left out.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam

from ledger.accounting import InputFile, note_bad_file
from ledger.leases import RunRef
from model.objects import BadRow, InventoryRow
from storage.inventory.errors import CorruptInventoryFile
from storage.inventory.location import InventoryStore, LocalInventoryStore
from storage.inventory.manifest import Manifest
from storage.inventory.rows import count_rows, read_rows
from storage.inventory.s3_store import S3InventoryStore
from storage.inventory.spool import discard, spool
from transforms.context import FileSlice, JobContext
from transforms.tallies import TALLIES, TallyBook
from transforms.worker_dofn import WorkerDoFn

_LOGGER = logging.getLogger("s3ferry")

RowBatch = list[InventoryRow | BadRow]
"""Up to a thousand rows of one file: what travels between the fused steps before routing."""

BATCH_ROWS = 1_000


class ReadInventory(beam.PTransform):
    """PCollection of `FileSlice` to `RowBatch`es; tallies of the rows read beside it.

    Args:
      job: the run's context.
    """

    def __init__(self, job: JobContext) -> None:
        super().__init__()
        self._job = job

    def expand(self, slices: Any) -> Any:
        return (
            slices
            | "KeySlices" >> beam.Map(_by_place).with_output_types(tuple[str, FileSlice])
            # Not a Reshuffle: Flink's batch optimizer takes two in a row for one, and the units of all objects
            # would stay with the worker that read them (GlobalProperties keeps FORCED_REBALANCED through a map).
            | "SpreadSlices" >> beam.GroupByKey()
            | "Slices" >> beam.FlatMap(_values).with_output_types(FileSlice)
            | "ReadFiles" >> beam.ParDo(_ReadFileFn(self._job)).with_outputs(TALLIES, main="batches")
        )


def _by_place(piece: FileSlice) -> tuple[str, FileSlice]:
    return f"{piece.file_number}:{piece.start}", piece


def _values(keyed: tuple[str, Iterable[FileSlice]]) -> Iterable[FileSlice]:
    return keyed[1]


class _ReadFileFn(WorkerDoFn):
    def start_bundle(self) -> None:
        super().start_bundle()
        self._tallies = TallyBook()

    def process(self, element: FileSlice) -> Iterator[RowBatch]:
        job = self._job
        manifest = job.manifest.of(element.file_number)
        file = job.manifest.files[element.file_number]
        store = inventory_store(manifest, self.worker.source_control)
        try:
            path = spool(store, file, spool_folder(job.config.inventory.spool_dir, job.run))
            if element.stop is None:
                count_rows(path, manifest.format)
        except CorruptInventoryFile as error:
            if not job.config.inventory.skip_bad_files:
                raise
            self._leave_out(element.file_number, error)
            return
        # the file counts as read although it may have no rows
        self._tallies.add(element.file_number, None, None, 0, 0)
        batches = read_rows(
            path,
            manifest.format,
            manifest.columns,
            file,
            csv_key_encoding=job.config.inventory.csv_key_encoding,
            start_row=element.start,
            stop_row=element.stop,
            batch_rows=BATCH_ROWS,
        )
        for batch in batches:
            self._tallies.add(element.file_number, None, None, len(batch), _stated_bytes(batch))
            yield batch
        if element.stop is None:
            discard(file, path.parent)

    def _leave_out(self, number: int, error: CorruptInventoryFile) -> None:
        run, bad = self._job.run, input_file(self._job.manifest, number)
        _LOGGER.warning("left out: %s", error)
        self.worker.ledger.call(lambda conn: note_bad_file(conn, run, bad, error.message))

    def finish_bundle(self) -> Iterator[Any]:
        yield from self._tallies.close_tagged()


def input_file(manifest: Manifest, number: int) -> InputFile:
    """File `number` of the manifest as the ledger names it."""
    file = manifest.files[number]
    return InputFile(number, str(file.location), file.size or 0, file.md5)


def inventory_store(manifest: Manifest, control: Any) -> InventoryStore:
    """Where this manifest's files are read from. `control` is the source's boto3 client."""
    return S3InventoryStore(control) if str(manifest.uri).startswith("s3://") else LocalInventoryStore()


def spool_folder(named: str | None, run: RunRef) -> Path:
    """The folder the inventory files of `run` are spooled to, shared by its processes on one machine."""
    return spool_base(named) / f"{_job_name(run)}-{run.run_id}"


def clear_spool(named: str | None, run: RunRef, *, others: bool) -> None:
    """Remove the spooled files of `run`, or of the job's `others`, which ended without doing so. Repeatable."""
    own = spool_folder(named, run)
    for folder in spool_base(named).glob(f"{_job_name(run)}-*"):
        if (folder == own) is not others:
            shutil.rmtree(folder, ignore_errors=True)


def spool_base(named: str | None) -> Path:
    """`--spool_dir`, or a folder of this user's among the temporary files."""
    return Path(named) if named else Path(tempfile.gettempdir()) / f"s3ferry-spool-{os.getuid()}"


def _job_name(run: RunRef) -> str:
    return hashlib.sha256(run.job.encode()).hexdigest()[:16]


def _stated_bytes(batch: Iterable[InventoryRow | BadRow]) -> int:
    return sum(row.size or 0 for row in batch if isinstance(row, InventoryRow))
