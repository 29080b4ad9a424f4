"""Rows into files of one format each, streaming. The same rows give the same bytes."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, BinaryIO
from urllib.parse import quote

from ledger.exports import ObjectName
from pipeline.export.schemas import Field, avro_schema, parquet_schema

_ROW_GROUP = 20_000


def write_avro(
    file: BinaryIO, name: str, fields: tuple[Field, ...], rows: Iterable[Sequence[Any]], metadata: dict[str, str]
) -> int:
    """Rows, values in the order of `fields`, as an Avro file of records `name`; returns how many."""
    import fastavro  # noqa: PLC0415 - heavy

    names, written = [field.name for field in fields], 0

    def records() -> Iterator[dict[str, Any]]:
        nonlocal written
        for row in rows:
            yield dict(zip(names, row, strict=True))
            written += 1

    # Avro wants 16 bytes that are unlikely in the data; random ones would make no two files alike.
    marker = hashlib.sha256("\0".join([name, *metadata.values()]).encode()).digest()[:16]
    schema = _sorted(fastavro.parse_schema(avro_schema(name, fields)))
    fastavro.writer(file, schema, records(), codec="deflate", metadata=metadata, sync_marker=marker)
    return written


def _sorted(schema: Any) -> Any:
    """A parsed schema with its keys in order: fastavro leaves them in that of a set, another in each process."""
    if isinstance(schema, dict):
        return {key: _sorted(schema[key]) for key in sorted(schema)}
    return [_sorted(part) for part in schema] if isinstance(schema, list) else schema


def write_parquet(
    file: BinaryIO, fields: tuple[Field, ...], rows: Iterable[Sequence[Any]], metadata: dict[str, str]
) -> int:
    """Rows, values in the order of `fields`, as a Parquet file in row groups of 20,000; returns how many."""
    import pyarrow as pa  # noqa: PLC0415 - heavy
    import pyarrow.parquet as pq  # noqa: PLC0415

    schema, written, source = parquet_schema(fields, metadata), 0, iter(rows)
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        while group := list(islice(source, _ROW_GROUP)):
            columns = zip(*group, strict=True)
            arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            written += len(group)
    return written


def write_manifest(file: BinaryIO, names: Iterable[ObjectName], *, versions: bool) -> int:
    """A Batch Operations CSV of `names`, a column for versions in every row or in none; returns how many rows.

    Keys are URL-encoded with %20 for a space and %2B for a plus, so they read alike under --csv_key_encoding=plus
    and percent. S3 user guide, «Specifying a manifest».
    """
    written = 0
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    rows = csv.writer(text, lineterminator="\n")
    for name in names:
        cells = [name.bucket, quote(name.key, safe="/")]
        rows.writerow([*cells, name.version or ""] if versions else cells)
        written += 1
    text.detach()
    return written


def write_sha256sums(file: BinaryIO, sums: Iterable[tuple[str, str]]) -> int:
    """(SHA-256, name) as `sha256sum --check` reads them; returns how many lines."""
    written = 0
    for digest, name in sums:
        file.write(sum_line(digest, name).encode())
        written += 1
    return written


def sum_line(digest: str, name: str) -> str:
    """One line of sha256sum's. A name with a backslash, line feed or carriage return is escaped, and the line says so
    with a backslash at its start (GNU coreutils manual, «md5sum invocation»).
    """
    escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return f"{'' if escaped == name else chr(92)}{digest}  {escaped}\n"
