"""FinaliseRun: the one leaf of the graph. Merges the tallies of a slice and stores them with the run.

Repeatable: a slice's counts replace themselves. With the last slice it also closes the run, so that a job
whose driver is gone closes itself; a driver that is there closes it again with more to say.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import apache_beam as beam

from ledger import accounting, leases, runs
from ledger.accounting import InputFile
from ledger.connect import Connection
from ledger.digest import seal
from model.outcome import Count, Gap, ending
from model.records import Tally
from options.run import CLUSTER_RUNNERS
from transforms.context import JobContext
from transforms.tallies import MergeTallies
from transforms.worker_dofn import WorkerDoFn

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
        files = [_input_file(self._job, number) for number in sorted(read)]
        self.worker.ledger.call(
            lambda conn: accounting.write_counts(conn, self._job.run, self._slice_number, files, element)
        )
        if self._last:
            self.worker.ledger.call_apart(self._close)
        yield sum(tally.objects for tally in element if tally.status is None)

    def _close(self, conn: Connection) -> None:
        run = self._job.run
        gaps = [Gap(gap.file_number, gap.expected, gap.found) for gap in accounting.reconcile(conn, run)]
        counts = [Count(*count) for count in accounting.summary_counts(conn, run.run_id)]
        policy = self._job.config.run
        end = ending(
            counts,
            gaps,
            stop=runs.run_status(conn, run.run_id).stop_requested,
            error=None,
            max_failures=policy.max_failures,
            strict_source=policy.strict_source,
        )
        summary = {"counts": [list(count) for count in counts], "gaps": [list(gap) for gap in end.gaps]}
        error = end.error.message if end.error else None
        runs.finish_run(conn, run, end.outcome, int(end.code), summary, error)
        if policy.runner in CLUSTER_RUNNERS:
            # a driver that is there does it when all workers are done
            seal(conn, run.run_id)
        if policy.detach:
            leases.release(conn, run)


def _input_file(job: JobContext, number: int) -> InputFile:
    file = job.manifest.files[number]
    return InputFile(number, str(file.location), file.size or 0, file.md5)
