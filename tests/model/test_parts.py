"""Part plans at S3's limits."""

from __future__ import annotations

import pytest

from model.errors import InvalidInput
from model.parts import (
    MAX_OBJECT,
    MAX_PART,
    MAX_PARTS,
    MIN_PART,
    S3_LIMITS,
    PartLimits,
    PartPlan,
    guessed_part_size,
    limits_of,
    plan_as,
    plan_equal,
    plan_parts,
)
from model.routing import GIB, MIB

TIB = 1024 * GIB


@pytest.mark.parametrize(
    ("size", "wanted", "part_size", "count"),
    [
        (100 * MIB, 32 * MIB, 32 * MIB, 4),
        (96 * MIB, 32 * MIB, 32 * MIB, 3),
        (96 * MIB + 1, 32 * MIB, 32 * MIB, 4),
        (100 * MIB, 1, MIN_PART, 20),
        (100 * MIB, 5 * MIB + 1, 6 * MIB, 17),
        (1 * TIB, 32 * MIB, 105 * MIB, 9_987),
        (MAX_PARTS * 32 * MIB, 32 * MIB, 32 * MIB, MAX_PARTS),
        (MAX_PARTS * 32 * MIB + 1, 32 * MIB, 33 * MIB, 9_697),
        (MAX_OBJECT, 32 * MIB, MAX_PART, MAX_PARTS),
        (10 * GIB, 100 * GIB, MAX_PART, 2),
        (0, 32 * MIB, 32 * MIB, 1),
        (1, 32 * MIB, 32 * MIB, 1),
    ],
)
def test_part_size_and_count(size: int, wanted: int, part_size: int, count: int) -> None:
    plan = plan_parts(size, wanted)
    assert (plan.part_size, plan.count) == (part_size, count)


def test_an_object_no_plan_can_hold_is_invalid() -> None:
    with pytest.raises(InvalidInput, match="10,000 parts"):
        plan_parts(MAX_OBJECT + 1, 32 * MIB)


def test_spans_are_in_order_and_the_last_is_the_rest() -> None:
    assert list(PartPlan(25, 10).spans()) == [(1, 0, 10), (2, 10, 10), (3, 20, 5)]
    assert list(PartPlan(20, 10).spans()) == [(1, 0, 10), (2, 10, 10)]
    assert list(PartPlan(0, 10).spans()) == [(1, 0, 0)]


def test_spans_follow_parts_that_are_not_equal() -> None:
    plan = PartPlan(31, 10, runs=((10, 2), (6, 1), (5, 1)))
    assert list(plan.spans()) == [(1, 0, 10), (2, 10, 10), (3, 20, 6), (4, 26, 5)]
    assert plan.count == 4


@pytest.mark.parametrize(
    ("host", "limits"),
    [
        ("s3.eu-central-1.amazonaws.com", S3_LIMITS),
        ("", S3_LIMITS),
        ("127.0.0.1", S3_LIMITS),
        ("abc.r2.cloudflarestorage.com", PartLimits(most=5 * GIB - 5 * MIB, equal=True)),
        ("s3.us-west-002.backblazeb2.com", PartLimits(least=5_000_000, most=5_000_000_000)),
        ("s3.fr-par.scw.cloud", PartLimits(count=1_000)),
        ("notscw.cloud", S3_LIMITS),
    ],
)
def test_the_limits_of_a_store_are_known_by_its_host(host: str, limits: PartLimits) -> None:
    assert limits_of(host) == limits


@pytest.mark.parametrize(
    ("size", "limits", "part_size", "count"),
    [
        (50 * GIB, PartLimits(count=1_000), 52 * MIB, 985),
        (5 * TIB, PartLimits(count=1_000), MAX_PART, 1_024),
        (9 * GIB, PartLimits(most=5_000_000_000), 32 * MIB, 288),
        (40 * TIB, PartLimits(most=5_000_000_000), 4_195 * MIB, 9_999),
        (50_000_000_000_000, PartLimits(most=5_000_000_000), 5_000_000_000, 10_000),
    ],
)
def test_a_plan_keeps_to_the_limits_of_its_store(size: int, limits: PartLimits, part_size: int, count: int) -> None:
    if size > limits.largest_object:
        with pytest.raises(InvalidInput):
            plan_parts(size, 32 * MIB, limits)
        return
    plan = plan_parts(size, 32 * MIB, limits)
    assert (plan.part_size, plan.count) == (part_size, count)


EQUAL = PartLimits(equal=True)


@pytest.mark.parametrize(
    ("lengths", "limits", "plan"),
    [
        ([8 * MIB, 8 * MIB, 3], S3_LIMITS, PartPlan(16 * MIB + 3, 8 * MIB)),
        ([8 * MIB, 8 * MIB], EQUAL, PartPlan(16 * MIB, 8 * MIB)),
        ([3], S3_LIMITS, PartPlan(3, 3)),
        ([8 * MIB, 9 * MIB], S3_LIMITS, PartPlan(17 * MIB, 9 * MIB, ((8 * MIB, 1), (9 * MIB, 1)))),
        (
            [8 * MIB, 8 * MIB, 6 * MIB, 7 * MIB],
            S3_LIMITS,
            PartPlan(29 * MIB, 8 * MIB, ((8 * MIB, 2), (6 * MIB, 1), (7 * MIB, 1))),
        ),
        ([8 * MIB, 9 * MIB], EQUAL, None),
        ([4 * MIB, 4 * MIB], S3_LIMITS, None),
        ([8 * MIB, 4 * MIB, 4 * MIB], S3_LIMITS, None),
        ([6 * GIB, 1], S3_LIMITS, None),
        ([8 * MIB] * 3, PartLimits(count=2), None),
    ],
)
def test_a_plan_as_given_is_taken_where_the_store_takes_it(
    lengths: list[int], limits: PartLimits, plan: PartPlan | None
) -> None:
    assert plan_as(lengths, limits) == plan


@pytest.mark.parametrize(
    ("size", "part_size", "limits", "taken"),
    [
        (20 * MIB, 5 * MIB, S3_LIMITS, True),
        (20 * MIB, 5_000_000, S3_LIMITS, False),
        (20_000_000, 5_000_000, PartLimits(least=5_000_000), True),
        (3, 3, S3_LIMITS, True),
        (50_001 * MIB, 5 * MIB, S3_LIMITS, False),
        (50_000 * MIB, 5 * MIB, S3_LIMITS, True),
        (12 * GIB, 6 * GIB, S3_LIMITS, False),
    ],
)
def test_equal_parts_are_taken_where_the_store_takes_them(
    size: int, part_size: int, limits: PartLimits, taken: bool
) -> None:
    assert (plan_equal(size, part_size, limits) is not None) is taken


def test_plans_have_the_same_name_only_when_they_are_the_same() -> None:
    plans = [
        PartPlan(29 * MIB, 8 * MIB),
        PartPlan(29 * MIB, 9 * MIB),
        PartPlan(29 * MIB, 8 * MIB, ((8 * MIB, 2), (6 * MIB, 1), (7 * MIB, 1))),
        PartPlan(29 * MIB, 8 * MIB, ((8 * MIB, 2), (7 * MIB, 1), (6 * MIB, 1))),
    ]
    assert len({plan.name for plan in plans}) == len(plans)
    assert PartPlan(1, 8 * MIB).name == PartPlan(2, 8 * MIB).name == str(8 * MIB)


@pytest.mark.parametrize(
    ("size", "count", "guess"),
    [
        (100 * MIB, 13, 8 * MIB),
        (100 * MIB, 7, 16 * MIB),
        (100 * MIB, 20, 5 * MIB),
        (100 * MIB, 1, 100 * MIB),
        (0, 1, 1),
        (100 * MIB, 3, 34 * MIB),
        (100 * MIB, 1_000, None),
        (500_000_000, 30, 16 * MIB),
    ],
)
def test_a_part_size_is_guessed_from_size_and_number_of_parts(size: int, count: int, guess: int | None) -> None:
    assert guessed_part_size(size, count) == guess
