"""LoadDestination: the destination's inventory into the ledger, before anything is compared with it.

There it can be looked up a thousand keys at a time, by any worker and in any slice, however large it is. One element
in is a `FileSlice` of the destination's manifest; out comes how many current objects were kept. Repeatable.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam

from ledger.destination_rows import ListedObject, keep_listed
from model.errors import RunBroken
from model.objects import BadRow, InventoryRow
from storage.inventory.rows import read_rows
from storage.inventory.spool import discard, spool
from transforms.context import FileSlice, JobContext
from transforms.read_inventory import inventory_store, spool_folder
from transforms.worker_dofn import WorkerDoFn

_BATCH_ROWS = 10_000


class LoadDestination(beam.PTransform):
    """PCollection of `FileSlice` to counts of objects.

    Args:
      job: the run's context.
    """

    def __init__(self, job: JobContext) -> None:
        super().__init__()
        self._job = job

    def expand(self, files: Any) -> Any:
        return files | "SpreadFiles" >> beam.Reshuffle() | "Load" >> beam.ParDo(_LoadFn(self._job))


class _LoadFn(WorkerDoFn):
    def process(self, element: FileSlice) -> Iterator[int]:
        job = self._job
        manifest = job.destination_manifest
        if manifest is None:
            raise RunBroken("this job has no inventory of the destination")
        file = manifest.files[element.file_number]
        store = inventory_store(manifest, self.worker.copies.destination_control)
        path = spool(store, file, spool_folder(job.config.inventory.spool_dir, job.run))
        batches = read_rows(
            path,
            manifest.format,
            manifest.columns,
            file,
            csv_key_encoding=job.config.inventory.csv_key_encoding,
            batch_rows=_BATCH_ROWS,
        )
        for batch in batches:
            objects = list(current_objects(batch, job.config.destination.prefix))
            if objects:
                self._keep(objects)
            yield len(objects)
        discard(file, path.parent)

    def _keep(self, objects: list[ListedObject]) -> None:
        run = self._job.run
        self.worker.ledger.call(lambda conn: keep_listed(conn, run, objects))


def current_objects(rows: Iterable[InventoryRow | BadRow], prefix: str) -> Iterator[ListedObject]:
    """What is at the destination now below `prefix`. A row without a size, or a bad one, is as good as none."""
    for row in rows:
        if isinstance(row, BadRow) or row.is_delete_marker or not row.is_latest or row.size is None:
            continue
        if row.key.startswith(prefix):
            yield ListedObject(row.key, row.size, row.etag)
