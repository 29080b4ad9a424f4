"""Small inventories on the local disk, and ways to read them whole."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from local.inventory import DEFAULT_COLUMNS, Put, write_inventory
from model.objects import BadRow, InventoryRow
from storage.inventory.columns import InventoryFormat
from storage.inventory.location import LocalInventoryStore, Location, parse_location
from storage.inventory.manifest import Manifest, ManifestFile, load_manifest
from storage.inventory.rows import read_rows

WHEN = datetime(2026, 11, 22, tzinfo=UTC)
FORMATS = ("CSV", "Parquet", "ORC")
FULL = (
    "bucket",
    "key",
    "version_id",
    "is_latest",
    "is_delete_marker",
    "size",
    "last_modified_date",
    "e_tag",
    "storage_class",
    "is_multipart_uploaded",
    "intelligent_tiering_access_tier",
    "object_owner",
)

Rows = list[InventoryRow | BadRow]


def put_into(root: Path) -> Put:
    """Stores keys as files under `root`, as a mirrored bucket would have them."""

    def put(key: str, body: bytes | Path) -> None:
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(body, bytes):
            path.write_bytes(body)
        else:
            shutil.copyfile(body, path)

    return put


def write_tree(root: Path, rows: Iterable[Mapping[str, Any]], format: str = "CSV", **changes: Any) -> Path:
    """An inventory of bucket `src` in a local mirror of its bucket; gives the path of manifest.json."""
    settings: dict[str, Any] = {
        "put": put_into(root),
        "source_bucket": "src",
        "inventory_bucket": "inv",
        "prefix": "reports",
        "config_id": "daily",
        "when": WHEN,
        "columns": DEFAULT_COLUMNS,
        **changes,
    }
    return root / write_inventory(rows, format=format, **settings)


def load(manifest: Path) -> Manifest:
    return load_manifest(LocalInventoryStore(), parse_location(str(manifest)))


def read_manifest(manifest: Manifest, **options: Any) -> Rows:
    """All rows of a manifest whose files are local."""
    return [
        row
        for file in manifest.files
        for batch in read_rows(Path(file.location.key), manifest.format, manifest.columns, file, **options)
        for row in batch
    ]


def file_at(path: Path, number: int = 3) -> ManifestFile:
    return ManifestFile(number, Location(None, str(path)), None, None)


def read_csv_text(folder: Path, text: str | bytes, columns: str = "Bucket, Key, Size", **options: Any) -> Rows:
    """The rows of a gzip CSV file with this text, which is file number 3 of its manifest."""
    path = folder / "rows.csv.gz"
    path.write_bytes(gzip.compress(text if isinstance(text, bytes) else text.encode(), mtime=0))
    names = tuple(columns.split(", "))
    return [row for batch in read_rows(path, InventoryFormat.CSV, names, file_at(path), **options) for row in batch]


def keys(rows: Rows) -> list[str]:
    assert not [row for row in rows if isinstance(row, BadRow)], rows
    return [row.key for row in rows if isinstance(row, InventoryRow)]


def bad(rows: Rows) -> list[tuple[int, int, str]]:
    """File number, row number and reason of each bad row."""
    return [(row.file_number, row.row_number, row.reason) for row in rows if isinstance(row, BadRow)]
