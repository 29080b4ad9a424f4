"""Rows of Parquet and ORC inventories, by the names in the file's own schema."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow import orc

from model.errors import InvalidInput
from model.objects import BadRow, InventoryRow
from storage.inventory.checks import RawBatch, build_rows
from storage.inventory.columns import BY_NAME, READ, REQUIRED, InventoryFormat, Kind
from storage.inventory.errors import CorruptInventoryFile
from storage.inventory.keys import decode_utf8
from storage.inventory.manifest import ManifestFile
from storage.inventory.span import Span


def read_arrow(
    path: Path, file_format: InventoryFormat, file: ManifestFile, span: Span
) -> Iterator[list[InventoryRow | BadRow]]:
    """See `read_rows`."""
    where = f"inventory file {file.file_number} ({file.location})"
    batches = _parquet_batches if file_format is InventoryFormat.PARQUET else _orc_batches
    row = span.start
    try:
        for first, batch in batches(path, where, span):
            begin = max(span.start - first, 0)
            end = len(batch) if span.stop is None else min(len(batch), span.stop - first)
            if begin < end:
                row = first + begin
                yield _rows(file.file_number, row, batch.slice(begin, end - begin))
                row = first + end
            if span.stop is not None and first + len(batch) >= span.stop:
                return
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(where, row, error) from error


def count_arrow(path: Path, file_format: InventoryFormat) -> int:
    """See `count_rows`."""
    where = f"inventory file {path}"
    try:
        if file_format is InventoryFormat.PARQUET:
            return int(pq.read_metadata(path).num_rows)
        return int(orc.ORCFile(path).nrows)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(where, 0, error) from error


def _parquet_batches(path: Path, where: str, span: Span) -> Iterator[tuple[int, Any]]:
    """(number of its first row, batch); row groups that end before `span.start` are not read."""
    with pq.ParquetFile(path, pre_buffer=False) as opened:
        names = _wanted(opened.schema_arrow.names, where)
        first = 0
        for group in range(opened.num_row_groups):
            rows = opened.metadata.row_group(group).num_rows
            if span.stop is not None and first >= span.stop:
                return
            if first + rows > span.start:
                number = first
                for batch in opened.iter_batches(span.batch_rows, row_groups=[group], columns=names, use_threads=False):
                    yield number, batch
                    number += len(batch)
            first += rows


def _orc_batches(path: Path, where: str, span: Span) -> Iterator[tuple[int, Any]]:
    """(number of its first row, batch). The scanner streams within a stripe, ORCFile would hold it whole."""
    opened = ds.dataset(path, format="orc")
    names = _wanted(opened.schema.names, where)
    scanner = opened.scanner(
        columns=names, batch_size=span.batch_rows, batch_readahead=0, fragment_readahead=0, use_threads=False
    )
    number = 0
    for batch in scanner.to_batches():
        yield number, batch
        number += len(batch)


def _wanted(names: list[str], where: str) -> list[str]:
    for needed in REQUIRED:
        if needed not in names:
            raise CorruptInventoryFile(f"{where} has no column {needed}: it is not an S3 inventory, take another")
    return [name for name in READ if name in names]


def _rows(file_number: int, first_row: int, batch: Any) -> list[InventoryRow | BadRow]:
    raw = RawBatch(file_number, first_row, len(batch))
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        kind = BY_NAME[name].kind
        if kind is Kind.TEXT:
            raw.columns[name] = _texts(column, name, raw)
        elif kind is Kind.TIMESTAMP:
            raw.columns[name] = _timestamps(column).to_pylist()
        else:
            raw.columns[name] = column.to_pylist()
    return build_rows(raw)


def _texts(column: Any, name: str, raw: RawBatch) -> list[str | None]:
    """Strings, also from plain binary and dictionaries; bytes that are not UTF-8 spoil their row only."""
    if not pa.types.is_binary(column.type) and not pa.types.is_large_binary(column.type):
        column = column.cast(pa.string())
        try:
            strings: list[str | None] = column.to_pylist()
            return strings
        except UnicodeDecodeError:
            column = column.cast(pa.binary())
    texts: list[str | None] = []
    for index, value in enumerate(column.to_pylist()):
        try:
            texts.append(None if value is None else decode_utf8(value))
        except ValueError as error:
            raw.problems.setdefault(index, str(error).replace("key", name, 1))
            texts.append(value.decode("utf-8", "backslashreplace"))
    return texts


def _timestamps(column: Any) -> Any:
    """As a CSV inventory writes them: 2026-11-22T00:00:00.000Z. Plain integers are milliseconds since the epoch."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return column
    text = column.cast(pa.timestamp("ms"), safe=False).cast(pa.string())
    return pc.binary_join_element_wise(pc.replace_substring(text, " ", "T", max_replacements=1), "Z", "")


def _unreadable(where: str, row: int, error: Exception) -> InvalidInput:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    if "Time zone file" in reason:
        return InvalidInput(f"{where} cannot be read without the time zone database: install the package tzdata")
    return CorruptInventoryFile(
        f"{where} is damaged after row {row} ({reason}): fetch it again or take another inventory"
    )
