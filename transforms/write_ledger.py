"""WriteLedger: integrity records, or parts, into PostgreSQL; passes on only what is durable.

It stands inside each branch, fused behind the effect, so that rows are written while the branch still
copies. The buffer belongs to the process's ledger session; this step hands rows over and waits for
its tickets.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindows

from model.records import IntegrityRecord, PartOutcome, PartResult, SentPart
from transforms.context import JobContext
from transforms.tallies import TallyBook
from transforms.worker_dofn import WorkerDoFn

_PARTS_OUT = 8


class WriteLedger(beam.PTransform):
    """PCollection of lists of `IntegrityRecord` to tallies, or of `PartResult` to the same results, once durable.

    Args:
      job: the run's context.
      parts: whether the elements are part results.
    """

    def __init__(self, job: JobContext, *, parts: bool = False) -> None:
        super().__init__()
        self._job = job
        self._parts = parts

    def expand(self, elements: Any) -> Any:
        write = _WritePartsFn(self._job) if self._parts else _WriteObjectsFn(self._job)
        return elements | "Write" >> beam.ParDo(write)


class _WriteObjectsFn(WorkerDoFn):
    def start_bundle(self) -> None:
        super().start_bundle()
        self._tallies = TallyBook()
        self._tickets: deque[tuple[Any, list[IntegrityRecord]]] = deque()

    def process(self, element: list[IntegrityRecord]) -> None:
        # handed over at once: what is copied is on its way to the ledger although the bundle goes on, or breaks;
        # never more than the session's buffer holds, which blocks
        self._tickets.append((self.worker.record(element), element))
        while self._tickets and self._tickets[0][0].done:
            self._settle()

    def finish_bundle(self) -> Iterator[Any]:
        while self._tickets:
            self._settle()
        yield from self._tallies.close()

    def _settle(self) -> None:
        ticket, records = self._tickets.popleft()
        self._tallies.add_records(records, ticket.wait())


class _WritePartsFn(WorkerDoFn):
    def start_bundle(self) -> None:
        super().start_bundle()
        self._tickets: deque[tuple[Any, PartResult]] = deque()

    def process(self, element: PartResult) -> Iterator[PartResult]:
        if element.outcome is not PartOutcome.DONE or element.part is None:
            yield element
            return
        sent = SentPart(element.upload.identity, element.upload.upload_id, element.part)
        self._tickets.append((self.worker.ledger.write_parts([sent]), element))
        while len(self._tickets) > _PARTS_OUT:
            yield self._settle()

    def finish_bundle(self) -> Iterator[Any]:
        while self._tickets:
            yield GlobalWindows.windowed_value(self._settle())

    def _settle(self) -> PartResult:
        ticket, result = self._tickets.popleft()
        ticket.wait()
        return result
