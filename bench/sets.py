"""The work every tool is given: five sets of objects, how they come into a source bucket, and their inventory."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.servers import Server
from local.inventory import write_inventory
from local.workload import Group, WorkObject, preset, seed

INVENTORY = "inventory"
FEW = 8
_FEW_BYTES = 4_096
_SPOT_CHECKS = 5
_MIB = 1 << 20
_LEAST_LARGE = 128 * _MIB

GROUPS: dict[str, Group] = {
    "tiny": Group("tiny", 20_000, 4_096),
    "small": Group("small", 20_000, 100_000),
    "medium": Group("medium", 200, 10_000_000),
    "large": Group("large", 4, 500_000_000),
}
MIXED_SCALE = 1 / 100
NAMES = (*GROUPS, "mixed")


def objects_of(name: str, scale: float) -> list[WorkObject]:
    """The objects of a set; `scale` is of their number. Large objects shrink where less than one would be left."""
    if name == "mixed":
        return preset("mixed", MIXED_SCALE * scale)
    group = GROUPS[name]
    count = group.count * scale
    size = min(group.size, _LEAST_LARGE) if count < 1 else group.size
    return [WorkObject(f"{group.prefix}/{number:07}.bin", size) for number in range(max(1, round(count)))]


@dataclass(frozen=True, slots=True)
class PreparedSet:
    """A set in place: `bucket` of the source, and the manifest (S3 URL) of its inventory."""

    name: str
    objects: tuple[WorkObject, ...]
    bucket: str
    manifest: str

    @property
    def total_bytes(self) -> int:
        return sum(item.size for item in self.objects)

    @property
    def largest(self) -> int:
        return max(item.size for item in self.objects)


def few_objects() -> list[WorkObject]:
    """So few small objects that a run over them is nothing but start-up."""
    return [WorkObject(f"few/{number}.bin", _FEW_BYTES) for number in range(FEW)]


def prepare(source: Server, name: str, objects: Sequence[WorkObject]) -> PreparedSet:
    """Makes a set and its inventory at `source`; what is there already is left alone."""
    identity = hashlib.sha256(repr([(item.key, item.size) for item in objects]).encode()).hexdigest()[:8]
    bucket = f"{name}-{identity}"
    client = source.client()
    rows = seed(client, bucket, objects)
    with suppress(client.exceptions.BucketAlreadyOwnedByYou):
        client.create_bucket(Bucket=INVENTORY)
    manifest = write_inventory(
        rows,
        format="CSV",
        put=lambda key, body: _put(client, key, body),
        source_bucket=bucket,
        inventory_bucket=INVENTORY,
        prefix="",
        config_id="bench",
        when=max(row["last_modified_date"] for row in rows),
    )
    return PreparedSet(name, tuple(objects), bucket, f"s3://{INVENTORY}/{manifest}")


def _put(client: Any, key: str, body: bytes | Path) -> None:
    client.put_object(Bucket=INVENTORY, Key=key, Body=body.read_bytes() if isinstance(body, Path) else body)


def differences(source: Server, destination: Server, work: PreparedSet, bucket: str) -> list[str]:
    """How `bucket` differs from the set: names and sizes of all objects, the bytes of a few. Empty when it does not."""
    client = destination.client()
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    found = {entry["Key"]: entry["Size"] for page in pages for entry in page.get("Contents", [])}
    wanted = {item.key: item.size for item in work.objects}
    lines = []
    if missing := len(wanted.keys() - found.keys()):
        lines.append(f"{missing} of {len(wanted)} objects are missing")
    if extra := len(found.keys() - wanted.keys()):
        lines.append(f"{extra} objects are not of the set")
    if wrong := sum(1 for key, size in wanted.items() if found.get(key, size) != size):
        lines.append(f"{wrong} objects have another size")
    present = sorted(wanted.keys() & found.keys())
    for key in random.Random(work.name).sample(present, min(_SPOT_CHECKS, len(present))):  # noqa: S311
        if _sha256(client, bucket, key) != _sha256(source.client(), work.bucket, key):
            lines.append(f"{key} has other bytes")
    return lines


def _sha256(client: Any, bucket: str, key: str) -> str:
    digest = hashlib.sha256()
    for piece in client.get_object(Bucket=bucket, Key=key)["Body"].iter_chunks(_MIB):
        digest.update(piece)
    return digest.hexdigest()
