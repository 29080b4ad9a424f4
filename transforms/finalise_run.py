"""FinaliseRun: the one leaf of the graph. Merges the tallies, stores them, and closes the run.

Repeatable: a slice's counts replace themselves, and closing a closed run changes nothing. The last
slice reconciles: rows read must equal the sum of terminal statuses, per input file.
"""

from __future__ import annotations

from typing import Any

import apache_beam as beam

from transforms.context import JobContext
from transforms.tallies import MergeTallies


class FinaliseRun(beam.PTransform):
    """Tallies in, the number of rows they count out.

    Args:
      job: the run's context.
      slice_number: which slice of the manifest this graph ran, from 0.
    """

    def __init__(self, job: JobContext, slice_number: int) -> None:
        super().__init__()
        self._job = job
        self._slice_number = slice_number

    def expand(self, tallies: Any) -> Any:
        return (
            tallies
            | "Merge" >> beam.CombineGlobally(MergeTallies())
            | "Close" >> beam.ParDo(_FinaliseFn(self._job, self._slice_number))
        )
