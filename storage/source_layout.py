"""How the source object was cut into parts when it was uploaded: what its multipart ETag is made of.

Asked of the server by HEAD `?partNumber` (API reference, «HeadObject»: Content-Length of the part, and
`x-amz-mp-parts-count`), mostly two requests an object. Servers that do not know it are guessed at, and only the
ETag recomputed at the end tells whether the guess was right. Repeatable.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import NamedTuple

from model.errors import SourceChanged, SourceGone, TransferError, Transient
from model.objects import ObjectRef
from model.parts import PartLimits, PartPlan, guessed_part_size, plan_as, plan_equal
from storage.copier import CopyContext
from storage.multipart import head_source
from storage.retry import repeated

_PARTS_IN_ETAG = re.compile(r"[0-9a-f]{32}-([1-9][0-9]{0,4})\Z")
_HEADS_AT_ONCE = 16


class SourceLayout(NamedTuple):
    """A part plan that follows the source. `certain` says that the server named the parts itself."""

    plan: PartPlan
    certain: bool


def parts_in_etag(etag: str) -> int | None:
    """The number of parts a multipart ETag ends in, None for any other ETag."""
    found = _PARTS_IN_ETAG.match(etag)
    return int(found[1]) if found else None


async def source_layout(context: CopyContext, ref: ObjectRef, etag: str, limits: PartLimits) -> SourceLayout | None:
    """The layout of `ref`, pinned by `etag`; None where it cannot be told or the destination does not take it.

    Raises what reading the source raises when it is gone, changed or out of reach.
    """
    count = parts_in_etag(etag)
    if count is None:
        return None
    asking = _Asking(context, ref, etag)
    try:
        first = await asking.length(1, count)
        if first is None:
            return _guessed(ref.size, count, limits)
        lengths = await _lengths(asking, ref.size, count, first)
    except SourceChanged:
        # some servers compare the part's own ETag with the object's: whether it has changed, the object itself tells
        await head_source(context, ref, etag=etag, version=ref.version_id)
        return _guessed(ref.size, count, limits)
    except (SourceGone, Transient):
        raise
    except TransferError:
        # a refusal: the server does not know part numbers
        return _guessed(ref.size, count, limits)
    if isinstance(lengths, int):
        plan = plan_equal(ref.size, lengths, limits)
    else:
        plan = plan_as(lengths, limits) if sum(lengths) == ref.size else None
    return SourceLayout(plan, certain=True) if plan is not None else None


async def is_cut_as(context: CopyContext, ref: ObjectRef, etag: str, plan: PartPlan) -> bool:
    """Whether each part of `ref`, pinned by `etag`, has the length the plan gives it: a request for every part.

    Raises what reading the source raises when it is gone, changed or out of reach.
    """
    lengths = await _each_length(_Asking(context, ref, etag), plan.count)
    return lengths == [length for _, _, length in plan.spans()]


async def _lengths(asking: _Asking, size: int, count: int, first: int) -> int | list[int]:
    """The size of equal parts, or the length of each part where they are not equal.

    Parts count as equal when the first and the last are as in equal parts; where the ETag disagrees, all are asked for.
    """
    last = size - (count - 1) * first
    if count == 1 or (0 < last <= first and await asking.length(count, count) == last):
        return first
    return await _each_length(asking, count)


async def _each_length(asking: _Asking, count: int) -> list[int]:
    gate = asyncio.Semaphore(_HEADS_AT_ONCE)

    async def length(number: int) -> int:
        async with gate:
            return await asking.length(number, count) or 0

    return await asyncio.gather(*(length(number) for number in range(1, count + 1)))


def _guessed(size: int, count: int, limits: PartLimits) -> SourceLayout | None:
    part_size = guessed_part_size(size, count)
    plan = plan_equal(size, part_size, limits) if part_size is not None else None
    return SourceLayout(plan, certain=False) if plan is not None else None


class _Asking:
    """HEADs of single parts of one pinned object."""

    def __init__(self, context: CopyContext, ref: ObjectRef, etag: str) -> None:
        self._context = context
        self._ref = ref
        self._etag = etag

    async def length(self, number: int, count: int) -> int | None:
        """Bytes of part `number` of `count`; None where the server answers for the whole object instead."""
        context, ref = self._context, self._ref

        async def head() -> Mapping[str, str]:
            await context.requests.take(1)
            return await context.source.head_part(ref.bucket, ref.key, number, etag=self._etag, version=ref.version_id)

        headers = await repeated(head, context.limits.attempts)
        if headers.get("x-amz-mp-parts-count") != str(count):
            return None
        return int(headers["content-length"])
