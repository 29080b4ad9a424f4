"""Part plans at S3's limits."""

from __future__ import annotations

import pytest

from model.errors import InvalidInput
from model.parts import MAX_OBJECT, MAX_PART, MAX_PARTS, MIN_PART, PartPlan, plan_parts
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
