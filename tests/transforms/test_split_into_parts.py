"""SplitIntoParts: one split per object however often it is delivered."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import apache_beam as beam
from apache_beam.testing.util import assert_that

from model.records import IntegrityRecord, Part, PartOutcome, PartResult, Upload
from model.status import SizeClass, Status
from tests.transforms.examples import MIB, a_job, a_part, an_upload, collected, in_process
from transforms.split_into_parts import ALREADY_DONE, SplitIntoParts
from transforms.tallies import RECORDS


def check_split(
    uploads: Sequence[Upload],
    parts: Callable[[list[Part]], None],
    already_done: Callable[[list[PartResult]], None],
    records: Callable[[list[IntegrityRecord]], None],
) -> None:
    """Runs the transform over `uploads`, keyed as in the graph, and hands each output to its check."""
    with in_process() as pipeline:
        split = (
            pipeline
            | beam.Create([(upload.identity, upload) for upload in uploads]).with_output_types(tuple[str, Upload])
            | beam.Reshuffle()
            | SplitIntoParts(a_job())
        )
        assert_that(split.parts, collected(parts), label="parts")
        assert_that(split[ALREADY_DONE], collected(already_done), label="already done")
        assert_that(split[RECORDS] | beam.FlatMap(lambda batch: batch), collected(records), label="records")


def nothing(elements: Sequence[object]) -> None:
    assert not elements


def test_the_parts_cover_the_object_once_however_often_it_is_delivered() -> None:
    upload = an_upload(4)

    def parts(found: list[Part]) -> None:
        spans = sorted((part.number, part.offset, part.length) for part in found)
        assert spans == [(number, (number - 1) * 5 * MIB, 5 * MIB) for number in (1, 2, 3, 4)]

    check_split([upload, upload, upload], parts, nothing, nothing)


def test_recorded_parts_are_not_copied_again_and_go_to_assembly() -> None:
    upload = an_upload(4, recorded=(a_part(2), a_part(4)))

    def parts(found: list[Part]) -> None:
        assert sorted(part.number for part in found) == [1, 3]

    def already_done(found: list[PartResult]) -> None:
        assert sorted((result.number, result.outcome, result.part) for result in found) == [
            (2, PartOutcome.ALREADY_DONE, a_part(2)),
            (4, PartOutcome.ALREADY_DONE, a_part(4)),
        ]

    check_split([upload], parts, already_done, nothing)


def test_another_row_of_the_same_object_is_a_duplicate() -> None:
    def parts(found: list[Part]) -> None:
        assert sorted(part.number for part in found) == [1, 2]

    def records(found: list[IntegrityRecord]) -> None:
        (record,) = found
        assert (record.status, record.size_class) == (Status.DUPLICATE, SizeClass.LARGE)
        assert record.destination_key == "prefix/large"

    check_split([an_upload(2, row=3), an_upload(2, row=9)], parts, nothing, records)
