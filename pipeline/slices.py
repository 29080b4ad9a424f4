"""Which rows one graph runs. The local preset cuts a manifest into slices of about half a million rows,
because every PCollection between stages lives in the driver's memory there."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from model.routing import unit_objects
from options.config import JobConfig
from transforms.context import FileSlice

_ROW_BYTES = 32
"""What a row of an inventory takes when compressed, or little less: half of it is the ETag."""


def plan_slices(rows_per_file: Sequence[tuple[int, int]], slice_rows: int) -> list[list[FileSlice]]:
    """Slices of at most `slice_rows` rows, in file order; at least one, so that an empty inventory has a run.

    `rows_per_file` holds (file number, rows). A larger file is cut by rows, smaller ones share a slice.
    """
    slices: list[list[FileSlice]] = [[]]
    room = slice_rows
    for file_number, rows in rows_per_file:
        start = 0
        while start < rows:
            if room == 0:
                slices.append([])
                room = slice_rows
            stop = min(rows, start + room)
            slices[-1].append(FileSlice(file_number, start, stop))
            room -= stop - start
            start = stop
    return slices


def whole_files(files: int) -> list[list[FileSlice]]:
    """One slice with every file from its first row to its last, for runners that spread files themselves."""
    return [[FileSlice(number) for number in range(files)]]


def rows_about(sizes: Sequence[int | None]) -> int | None:
    """How many rows inventory files of these sizes (bytes) hold, roughly; None where a size is unknown."""
    known = [size for size in sizes if size is not None]
    return sum(known) // _ROW_BYTES if len(known) == len(sizes) else None


def most_rows(slices: Sequence[Sequence[FileSlice]]) -> int:
    """Rows of the largest slice, where all rows are counted."""
    return max(sum((piece.stop or 0) - piece.start for piece in pieces) for pieces in slices)


def shared(config: JobConfig, rows: int | None, workers: int) -> JobConfig:
    """The configuration, with units small enough that every worker gets its share of `rows` rows, if known."""
    if rows is None:
        return config
    routing = dataclasses.replace(
        config.routing,
        small_unit_objects=unit_objects(config.routing.small_unit_objects, rows, workers),
        medium_unit_objects=unit_objects(config.routing.medium_unit_objects, rows, workers),
    )
    return dataclasses.replace(config, routing=routing)
