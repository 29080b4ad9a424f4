"""The object a copy has just written: look at it, read it back, remove it. All repeatable."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from model.errors import DestinationGone, TransferError
from storage.checksums import Digests, etag_of
from storage.errors import map_boto
from storage.retry import repeated

if TYPE_CHECKING:
    from storage.copier import CopyContext


class Replaced(NamedTuple):
    """ETag (without quotes) and version of what the destination held before."""

    replaced_etag: str | None
    replaced_version: str | None


NOTHING_REPLACED = Replaced(None, None)


async def look_before(context: CopyContext, key: str) -> Replaced:
    """What the destination holds under `key`, where the rules ask for it. Raises what a HEAD raises."""
    if not context.rules.record_replaced:
        return NOTHING_REPLACED
    bucket = context.rules.destination_bucket

    async def head() -> Mapping[str, str]:
        await context.requests.take(1)
        return await context.destination.head(bucket, key, checksum_mode=False)

    try:
        headers = await repeated(head, context.limits.attempts)
    except DestinationGone:
        return NOTHING_REPLACED
    return Replaced(etag_of(headers) or None, headers.get("x-amz-version-id"))


async def head_written(context: CopyContext, key: str) -> Mapping[str, str]:
    """The headers of the object at the destination, stored checksums among them."""
    bucket = context.rules.destination_bucket
    return await repeated(lambda: context.destination.head(bucket, key, checksum_mode=True), context.limits.attempts)


async def read_back(context: CopyContext, key: str, name: str) -> Digests:
    """The digest `name` of what the destination holds: a second read of the whole object, a window at a time."""
    bucket, window = context.rules.destination_bucket, context.limits.window_bytes

    async def read() -> Digests:
        found = Digests(frozenset({name}))
        async with context.destination.get(bucket, key, checksum_mode=False) as reply:
            while (piece := await reply.read(window)) is not None:
                await context.pace.update(found, piece)
        return found

    return await repeated(read, context.limits.attempts)


async def remove_written(context: CopyContext, key: str, *, version: str | None, etag: str) -> str:
    """Remove a wrong object that was just written, unless told to keep it; says what was done.

    Removed by its version, or on the condition that it still has the `etag` our write returned.
    """
    if not context.rules.remove_mismatch:
        return "the object written is kept"
    bucket, control = context.rules.destination_bucket, context.destination_control
    which: dict[str, Any] = {"VersionId": version} if version else {"IfMatch": etag}
    try:
        await asyncio.to_thread(
            map_boto,
            lambda: control.delete_object(Bucket=bucket, Key=key, **which),
            side="destination",
            what=f"DELETE {bucket}/{key}",
        )
    except TransferError as error:
        return f"the object written could not be removed: {error.message}"
    return f"the object written was removed ({next(iter(which))})"
