"""Bounded retries with exponential back-off and full jitter, for what may be repeated."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from model.errors import TransferError

_BASE_S = 0.2
_MOST_S = 20.0

T = TypeVar("T")


def pause_s(attempt: int, draw: Callable[[float, float], float] = random.uniform) -> float:
    """Seconds to wait after failed `attempt` (from 1): uniform between 0 and min(20, 0.2 * 2^attempt).

    Full jitter: AWS architecture blog, «Exponential backoff and jitter».
    """
    return draw(0.0, min(_MOST_S, _BASE_S * 2.0**attempt))


async def repeated(attempt: Callable[[], Awaitable[T]], attempts: int) -> T:
    """`attempt()` up to `attempts` times; only errors that say `retryable` are repeated."""
    for number in range(1, attempts + 1):
        try:
            return await attempt()
        except TransferError as error:
            if not error.retryable or number == attempts:
                raise
            await asyncio.sleep(pause_s(number))
    raise AssertionError("attempts is at least 1")
