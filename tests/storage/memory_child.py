"""Run by test_memory in a process of its own: copies something and prints how far memory rose above idle.

Reads one JSON object from standard input: endpoint_url, source, destination (buckets), and either `large`
([key, size, etag]) or `small` (a list of [key, size, etag]) with `times`, how often each is copied.
Prints {"copied": objects, "idle": bytes, "peak": bytes}.
"""

from __future__ import annotations

import asyncio
import json
import sys
from itertools import chain
from pathlib import Path
from typing import Any

from model.objects import ObjectRef
from model.records import IntegrityRecord, Part, PartRecord, PartResult
from model.status import SizeClass, Status
from storage.config import TransferLimits
from storage.copier import CopyContext, ObjectCopy
from storage.limits import Admission, EndpointLimit, body_cost
from storage.part_copy import copy_part
from tests.fixtures.s3 import S3Server
from tests.storage.ferry import Ferry, running_ferry

PART = 32 * 1024 * 1024
LIMITS = TransferLimits()


def memory(name: str) -> int:
    """A figure of /proc/self/status in bytes: VmRSS, or VmHWM for its peak."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(name)


def copy_large(ferry: Ferry, context: CopyContext, asked: dict[str, Any]) -> int:
    """One object by parts, as many at once as a worker has under way."""
    key, size, etag = asked["large"]
    upload = ferry.open_upload(context, ObjectRef(0, 0, asked["source"], key, None, size, etag, "copy"), PART)
    places = asyncio.Semaphore(LIMITS.parts_in_flight)

    async def one(part: Part) -> PartResult:
        async with places:
            return await copy_part(context, part)

    plan = upload.part_size
    parts = [Part(upload, n + 1, n * plan, min(plan, size - n * plan)) for n in range(upload.part_count)]
    bundle = ferry.engine.open_bundle()
    bundle.submit(one, parts)
    found: list[PartRecord] = [result.part for result in chain.from_iterable(bundle.drain())]
    record, _ = ferry.complete(context, upload, found)
    return int(record.status is Status.VERIFIED)


def copy_small(ferry: Ferry, context: CopyContext, asked: dict[str, Any]) -> int:
    """Many small objects in units of 256, admitted as in a worker."""
    admission = Admission(
        {SizeClass.SMALL: LIMITS.small_in_flight}, LIMITS.memory_budget_bytes, (EndpointLimit(64), EndpointLimit(64))
    )

    async def one(ref: ObjectRef) -> IntegrityRecord:
        cost = body_cost(ref.size, LIMITS.whole_body_bytes, LIMITS.window_bytes)
        async with admission.admit(SizeClass.SMALL, cost):
            return await ObjectCopy(context, ref, SizeClass.SMALL).run()

    refs = [
        ObjectRef(0, 0, asked["source"], key, None, size, etag, f"{time}/{key}")
        for time in range(asked["times"])
        for key, size, etag in asked["small"]
    ]
    bundle, verified = ferry.engine.open_bundle(), 0
    for start in range(0, len(refs), 256):
        bundle.submit(one, refs[start : start + 256])
        for records in bundle.finished(LIMITS.small_in_flight):
            verified += sum(record.status is Status.VERIFIED for record in records)
    for records in bundle.drain():
        verified += sum(record.status is Status.VERIFIED for record in records)
    return verified


def main() -> None:
    asked = json.load(sys.stdin)
    server = S3Server("minio", asked["endpoint_url"])
    with running_ferry() as ferry:
        context = ferry.context(
            ferry.endpoint(server, "source"),
            asked["source"],
            ferry.endpoint(server, "destination"),
            asked["destination"],
        )
        idle = memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to what is used now
        copied = (copy_large if "large" in asked else copy_small)(ferry, context, asked)
        print(json.dumps({"copied": copied, "idle": idle, "peak": memory("VmHWM")}))


if __name__ == "__main__":
    main()
