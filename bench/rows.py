"""Generated inventory rows and integrity records, all different and cheap to make."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from local.inventory import write_inventory
from model.records import IntegrityRecord
from model.status import DestinationEvidence, SizeClass, SourceEvidence, Status

WHEN = datetime(2026, 1, 1, tzinfo=UTC)
_BUCKET = "bench"
_SMALL, _MEDIUM, _LARGE = 100_000, 10_000_000, 500_000_000
_MEDIUM_EVERY, _LARGE_EVERY = 100, 100_000
_COLUMNS = ("bucket", "key", "version_id", "is_latest", "size", "last_modified_date", "e_tag", "storage_class")


def key(number: int) -> str:
    """A key of usual length."""
    return f"photos/2025/{number % 12 + 1:02}/album {number // 1000:06}/IMG_{number:08}.jpg"


def _size(number: int) -> int:
    if number % _LARGE_EVERY == 1:
        return _LARGE
    return _MEDIUM if number % _MEDIUM_EVERY == 1 else _SMALL + number % 1000


def inventory_rows(count: int) -> Iterator[dict[str, Any]]:
    """Rows as `local.inventory` takes them: 1 in 100 of a medium object, 1 in 100,000 of a large one."""
    for number in range(count):
        yield {
            "key": key(number),
            "is_latest": True,
            "size": _size(number),
            "last_modified_date": WHEN,
            "e_tag": f"{number:032x}",
            "storage_class": "STANDARD",
        }


def inventory(folder: Path, format: str, count: int) -> Path:
    """The manifest of an inventory of `count` rows in `folder`, written unless it is there."""
    base = folder / f"{format.lower()}-{count}"
    found = sorted(base.rglob("manifest.json"))
    if found:
        return found[0]

    def put(name: str, body: bytes | Path) -> None:
        target = base / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(body.read_bytes() if isinstance(body, Path) else body)

    manifest = write_inventory(
        inventory_rows(count),
        format=format,
        put=put,
        source_bucket=_BUCKET,
        inventory_bucket="inventory",
        prefix="",
        config_id="bench",
        when=WHEN,
        columns=_COLUMNS,
    )
    return base / manifest


def records(first: int, count: int) -> list[IntegrityRecord]:
    """What copies of small objects leave behind."""
    return [
        IntegrityRecord(
            file_number=0,
            row_number=number,
            source_bucket=_BUCKET,
            source_key=key(number),
            source_version=None,
            destination_bucket="destination",
            destination_key=key(number),
            size=_SMALL,
            size_class=SizeClass.SMALL,
            status=Status.VERIFIED,
            source_etag=f"{number:032x}",
            destination_etag=f"{number:032x}",
            md5=f"{number:032x}",
            sha256=f"{number:064x}",
            crc64nvme="rosUhgp5mIg=",
            source_evidence=SourceEvidence.ETAG_MD5,
            destination_evidence=DestinationEvidence.SIGNED_BODY,
            attempts=1,
            started_at=1.7e9,
            finished_at=1.7e9 + 1,
        )
        for number in range(first, first + count)
    ]
