"""AssembleParts: all parts are in, or one failed for good; once per upload."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import apache_beam as beam
from apache_beam.testing.util import assert_that
from hypothesis import given
from hypothesis import strategies as st

from model.records import PartOutcome, PartResult
from model.status import Status
from tests.transforms.examples import a_part, an_upload, collected, done, in_process
from transforms.assemble_parts import AssembleParts, Assembly, count, mark


def check_assembly(results: Sequence[PartResult], check: Callable[[list[Assembly]], None]) -> None:
    """Runs the transform over `results`, keyed as in the graph."""
    with in_process() as pipeline:
        assembled = (
            pipeline
            | beam.Create([(result.upload.identity, result) for result in results]).with_output_types(
                tuple[str, PartResult]
            )
            | beam.Reshuffle()
            | AssembleParts()
        )
        assert_that(assembled, collected(check))


def test_parts_out_of_order_and_repeated_make_one_assembly_in_order() -> None:
    upload = an_upload(5)
    results = [done(upload, number, attempts=number) for number in (4, 1, 4, 5, 2, 1, 3, 3)]

    def check(found: list[Assembly]) -> None:
        (assembly,) = found
        assert assembly == Assembly(upload, tuple(a_part(number) for number in range(1, 6)), None, None, 5)

    check_assembly(results, check)


def test_parts_from_an_earlier_run_count_like_those_of_this_one() -> None:
    upload = an_upload(2)
    earlier = PartResult(upload, 1, PartOutcome.ALREADY_DONE, a_part(1))

    def check(found: list[Assembly]) -> None:
        assert [[part.number for part in assembly.parts] for assembly in found] == [[1, 2]]

    check_assembly([done(upload, 2), earlier], check)


def test_a_missing_part_decides_nothing() -> None:
    upload = an_upload(3)

    def check(found: list[Assembly]) -> None:
        assert found == []

    check_assembly([done(upload, 1), done(upload, 3), done(upload, 1)], check)


def test_one_part_that_failed_for_good_decides_the_object_once() -> None:
    upload = an_upload(3)
    failed = PartResult(upload, 2, PartOutcome.FAILED, None, Status.SOURCE_CHANGED, "412", 3)

    def check(found: list[Assembly]) -> None:
        assert found == [Assembly(upload, (), Status.SOURCE_CHANGED, "412", 3)]

    check_assembly([failed, done(upload, 1), failed, done(upload, 3)], check)


def test_uploads_are_assembled_apart() -> None:
    one, other = an_upload(1), an_upload(2)._replace(identity="other")

    def check(found: list[Assembly]) -> None:
        assert sorted((assembly.upload.identity, len(assembly.parts)) for assembly in found) == [
            ("identity", 1),
            ("other", 2),
        ]

    check_assembly([done(other, 2), done(one, 1), done(other, 1)], check)


def test_the_most_parts_an_upload_may_have_are_assembled() -> None:
    upload = an_upload(10_000)
    numbers = list(range(1, 10_001))
    random.Random(1).shuffle(numbers)

    def check(found: list[Assembly]) -> None:
        (assembly,) = found
        assert [part.number for part in assembly.parts] == list(range(1, 10_001))

    check_assembly([done(upload, number) for number in numbers], check)


@given(st.integers(1, 200).flatmap(lambda size: st.tuples(st.just(size), st.lists(st.integers(1, size)))))
def test_the_bitmap_counts_different_parts(drawn: tuple[int, list[int]]) -> None:
    size, numbers = drawn
    bitmap: bytes | None = None
    seen: set[int] = set()
    for number in numbers:
        marked = mark(bitmap, number, size)
        assert (marked is None) == (number in seen)
        bitmap = marked or bitmap
        seen.add(number)
    assert count(bitmap or b"") == len(seen)
