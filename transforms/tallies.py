"""Counts of rows per input file, class and status, gathered per bundle and merged over the job."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindows

from ledger.objects import RowOutcome
from model.records import IntegrityRecord, Tally
from model.status import SizeClass, Status

TALLIES = "tallies"
"""The tag of the tallies beside a transform's main output."""
RECORDS = "records"
"""The tag of integrity records beside a transform's main output: rows that end there."""

Key = tuple[int, SizeClass | None, Status | None]
Totals = dict[Key, tuple[int, int]]


class TallyBook:
    """Running totals of one bundle."""

    def __init__(self) -> None:
        self._totals: Totals = {}

    def add(
        self, file_number: int, size_class: SizeClass | None, status: Status | None, objects: int, size: int
    ) -> None:
        key = (file_number, size_class, status)
        had_objects, had_bytes = self._totals.get(key, (0, 0))
        self._totals[key] = (had_objects + objects, had_bytes + size)

    def add_records(self, records: Iterable[IntegrityRecord], outcomes: Iterable[RowOutcome]) -> None:
        """Count records, each as the ledger says it is to be counted. Like neighbours are added at once."""
        file_number, size_class, status = -1, None, None
        objects = size = 0
        for record, outcome in zip(records, outcomes, strict=True):
            if outcome.status is not status or record.file_number != file_number or record.size_class is not size_class:
                if objects:
                    self.add(file_number, size_class, status, objects, size)
                file_number, size_class, status = record.file_number, record.size_class, outcome.status
                objects = size = 0
            objects += 1
            size += record.size
        if objects:
            self.add(file_number, size_class, status, objects, size)

    def close(self) -> Iterator[Any]:
        """The totals as windowed tallies, for `finish_bundle`; the book is empty afterwards."""
        for (file_number, size_class, status), (objects, size) in self._totals.items():
            yield GlobalWindows.windowed_value(Tally(file_number, size_class, status, objects, size))
        self._totals = {}

    def close_tagged(self) -> Iterator[Any]:
        """The same for a DoFn whose main output is something else."""
        for value in self.close():
            yield beam.pvalue.TaggedOutput(TALLIES, value)


class MergeTallies(beam.CombineFn):
    """Merges tallies into one sorted list of them. Order of arrival does not matter."""

    def create_accumulator(self) -> Totals:
        return {}

    def add_input(self, accumulator: Totals, element: Tally) -> Totals:
        key = (element.file_number, element.size_class, element.status)
        objects, size = accumulator.get(key, (0, 0))
        accumulator[key] = (objects + element.objects, size + element.object_bytes)
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[Totals]) -> Totals:
        merged: Totals = {}
        for totals in accumulators:
            for (file_number, size_class, status), (objects, size) in totals.items():
                self.add_input(merged, Tally(file_number, size_class, status, objects, size))
        return merged

    def extract_output(self, accumulator: Totals) -> list[Tally]:
        tallies = [Tally(*key, *totals) for key, totals in accumulator.items()]
        return sorted(tallies, key=lambda tally: (tally.file_number, str(tally.size_class), str(tally.status)))
