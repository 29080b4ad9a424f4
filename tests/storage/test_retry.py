"""Bounded retries with full jitter."""

from __future__ import annotations

import asyncio

import pytest

from model.errors import AccessDenied, Mismatch, OutcomeUnknown, RunBroken, Throttled, TransferError, Transient
from storage.retry import pause_s, repeated


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses are counted and not slept."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("storage.retry.asyncio.sleep", sleep)
    return slept


def failing(*errors: Exception) -> tuple[list[int], object]:
    """Calls counted, and a call that raises these errors one after another, then gives 7."""
    calls: list[int] = []
    waiting = list(errors)

    async def call() -> int:
        calls.append(1)
        if waiting:
            raise waiting.pop(0)
        return 7

    return calls, call


@pytest.mark.parametrize("kind", [Transient, Throttled])
def test_what_may_be_repeated_is(kind: type[TransferError], no_pauses: list[float]) -> None:
    calls, call = failing(kind("1"), kind("2"))
    assert asyncio.run(repeated(call, 5)) == 7  # type: ignore[arg-type]
    assert (len(calls), len(no_pauses)) == (3, 2)


def test_the_last_error_comes_out_after_all_attempts(no_pauses: list[float]) -> None:
    calls, call = failing(*(Transient(str(number)) for number in range(9)))
    with pytest.raises(Transient, match="4"):
        asyncio.run(repeated(call, 5))  # type: ignore[arg-type]
    assert (len(calls), len(no_pauses)) == (5, 4)


@pytest.mark.parametrize("kind", [AccessDenied, Mismatch, OutcomeUnknown, RunBroken, ValueError])
def test_nothing_else_is_repeated(kind: type[Exception]) -> None:
    calls, call = failing(kind("no"))
    with pytest.raises(kind):
        asyncio.run(repeated(call, 5))  # type: ignore[arg-type]
    assert len(calls) == 1


def test_pauses_grow_to_twenty_seconds_with_full_jitter() -> None:
    longest = [pause_s(attempt, lambda low, high: high) for attempt in range(1, 12)]
    assert longest[:4] == pytest.approx([0.4, 0.8, 1.6, 3.2])
    assert max(longest) == 20.0
    assert pause_s(5, lambda low, high: low) == 0.0
