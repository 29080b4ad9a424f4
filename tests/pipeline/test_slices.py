"""Slices: every row in exactly one, none larger than asked; whole files and a guess of their rows elsewhere."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pipeline.slices import plan_slices, rows_about, whole_files
from transforms.context import FileSlice

FILES = st.lists(st.integers(0, 300), max_size=8).map(lambda rows: list(enumerate(rows)))


@given(FILES, st.integers(1, 100))
def test_every_row_is_in_exactly_one_slice(files: list[tuple[int, int]], slice_rows: int) -> None:
    taken = Counter(
        (piece.file_number, row)
        for pieces in plan_slices(files, slice_rows)
        for piece in pieces
        for row in range(piece.start, piece.stop or 0)
    )
    assert taken == Counter((number, row) for number, rows in files for row in range(rows))


@given(FILES, st.integers(1, 100))
def test_all_slices_but_the_last_are_full(files: list[tuple[int, int]], slice_rows: int) -> None:
    sizes = [sum((piece.stop or 0) - piece.start for piece in pieces) for pieces in plan_slices(files, slice_rows)]
    assert set(sizes[:-1]) <= {slice_rows}
    assert sizes[-1] <= slice_rows
    assert sizes[-1] > 0 or len(sizes) == 1


@given(FILES, st.integers(1, 100))
def test_slices_go_through_the_files_in_order(files: list[tuple[int, int]], slice_rows: int) -> None:
    pieces = [piece for pieces in plan_slices(files, slice_rows) for piece in pieces]
    assert pieces == sorted(pieces)


def test_an_inventory_without_rows_has_one_empty_slice() -> None:
    assert plan_slices([], 10) == plan_slices([(0, 0)], 10) == [[]]


def test_elsewhere_whole_files_make_one_slice() -> None:
    assert whole_files(2) == [[FileSlice(0, 0, None), FileSlice(1, 0, None)]]


def test_rows_that_nobody_counted_are_guessed_from_the_bytes_of_their_files() -> None:
    assert rows_about([32_000, 3_200]) == 1_100
    assert rows_about([32_000, None]) is None
