"""Writes an S3 Inventory as S3 itself does, for the demonstration and the tests.

Source of layout, names and schemas: S3 user guide, «Locating your inventory list» and «Amazon S3 Inventory list».
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import tempfile
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from typing import Any

from model.errors import InvalidInput
from storage.inventory.columns import BY_NAME, REQUIRED, Column, InventoryFormat, Kind
from storage.inventory.keys import encode_key
from storage.inventory.manifest import VERSION

DEFAULT_COLUMNS = ("bucket", "key", "size", "last_modified_date", "e_tag", "storage_class")
BATCH_ROWS = 32_768

SUFFIXES = {InventoryFormat.CSV: "csv.gz", InventoryFormat.PARQUET: "parquet", InventoryFormat.ORC: "orc"}

Row = Mapping[str, Any]
"""Values by the documented snake_case names. Sizes in bytes, times as datetime or ISO 8601 text, absent = None."""

Put = Callable[[str, bytes | Path], None]
"""Stores a key of the inventory bucket from bytes or from a file that exists during the call only."""


def write_inventory(
    rows: Iterable[Row],
    *,
    format: str,
    put: Put,
    source_bucket: str,
    inventory_bucket: str,
    prefix: str,
    config_id: str,
    when: datetime,
    columns: Sequence[str] = DEFAULT_COLUMNS,
    rows_per_file: int = 1_000_000,
) -> str:
    """Writes data files, manifest.json and, last, manifest.checksum; gives the manifest's key.

    `format` is CSV, Parquet or ORC; `columns` are documented snake_case names, bucket and key among them; `when` is
    the aware time of the inventory. A row without `bucket` is of `source_bucket`. Constant memory; no rows give a
    manifest without files. The same input gives the same keys and bytes, so it may be repeated. Raises InvalidInput
    for an unknown format or column.
    """
    chosen = _columns(columns)
    kind = _format(format)
    base = "/".join(part for part in (prefix.strip("/"), source_bucket, config_id) if part)
    files = []
    for chunk in _chunks(rows, rows_per_file):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "data"
            _write_file(kind, path, chosen, ({"bucket": source_bucket, **row} for row in chunk))
            entry = _entry(path, f"{base}/data", SUFFIXES[kind])
            put(str(entry["key"]), path)
            files.append(entry)
    manifest = {
        "sourceBucket": source_bucket,
        "destinationBucket": f"arn:aws:s3:::{inventory_bucket}",
        "version": VERSION,
        "creationTimestamp": str(int(when.timestamp() * 1000)),
        "fileFormat": kind.value,
        "fileSchema": file_schema(kind, columns),
        "files": files,
    }
    body = json.dumps(manifest, indent=2).encode()
    folder_key = f"{base}/{when.astimezone(UTC):%Y-%m-%dT%H-%MZ}"
    put(f"{folder_key}/manifest.json", body)
    put(f"{folder_key}/manifest.checksum", f"{hashlib.md5(body, usedforsecurity=False).hexdigest()}\n".encode())
    return f"{folder_key}/manifest.json"


def file_schema(format: InventoryFormat, columns: Sequence[str]) -> str:
    """The manifest's `fileSchema` for `columns` (snake_case names), as S3 words it for each format."""
    chosen = _columns(columns)
    if format is InventoryFormat.CSV:
        return ", ".join(column.csv_name for column in chosen)
    if format is InventoryFormat.ORC:
        return f"struct<{','.join(f'{column.name}:{_ORC_TYPES[column.kind]}' for column in chosen)}>"
    fields = (_PARQUET_TYPES[column.kind].format(column.name) for column in chosen)
    presence = ("required" if column.name in REQUIRED else "optional" for column in chosen)
    return f"message s3.inventory {{ {' '.join(f'{a} {b};' for a, b in zip(presence, fields, strict=True))} }}"


_ORC_TYPES = {Kind.TEXT: "string", Kind.BOOLEAN: "boolean", Kind.INTEGER: "bigint", Kind.TIMESTAMP: "timestamp"}

_PARQUET_TYPES = {
    Kind.TEXT: "binary {} (UTF8)",
    Kind.BOOLEAN: "boolean {}",
    Kind.INTEGER: "int64 {}",
    Kind.TIMESTAMP: "int64 {} (TIMESTAMP_MILLIS)",
}


def _columns(names: Sequence[str]) -> tuple[Column, ...]:
    unknown = [name for name in names if name not in BY_NAME]
    if unknown:
        raise InvalidInput(f"an inventory has no column {unknown[0]}: choose from {', '.join(BY_NAME)}")
    if not set(REQUIRED) <= set(names):
        raise InvalidInput("an inventory needs the columns bucket and key")
    return tuple(BY_NAME[name] for name in names)


def _format(name: str) -> InventoryFormat:
    for known in SUFFIXES:
        if known.lower() == name.lower():
            return known
    raise InvalidInput(f"an inventory cannot be written as {name}: choose CSV, Parquet or ORC")


def _chunks(rows: Iterable[Row], count: int) -> Iterator[Iterator[Row]]:
    """`rows` cut into runs of `count`, none of them empty or held in memory."""
    source = iter(rows)
    for first in source:
        yield chain((first,), islice(source, count - 1))


def _entry(path: Path, folder: str, suffix: str) -> dict[str, str | int]:
    """The manifest's entry for `path`; the name comes from the content, in the shape S3 gives it (a UUID)."""
    with path.open("rb") as opened:
        name = uuid.UUID(bytes=hashlib.file_digest(opened, "sha256").digest()[:16])
        opened.seek(0)
        md5 = hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    return {"key": f"{folder}/{name}.{suffix}", "size": path.stat().st_size, "MD5checksum": md5}


def _write_file(kind: InventoryFormat, path: Path, columns: Sequence[Column], rows: Iterator[Row]) -> None:
    writer = _WRITERS[kind](path, columns)
    while batch := list(islice(rows, BATCH_ROWS)):
        writer.write(batch)
    writer.close()


class _Writer(ABC):
    """One data file."""

    def __init__(self, path: Path, columns: Sequence[Column]) -> None:
        self._columns = columns

    @abstractmethod
    def write(self, rows: list[Row]) -> None: ...

    @abstractmethod
    def close(self) -> None: ...


class _CsvWriter(_Writer):
    """Gzip, no header, every value quoted, keys URL-encoded."""

    def __init__(self, path: Path, columns: Sequence[Column]) -> None:
        super().__init__(path, columns)
        self._raw = path.open("wb")
        # name and time would make equal rows differ in bytes
        zipped = gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=self._raw, mtime=0)
        self._text = io.TextIOWrapper(zipped, encoding="utf-8", newline="")
        self._csv = csv.writer(self._text, quoting=csv.QUOTE_ALL, lineterminator="\n")

    def write(self, rows: list[Row]) -> None:
        self._csv.writerows([_csv_value(column, row.get(column.name)) for column in self._columns] for row in rows)

    def close(self) -> None:
        self._text.close()
        self._raw.close()


class _ArrowWriter(_Writer):
    """Parquet or ORC, from the same record batches."""

    def __init__(self, path: Path, columns: Sequence[Column]) -> None:
        import pyarrow as pa  # noqa: PLC0415 - heavy, and not needed for CSV

        super().__init__(path, columns)
        types = {
            Kind.TEXT: pa.string(),
            Kind.BOOLEAN: pa.bool_(),
            Kind.INTEGER: pa.int64(),
            Kind.TIMESTAMP: self._timestamp(pa),
        }
        self._schema = pa.schema(
            [pa.field(column.name, types[column.kind], nullable=column.name not in REQUIRED) for column in columns]
        )
        self._table = pa.Table
        self._file = self._open(path)

    @abstractmethod
    def _timestamp(self, pa: Any) -> Any: ...

    @abstractmethod
    def _open(self, path: Path) -> Any: ...

    def write(self, rows: list[Row]) -> None:
        values = {column.name: [_arrow_value(column, row.get(column.name)) for row in rows] for column in self._columns}
        self._file.write(self._table.from_pydict(values, schema=self._schema))

    def close(self) -> None:
        self._file.close()


class _ParquetWriter(_ArrowWriter):
    def _timestamp(self, pa: Any) -> Any:
        return pa.timestamp("ms", tz="UTC")

    def _open(self, path: Path) -> Any:
        import pyarrow.parquet as pq  # noqa: PLC0415 - heavy

        return pq.ParquetWriter(path, self._schema, compression="snappy", store_schema=False)


class _OrcWriter(_ArrowWriter):
    def _timestamp(self, pa: Any) -> Any:
        return pa.timestamp("ns")

    def _open(self, path: Path) -> Any:
        from pyarrow import orc  # noqa: PLC0415 - heavy

        return orc.ORCWriter(path, compression="zlib")


_WRITERS: dict[InventoryFormat, type[_Writer]] = {
    InventoryFormat.CSV: _CsvWriter,
    InventoryFormat.PARQUET: _ParquetWriter,
    InventoryFormat.ORC: _OrcWriter,
}


def _csv_value(column: Column, value: Any) -> str:
    if value is None:
        return ""
    if column.name == "key":
        return encode_key(value)
    if column.kind is Kind.BOOLEAN:
        return "true" if value else "false"
    if column.kind is Kind.TIMESTAMP:
        return _instant(value).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return str(value)


def _arrow_value(column: Column, value: Any) -> Any:
    """Times lose their zone for ORC and keep it for Parquet by the schema; both are UTC."""
    if column.kind is Kind.TIMESTAMP and value is not None:
        instant = _instant(value)
        return instant.replace(microsecond=instant.microsecond // 1000 * 1000, tzinfo=None)
    return value


def _instant(value: datetime | str) -> datetime:
    """In UTC; a time without zone is taken as UTC."""
    instant = datetime.fromisoformat(value) if isinstance(value, str) else value
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
