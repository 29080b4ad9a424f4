"""Routing and part plans, for all sizes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from model.parts import MAX_OBJECT, MAX_PART, MAX_PARTS, MIN_PART, plan_parts
from model.routing import CLASSES, GIB, MAX_SINGLE_PUT, MIB, Boundaries, branch, size_class
from model.status import SizeClass

SIZES = st.one_of(
    st.integers(0, 200 * MIB),
    st.integers(0, MAX_OBJECT),
    st.sampled_from([0, 1, MIB - 1, MIB, MIB + 1, 100 * MIB - 1, 100 * MIB, 100 * MIB + 1, 5 * GIB, 5 * GIB + 1]),
)
BOUNDARIES = st.builds(
    lambda low, more: Boundaries(small_below=low, medium_up_to=low + more),
    st.integers(0, 20 * GIB),
    st.integers(0, 20 * GIB),
)


@given(SIZES, BOUNDARIES)
def test_every_size_has_one_class_and_its_branch(size: int, boundaries: Boundaries) -> None:
    kind = size_class(size, boundaries)
    assert CLASSES[branch(size, boundaries)] is kind
    assert (kind is SizeClass.SMALL) == (
        size < boundaries.small_below and size <= min(boundaries.medium_up_to, MAX_SINGLE_PUT)
    )


@given(SIZES, SIZES, BOUNDARIES)
def test_a_larger_object_never_has_a_smaller_class(one: int, other: int, boundaries: Boundaries) -> None:
    low, high = sorted((one, other))
    assert branch(low, boundaries) <= branch(high, boundaries)


@given(SIZES, BOUNDARIES)
def test_what_no_single_put_can_hold_is_large(size: int, boundaries: Boundaries) -> None:
    if size > MAX_SINGLE_PUT:
        assert size_class(size, boundaries) is SizeClass.LARGE


@given(SIZES)
def test_the_default_boundaries(size: int) -> None:
    kind = size_class(size, Boundaries())
    assert kind is (SizeClass.SMALL if size < MIB else SizeClass.MEDIUM if size <= 100 * MIB else SizeClass.LARGE)


@given(SIZES, st.integers(1, 10 * GIB))
def test_a_plan_keeps_every_limit(size: int, wanted: int) -> None:
    plan = plan_parts(size, wanted)
    assert MIN_PART <= plan.part_size <= MAX_PART
    assert plan.part_size % MIB == 0
    assert 1 <= plan.count <= MAX_PARTS


@given(st.integers(0, 2 * GIB), st.integers(1, 64 * MIB))
def test_the_parts_cover_the_object_without_gap_or_overlap(size: int, wanted: int) -> None:
    plan = plan_parts(size, wanted)
    spans = list(plan.spans())
    assert [number for number, _, _ in spans] == list(range(1, plan.count + 1))
    end = 0
    for _, offset, length in spans:
        assert offset == end
        end += length
    assert end == size
    assert all(length == plan.part_size for _, _, length in spans[:-1])
    assert size == 0 or spans[-1][2] > 0


@given(SIZES, st.integers(MIN_PART, MAX_PART))
def test_parts_are_no_larger_than_wanted_unless_they_must_be(size: int, wanted: int) -> None:
    plan = plan_parts(size, wanted)
    if plan.part_size >= wanted + MIB:
        assert -(-size // (plan.part_size - MIB)) > MAX_PARTS
