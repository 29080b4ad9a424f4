"""PartitionBySize: which branch an object takes, and how objects are packed into units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apache_beam as beam
from apache_beam.testing.util import assert_that

from model.objects import CopyUnit, ObjectRef, unpack_unit
from model.status import SizeClass
from tests.transforms.examples import MIB, a_config, a_ref, collected, in_process
from transforms.partition_by_size import PartitionBySize


def check_branches(refs: Sequence[ObjectRef], small: Any, medium: Any, large: Any, *flags: str) -> None:
    """Runs the transform over `refs` and hands each branch's elements to its check."""
    with in_process() as pipeline:
        branches = pipeline | beam.Create(refs, reshuffle=False) | PartitionBySize(a_config(*flags).routing)
        assert_that(branches.small, collected(small), label="small")
        assert_that(branches.medium, collected(medium), label="medium")
        assert_that(branches.large, collected(large), label="large")


def objects_of(units: list[CopyUnit]) -> list[int]:
    return sorted(unit.objects for unit in units)


def rows_of(units: list[CopyUnit]) -> list[int]:
    return sorted(ref.row_number for unit in units for ref in unpack_unit(unit))


def nothing(elements: list[Any]) -> None:
    assert elements == []


def test_boundaries_belong_to_the_class_the_flags_say() -> None:
    sizes = [0, MIB - 1, MIB, 100 * MIB, 100 * MIB + 1]
    refs = [a_ref(row, size) for row, size in enumerate(sizes)]

    def small(units: list[CopyUnit]) -> None:
        assert rows_of(units) == [0, 1]
        assert {unit.size_class for unit in units} == {SizeClass.SMALL}

    def medium(units: list[CopyUnit]) -> None:
        assert rows_of(units) == [2, 3]
        assert {unit.size_class for unit in units} == {SizeClass.MEDIUM}

    def large(found: list[ObjectRef]) -> None:
        assert found == [refs[4]]

    check_branches(refs, small, medium, large)


def test_small_objects_are_packed_by_count_and_none_is_lost_or_double() -> None:
    def small(units: list[CopyUnit]) -> None:
        assert objects_of(units) == [88, 256, 256]
        assert rows_of(units) == list(range(600))

    check_branches([a_ref(row, 10) for row in range(600)], small, nothing, nothing)


def test_small_objects_are_packed_by_bytes_too() -> None:
    def small(units: list[CopyUnit]) -> None:
        assert all(unit.object_bytes <= 1000 for unit in units)
        assert objects_of(units) == [3, 3, 3, 1] or objects_of(units) == [1, 3, 3, 3]
        assert rows_of(units) == list(range(10))

    check_branches([a_ref(row, 300) for row in range(10)], small, nothing, nothing, "--small_unit_bytes=1000")


def test_an_object_above_the_bytes_of_a_unit_travels_alone() -> None:
    def small(units: list[CopyUnit]) -> None:
        assert sorted((unit.objects, unit.object_bytes) for unit in units) == [(1, 10), (1, 10), (1, 5000)]

    refs = [a_ref(0, 10), a_ref(1, 5000), a_ref(2, 10)]
    check_branches(refs, small, nothing, nothing, "--small_unit_bytes=1000")


def test_medium_objects_travel_in_units_of_a_few() -> None:
    def medium(units: list[CopyUnit]) -> None:
        assert objects_of(units) == [1, 4, 4]
        assert rows_of(units) == list(range(9))

    check_branches([a_ref(row, 2 * MIB) for row in range(9)], nothing, medium, nothing)
