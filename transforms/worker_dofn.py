"""The base of the DoFns that use the process's worker, and of those that run work on its engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindows

from model.errors import RunBroken
from transforms.context import JobContext
from transforms.worker import Worker, worker_of

if TYPE_CHECKING:
    from storage.engine import Bundle


class WorkerDoFn(beam.DoFn):
    """Holds the job; has the process's worker from the first `start_bundle` on.

    Not in `setup`: a worker that cannot take work would fail before it has connected to the runner's data service, and
    Beam's Java runners wait three minutes for that before they look at the failure (Beam 2.70, GrpcDataService).
    """

    worker: Worker

    def __init__(self, job: JobContext) -> None:
        self._job = job

    def start_bundle(self) -> None:
        self.worker = worker_of(self._job)


class EngineDoFn(WorkerDoFn):
    """A DoFn whose work runs on the engine: submit in `process`, hand over what is finished, drain at the end.

    A bundle that failed left its tasks behind; the next `start_bundle` cancels them, so that its
    results reach no other bundle.
    """

    bundle: Bundle[Any]
    _begun = False

    def start_bundle(self) -> None:
        super().start_bundle()
        if self._begun:
            self.bundle.cancel()
        self.bundle, self._begun = self.worker.engine.open_bundle(), True

    def finished(self, most_pending: int) -> Iterator[list[Any]]:
        """Results that are ready, in batches; waits while more than `most_pending` are under way."""
        try:
            yield from self.bundle.finished(most_pending)
        except RunBroken:
            self.worker.ledger.flush()
            raise

    def finish_bundle(self) -> Iterator[Any]:
        for results in self.finished(0):
            for value in self.outputs(results):
                yield (
                    beam.pvalue.TaggedOutput(value.tag, _windowed(value.value))
                    if isinstance(value, beam.pvalue.TaggedOutput)
                    else _windowed(value)
                )

    def outputs(self, results: list[Any]) -> Iterable[Any]:
        """The elements a batch of results is emitted as: one by one, unless a step says otherwise."""
        return results


def _windowed(value: Any) -> Any:
    return GlobalWindows.windowed_value(value)
