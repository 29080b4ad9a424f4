"""The files of one run, from the ledger into a folder."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar, cast

from ledger import accounting, exports
from ledger.connect import Connection
from ledger.digest import ENCODING, RecordsDigest, records_digest, stored_digest
from ledger.retry import repeat
from ledger.runs import RunStatus, run_status
from model.errors import InvalidInput, RunBroken
from model.outcome import Outcome, RunKind, why_not_whole
from model.status import DEAD, RETRIED, Status
from options.redaction import redactor
from pipeline.export import formats
from pipeline.export.schemas import DEAD_LETTER_FIELDS, DEAD_LETTER_VERSION, RECORD_FIELDS, RECORD_VERSION
from pipeline.stored_summary import stored_gaps
from pipeline.whole_file import whole_file

T = TypeVar("T")

_LOGGER = logging.getLogger("s3ferry")

DEAD_LETTERS = "dead-letters.avro"
RETRY = "retry.csv"
RESTORE = "restore.csv"
EXTRA = "extra.csv"
SUMS = "SHA256SUMS"
CONTENTS = "export.json"
RECORDS = {"avro": "records.avro", "parquet": "records.parquet"}
_AT_DESTINATION = frozenset({Status.VERIFIED, Status.COPIED})
_NO_REASON = {Status.COPIED.value: "copied, but the destination shows less evidence than was asked for"}


class FileInfo(NamedTuple):
    """One file written: its rows, bytes and SHA-256."""

    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written to `folder`, by file name. `found` and `stored` are the digests now and at the run's end."""

    folder: Path
    files: dict[str, FileInfo]
    found: RecordsDigest | None = None
    stored: RecordsDigest | None = None

    def path(self, name: str) -> str | None:
        """The path of a file, None where there was nothing to write."""
        return str(self.folder / name) if name in self.files else None


def run_folder(folder: str, run_id: int) -> Path:
    """Where the files of a run go."""
    return Path(folder) / f"run-{run_id}"


def require_folder(flag: str, folder: str) -> None:
    """Makes the folder of `flag` if need be. Raises InvalidInput where nothing can be written there. Repeatable."""
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(
            f"{flag}: {folder} cannot be made ({error.strerror}): give a folder of this machine"
        ) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise InvalidInput(f"{flag}: {folder} may not be written by this user: give another folder")


def export_dead(dsn: str, run_id: int, folder: str) -> Exported:
    """Writes the run's dead letters and its retry, restore and extra manifests. Repeatable: it gives the same files.

    A file that would have no row is not written, and one an earlier export left is removed. Raises InvalidInput for a
    run that is not there or still going, or whose history was dropped, and RunBroken for what the disk refuses.
    """
    return _export(dsn, run_id, folder, lambda export: export.dead())


def export_all(dsn: str, run_id: int, folder: str, record_format: str) -> Exported:
    """As `export_dead`, with the run's records (`record_format` is avro or parquet), SHA256SUMS and export.json."""
    return _export(dsn, run_id, folder, lambda export: export.everything(record_format))


def _export(dsn: str, run_id: int, folder: str, work: Callable[[_Export], Exported]) -> Exported:
    def attempt(conn: Connection) -> Exported:
        with exports.snapshot(conn):
            run = run_status(conn, run_id)
            if run.outcome is Outcome.RUNNING:
                raise InvalidInput(f"run {run_id} is still going: export it when it has ended")
            if not exports.has_history(conn, run_id):
                raise InvalidInput(
                    f"the history of run {run_id} was dropped: its records are gone; its row in runs has what is left"
                )
            return work(_Export(conn, run, run_folder(folder, run_id)))

    try:
        return repeat(dsn, f"export {run_id}", attempt)
    except OSError as error:
        raise RunBroken(f"run {run_id} could not be exported to {folder}: {error.strerror or error}") from error


class _Export:
    """One export in one snapshot of the ledger."""

    def __init__(self, conn: Connection, run: RunStatus, folder: Path) -> None:
        self._conn = conn
        self._run = run
        self._folder = folder
        self._files: dict[str, FileInfo] = {}
        self._redact = redactor(os.environ)

    def dead(self) -> Exported:
        metadata = self._metadata(DEAD_LETTER_VERSION)
        self._write_rows(
            DEAD_LETTERS,
            self._dead_letters(),
            lambda file, rows: formats.write_avro(file, "DeadLetter", DEAD_LETTER_FIELDS, rows, metadata),
        )
        self._write_manifest(RETRY, RETRIED)
        self._write_manifest(RESTORE, frozenset({Status.ARCHIVED}))
        if self._run.kind is RunKind.VERIFY:
            extra = self._extra_names()
            self._write_rows(EXTRA, extra, lambda file, rows: formats.write_manifest(file, rows, versions=False))
        return Exported(self._folder, dict(self._files))

    def _extra_names(self) -> Iterator[exports.ObjectName]:
        """What the source's inventory does not have; none, with a warning, where the run cannot tell."""
        conn, run = self._conn, self._run
        if not exports.has_destination_rows(conn, run.run_id):
            return iter(())
        bad, unnamed = accounting.bad_files(conn, run.run_id), accounting.rows_without_key(conn, run.run_id)
        told = int(cast("int", (run.summary or {}).get("bad_files", 0)))
        why = why_not_whole(run.exit_code, max(bad, told), stored_gaps(run), unnamed)
        if why is not None:
            _LOGGER.warning("%s is not written: run %d did not see all its inventory names: %s", EXTRA, run.run_id, why)
            return iter(())
        destination = cast("dict[str, str]", run.options["destination"])
        return exports.extra_names(conn, run.run_id, destination["bucket"])

    def everything(self, record_format: str) -> Exported:
        conn, run_id = self._conn, self._run.run_id
        self.dead()
        self._write_records(record_format)
        self._write_rows(SUMS, exports.whole_sha256(conn, run_id, _AT_DESTINATION), formats.write_sha256sums)
        stored = stored_digest(conn, run_id)
        found = records_digest(conn, run_id, stored.encoding if stored else ENCODING)
        exported = Exported(self._folder, dict(self._files), found, stored)
        contents = json.dumps(self._contents(exported), indent=2, ensure_ascii=False) + "\n"
        with whole_file(self._folder / CONTENTS) as file:
            file.write(contents.encode())
        return exported

    def _write_manifest(self, name: str, statuses: frozenset[Status]) -> None:
        conn, run_id = self._conn, self._run.run_id
        versions = exports.has_versions(conn, run_id, statuses)
        names = exports.object_names(conn, run_id, statuses)
        self._write_rows(name, names, lambda file, rows: formats.write_manifest(file, rows, versions=versions))

    def _write_records(self, record_format: str) -> None:
        conn, run, metadata = self._conn, self._run, self._metadata(RECORD_VERSION)
        rows = ((run.job, run.run_id, *row) for row in exports.record_rows(conn, run.run_id))
        with self._whole(RECORDS[record_format]) as file:
            if record_format == "parquet":
                written = formats.write_parquet(file, RECORD_FIELDS, rows, metadata)
            else:
                written = formats.write_avro(file, "IntegrityRecord", RECORD_FIELDS, rows, metadata)
        self._note(RECORDS[record_format], written)
        for other in RECORDS.keys() - {record_format}:
            (self._folder / RECORDS[other]).unlink(missing_ok=True)

    def _dead_letters(self) -> Iterator[tuple[Any, ...]]:
        for row in exports.dead_rows(self._conn, self._run.run_id, DEAD):
            reason = row.reason or _NO_REASON.get(row.status, "no reason was recorded")
            text = None if row.text is None else self._redact(row.text)
            yield self._run.job, self._run.run_id, *row._replace(reason=self._redact(reason), text=text)

    def _metadata(self, version: int) -> dict[str, str]:
        return {"s3ferry.schema": str(version), "s3ferry.job": self._run.job, "s3ferry.run_id": str(self._run.run_id)}

    def _write_rows(self, name: str, rows: Iterator[T], write: Callable[[BinaryIO, Iterator[T]], int]) -> None:
        """The file of these rows; without rows there is none, and not an old one either."""
        first = next(rows, None)
        if first is None:
            (self._folder / name).unlink(missing_ok=True)
            return
        with self._whole(name) as file:
            written = write(file, chain([first], rows))
        self._note(name, written)

    def _whole(self, name: str) -> AbstractContextManager[BinaryIO]:
        self._folder.mkdir(parents=True, exist_ok=True)
        return whole_file(self._folder / name)

    def _note(self, name: str, rows: int) -> None:
        path = self._folder / name
        with path.open("rb") as written:
            digest = hashlib.file_digest(written, "sha256").hexdigest()
        self._files[name] = FileInfo(rows, path.stat().st_size, digest)

    def _contents(self, exported: Exported) -> dict[str, Any]:
        run, found = self._run, exported.found
        return {
            "run_id": run.run_id,
            "job": run.job,
            "manifest": run.manifest,
            "outcome": str(run.outcome),
            "records": found.records if found else None,
            "records_digest": found.sha256 if found else None,
            "records_encoding": found.encoding if found else None,
            "digest_at_end_of_run": exported.stored.sha256 if exported.stored else None,
            "files": {name: info._asdict() for name, info in sorted(exported.files.items())},
        }
