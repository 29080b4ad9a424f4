"""FinaliseRun: the one leaf of the graph. Merges the tallies of a slice and stores them with the run.

Repeatable: a slice's counts replace themselves. With the last slice it also closes the run, so that a job
whose driver is gone closes itself; a driver that is there closes it again with more to say.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import apache_beam as beam

from ledger import accounting, destination_rows, leases, queries, runs
from ledger.connect import Connection
from ledger.digest import seal
from ledger.reconciliation import gap_lines, gap_queries, reconcile
from model.errors import S3ferryError
from model.outcome import Count, ending
from model.records import Tally
from transforms.context import JobContext
from transforms.discard_uploads import discard_superseded
from transforms.read_inventory import input_file
from transforms.tallies import MergeTallies
from transforms.worker_dofn import WorkerDoFn

_LOGGER = logging.getLogger("s3ferry")

_NOTHING = Tally(-1, None, None, 0, 0)
"""A tally of no file."""


class FinaliseRun(beam.PTransform):
    """Tallies in, the number of rows they count out.

    Args:
      job: the run's context.
      slice_number: which slice of the manifest this graph ran, from 0.
      last: whether the run ends with this graph.
    """

    def __init__(self, job: JobContext, slice_number: int, *, last: bool) -> None:
        super().__init__()
        self._job = job
        self._slice_number = slice_number
        self._last = last

    def expand(self, tallies: Any) -> Any:
        # Always one element, so that a run without rows is closed too. A default of the combination would do the same
        # by a side input, and Flink cannot take a checkpoint of one (Beam 2.70, IterableLikeCoder.encode).
        nothing = tallies.pipeline | "Nothing" >> beam.Create([_NOTHING], reshuffle=False)
        return (
            (tallies, nothing)
            | "OrNothing" >> beam.Flatten()
            | "Merge" >> beam.CombineGlobally(MergeTallies()).without_defaults()
            | "Close" >> beam.ParDo(_FinaliseFn(self._job, self._slice_number, self._last))
        )


class _FinaliseFn(WorkerDoFn):
    def __init__(self, job: JobContext, slice_number: int, last: bool) -> None:
        super().__init__(job)
        self._slice_number = slice_number
        self._last = last

    def process(self, element: list[Tally]) -> Iterator[int]:
        element = [tally for tally in element if tally.file_number != _NOTHING.file_number]
        read = {tally.file_number for tally in element if tally.status is None}
        files = [input_file(self._job.manifest, number) for number in sorted(read)]
        self.worker.ledger.call(
            lambda conn: accounting.write_counts(conn, self._job.run, self._slice_number, files, element)
        )
        if self._last:
            if self._job.config.verify is None:
                self.worker.engine.run(discard_superseded(self.worker))
            self.worker.ledger.call_apart(self._close)
            if self._job.config.run.detach:
                self._seal()
        yield sum(tally.objects for tally in element if tally.status is None)

    def _close(self, conn: Connection) -> None:
        run, config = self._job.run, self._job.config
        counts = [Count(*count) for count in accounting.summary_counts(conn, run.run_id)]
        end = ending(
            counts,
            reconcile(conn, run),
            stop=runs.run_status(conn, run.run_id).stop_requested,
            error=None,
            max_failures=config.run.max_failures,
            strict_source=config.run.strict_source,
        )
        if config.run.detach:
            # a driver that is there says it itself
            for line in gap_lines(run.run_id, end.gaps):
                _LOGGER.error("%s", line)
        bad_files = accounting.bad_files(conn, run.run_id)
        verify, extras = config.verify, None
        if verify is not None and verify.is_joined:
            extras = destination_rows.seen_extras(conn, run, end.code, bad_files, end.gaps)
        summary = {
            "counts": [list(count) for count in counts],
            "gaps": [gap._asdict() for gap in end.gaps],
            "gap_queries": gap_queries(run.run_id, end.gaps),
            "bad_files": bad_files,
            "unadopted_objects": queries.same_but_not_verified(conn, run) if verify else None,
            "extra_objects": extras.objects if extras else None,
        }
        error = end.error.message if end.error else None
        runs.finish_run(conn, run, end.outcome, int(end.code), summary, error)
        if config.run.detach:
            leases.release(conn, run)

    def _seal(self) -> None:
        """As a driver that is there does: apart from the accounts, for a run that is closed stays closed without it."""
        run_id = self._job.run.run_id
        try:
            self.worker.ledger.call_apart(lambda conn: seal(conn, run_id))
        except S3ferryError as error:
            _LOGGER.error("no digest of the run's records could be stored, `s3ferry ledger seal %d`: %s", run_id, error)
