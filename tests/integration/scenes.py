"""Sources to copy from: objects in a bucket, and inventories of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from local.inventory import DEFAULT_COLUMNS, write_inventory
from local.workload import WorkObject, awkward, seed, with_metadata
from tests.fixtures.s3 import S3Server

MIB = 1024**2
KIB = 1024
WHEN = datetime(2026, 11, 22, tzinfo=UTC)
SPLIT = ("--medium_up_to=8MiB", "--part_size=5MiB")
"""Flags that send a few MB to the medium branch and more than 8 MiB to the large one, in parts of 5 MiB."""

UNSTORABLE = {
    "minio": {"awkward//double//slash"},
    "versitygw": {"awkward//double//slash"},
    "moto": set(),
}
"""Awkward keys a server of the tests refuses, or stores under another name."""


@dataclass(frozen=True)
class Scene:
    """Objects in `bucket` of `server`; `rows` are an inventory's rows of them."""

    server: S3Server
    bucket: str
    rows: list[dict[str, Any]]

    @property
    def keys(self) -> list[str]:
        return [row["key"] for row in self.rows]

    def inventory(
        self,
        rows: Iterable[Mapping[str, Any]] | None = None,
        *,
        format: str = "CSV",
        columns: Sequence[str] = DEFAULT_COLUMNS,
        config_id: str = "daily",
        when: datetime = WHEN,
        rows_per_file: int = 1_000_000,
        put: Callable[[str, bytes | Path], None] | None = None,
    ) -> str:
        """Writes an inventory of `rows` (default: all) beside the objects and returns the manifest's address."""
        key = write_inventory(
            self.rows if rows is None else rows,
            format=format,
            put=put or self.put_inventory,
            source_bucket=self.bucket,
            inventory_bucket=self.inventory_bucket,
            prefix="inventory",
            config_id=config_id,
            when=when,
            columns=columns,
            rows_per_file=rows_per_file,
        )
        return f"s3://{self.inventory_bucket}/{key}"

    @property
    def inventory_bucket(self) -> str:
        return f"{self.bucket}-inventory"

    def put_inventory(self, key: str, body: bytes | Path) -> None:
        """Stores one file of an inventory."""
        stored = body if isinstance(body, bytes) else body.read_bytes()
        self.server.client().put_object(Bucket=self.inventory_bucket, Key=key, Body=stored)


def stocked(server: S3Server, bucket: str, objects: Iterable[WorkObject]) -> Scene:
    """A scene with these objects in `bucket`, and an empty bucket for inventories of it."""
    client = server.client()
    rows = seed(client, bucket, objects)
    client.create_bucket(Bucket=f"{bucket}-inventory")
    return Scene(server, bucket, rows)


def small_objects(count: int, size: int = 10 * KIB, folder: str = "small") -> list[WorkObject]:
    """`count` objects of `size` bytes."""
    return [WorkObject(f"{folder}/{number:04}.bin", size) for number in range(count)]


def mixed_objects(*servers: S3Server) -> list[WorkObject]:
    """The mixed scenario in small: 120 small, 5 medium, 2 large (of 3 and 4 parts), awkward keys, metadata.

    Without the keys one of `servers` cannot hold.
    """
    unstorable = set[str]().union(*(UNSTORABLE[server.name] for server in servers))
    awkward_keys = [item for item in awkward() if item.key not in unstorable]
    medium = [WorkObject(f"medium/{number}.bin", 2 * MIB + number * 300_000) for number in range(4)]
    large = [WorkObject("large/one.bin", 12 * MIB + 7), WorkObject("large/two ä+.bin", 20 * MIB)]
    return small_objects(107) + awkward_keys + with_metadata() + medium + large
