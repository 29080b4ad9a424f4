"""Rows of a spooled inventory file, in any format, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from model.errors import InvalidInput
from model.objects import BadRow, InventoryRow
from storage.inventory.columns import InventoryFormat
from storage.inventory.csv_rows import CsvLayout, count_csv, read_csv
from storage.inventory.keys import KEY_DECODERS
from storage.inventory.manifest import ManifestFile
from storage.inventory.span import Span

CSV_FORMATS = frozenset({InventoryFormat.CSV, InventoryFormat.BATCH_OPERATIONS_CSV})


def read_rows(
    path: Path,
    file_format: InventoryFormat,
    columns: Sequence[str],
    file: ManifestFile,
    *,
    csv_key_encoding: str = "plus",
    start_row: int = 0,
    stop_row: int | None = None,
    batch_rows: int = 1000,
) -> Iterator[list[InventoryRow | BadRow]]:
    """The rows `start_row` <= number < `stop_row` of the local copy `path` of `file`, at most `batch_rows` at a time.

    `columns` are the manifest's (used for CSV only); `csv_key_encoding` is plus, percent or none. Rows are numbered
    from 0 in file order, bad ones included, so a number means the same row whatever the batches and ranges.
    A bad row is a BadRow in its place and never stops the file. May be repeated.

    Raises CorruptInventoryFile when the file cannot be parsed (rows before the damage may have been given out)
    and InvalidInput for an unknown encoding.
    """
    if csv_key_encoding not in KEY_DECODERS:
        raise InvalidInput(f"--csv_key_encoding={csv_key_encoding} is unknown: give one of {', '.join(KEY_DECODERS)}")
    span = Span(start_row, stop_row, batch_rows)
    if file_format in CSV_FORMATS:
        optional = 1 if file_format is InventoryFormat.BATCH_OPERATIONS_CSV else 0
        return read_csv(path, file, CsvLayout(columns, optional, csv_key_encoding), span)
    from storage.inventory.arrow_rows import read_arrow  # noqa: PLC0415 - pyarrow is heavy

    return read_arrow(path, file_format, file, span)


def count_rows(path: Path, file_format: InventoryFormat) -> int:
    """How many rows `read_rows` gives for the whole file, bad ones included.

    Parquet and ORC answer from their footer; CSV is read through. Raises CorruptInventoryFile. May be repeated.
    """
    if file_format in CSV_FORMATS:
        return count_csv(path)
    from storage.inventory.arrow_rows import count_arrow  # noqa: PLC0415 - pyarrow is heavy

    return count_arrow(path, file_format)
