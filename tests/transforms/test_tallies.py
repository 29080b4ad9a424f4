"""Records are counted as the ledger says; counts merge to the same sums in whatever order and grouping they arrive."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ledger.objects import RowOutcome
from model.records import Tally
from model.status import SizeClass, Status
from tests.ledger.examples import a_record
from transforms.tallies import MergeTallies, TallyBook, Totals

TALLIES = st.lists(
    st.builds(
        Tally,
        st.integers(0, 2),
        st.sampled_from([None, *SizeClass]),
        st.sampled_from([None, *Status]),
        st.integers(0, 1000),
        st.integers(0, 10**12),
    ),
    max_size=20,
)
MERGE = MergeTallies()


def accumulated(tallies: list[Tally]) -> Totals:
    accumulator = MERGE.create_accumulator()
    for tally in tallies:
        accumulator = MERGE.add_input(accumulator, tally)
    return accumulator


def result(*groups: list[Tally]) -> list[Tally]:
    return MERGE.extract_output(MERGE.merge_accumulators([accumulated(group) for group in groups]))


@given(TALLIES, TALLIES, TALLIES)
def test_grouping_makes_no_difference(one: list[Tally], two: list[Tally], three: list[Tally]) -> None:
    left = MERGE.merge_accumulators(
        [MERGE.merge_accumulators([accumulated(one), accumulated(two)]), accumulated(three)]
    )
    assert MERGE.extract_output(left) == result(one, [*two, *three]) == result([*one, *two, *three])


@given(TALLIES, st.randoms(use_true_random=False))
def test_order_makes_no_difference(tallies: list[Tally], random: object) -> None:
    shuffled = list(tallies)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert result(shuffled) == result(tallies)


@given(TALLIES)
def test_no_row_and_no_byte_is_lost(tallies: list[Tally]) -> None:
    merged = result(tallies)
    assert sum(tally.objects for tally in merged) == sum(tally.objects for tally in tallies)
    assert sum(tally.object_bytes for tally in merged) == sum(tally.object_bytes for tally in tallies)
    keys = [(tally.file_number, tally.size_class, tally.status) for tally in merged]
    assert len(set(keys)) == len(keys)


@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from(SizeClass), st.sampled_from(Status), st.integers(0, 9))))
def test_records_are_counted_each_as_the_ledger_says(rows: list[tuple[int, SizeClass, Status, int]]) -> None:
    records = [a_record(file_number=file, size_class=kind, size=size) for file, kind, _, size in rows]
    book = TallyBook()
    book.add_records(records, [RowOutcome(status) for _, _, status, _ in rows])
    found = [windowed.value for windowed in book.close()]
    assert result(found) == result([Tally(file, kind, status, 1, size) for file, kind, status, size in rows])
