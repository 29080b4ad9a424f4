"""Which rows of a file are wanted, and how many at a time."""

from __future__ import annotations

from typing import NamedTuple


class Span(NamedTuple):
    """Rows `start` <= number < `stop` (None: to the end), in batches of at most `batch_rows`."""

    start: int
    stop: int | None
    batch_rows: int
