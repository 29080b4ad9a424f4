"""How a slice's objects are cut into units."""

from __future__ import annotations

import pytest

from model.routing import unit_objects


@pytest.mark.parametrize(
    ("most", "rows", "workers", "objects"),
    [
        (256, 1_000_000, 2, 256),
        (256, 16_384, 2, 256),
        (256, 4_800, 2, 75),
        (256, 4_800, 16, 9),
        (256, 10, 2, 1),
        (256, 0, 2, 1),
        (4, 200, 2, 3),
        (4, 1_000, 2, 4),
    ],
)
def test_units_are_full_unless_workers_would_get_too_few(most: int, rows: int, workers: int, objects: int) -> None:
    assert unit_objects(most, rows, workers) == objects


@pytest.mark.parametrize("workers", [1, 2, 7, 64])
def test_every_worker_gets_some_thirty_units_of_a_slice_that_has_the_rows(workers: int) -> None:
    rows = 5_000
    assert rows / unit_objects(256, rows, workers) >= 30 * workers
