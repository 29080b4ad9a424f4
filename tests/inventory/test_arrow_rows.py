"""Rows of Parquet and ORC inventories: the file's own schema, bad rows and damaged files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import orc

from model.objects import InventoryRow
from storage.inventory.columns import InventoryFormat
from storage.inventory.errors import CorruptInventoryFile
from storage.inventory.rows import count_rows, read_rows
from tests.inventory.helpers import Rows, bad, file_at, keys

BOTH = [InventoryFormat.PARQUET, InventoryFormat.ORC]


def written(folder: Path, file_format: InventoryFormat, columns: dict[str, Any], **options: Any) -> Path:
    path = folder / f"rows.{file_format.lower()}"
    table = pa.table(columns)
    if file_format is InventoryFormat.PARQUET:
        pq.write_table(table, path, **options)
    else:
        orc.write_table(table, path)
    return path


def read(path: Path, file_format: InventoryFormat, **options: Any) -> Rows:
    return [row for batch in read_rows(path, file_format, (), file_at(path), **options) for row in batch]


@pytest.mark.parametrize("file_format", BOTH)
def test_columns_are_found_by_name_in_the_files_own_schema(tmp_path: Path, file_format: InventoryFormat) -> None:
    path = written(
        tmp_path,
        file_format,
        {
            "something_new": [[1, 2]],
            "size": [7],
            "key": ["a+b%20c/é"],
            "e_tag": ['"0cc175b9"'],
            "bucket": ["src"],
            "is_latest": [False],
            "is_delete_marker": pa.array([None], pa.bool_()),
            "version_id": [""],
            "last_modified_date": pa.array([1_795_305_600_123], pa.timestamp("ms")),
            "intelligent_tiering_access_tier": ["ARCHIVE"],
        },
    )
    assert read(path, file_format) == [
        InventoryRow(
            file_number=3,
            row_number=0,
            bucket="src",
            key="a+b%20c/é",
            is_latest=False,
            size=7,
            etag="0cc175b9",
            access_tier="ARCHIVE",
            last_modified="2026-11-22T00:00:00.123Z",
        )
    ]


@pytest.mark.parametrize("file_format", BOTH)
def test_absent_columns_and_nulls_are_none(tmp_path: Path, file_format: InventoryFormat) -> None:
    path = written(
        tmp_path, file_format, {"bucket": ["src"] * 2, "key": ["a", "b"], "size": pa.array([None, 1], pa.int64())}
    )
    assert read(path, file_format) == [InventoryRow(3, 0, "src", "a"), InventoryRow(3, 1, "src", "b", size=1)]


@pytest.mark.parametrize("file_format", BOTH)
def test_a_bad_value_spoils_its_row_only(tmp_path: Path, file_format: InventoryFormat) -> None:
    raw = pa.array([b"good", b"\xff", b"\xed\xa0\x80", b"a\0b", b"", b"x" * 1025, None, b"last"], pa.binary())
    text = pa.Array.from_buffers(pa.string(), len(raw), raw.buffers())
    path = written(tmp_path, file_format, {"bucket": ["src"] * 8, "key": text, "size": [1, 1, 1, 1, 1, 1, 1, -1]})
    assert bad(read(path, file_format)) == [
        (3, 1, "key is not UTF-8 at byte 0"),
        (3, 2, "key is not UTF-8 at byte 0"),
        (3, 3, "key has a NUL character"),
        (3, 4, "key is empty"),
        (3, 5, "key has 1025 bytes, S3 allows 1024"),
        (3, 6, "key is empty"),
        (3, 7, "size '-1' is not a whole number of bytes"),
    ]


def test_a_size_that_is_no_integer_is_a_bad_row(tmp_path: Path) -> None:
    path = written(tmp_path, InventoryFormat.PARQUET, {"bucket": ["src"] * 2, "key": ["a", "b"], "size": [1.5, None]})
    assert bad(read(path, InventoryFormat.PARQUET)) == [(3, 0, "size '1.5' is not a whole number of bytes")]


def test_keys_in_plain_binary_columns_and_dictionaries_are_read(tmp_path: Path) -> None:
    columns = {"bucket": pa.array(["src", "src"]).dictionary_encode(), "key": pa.array([b"\xc3\xa9", b"b"])}
    path = written(tmp_path, InventoryFormat.PARQUET, columns)
    assert keys(read(path, InventoryFormat.PARQUET)) == ["é", "b"]


@pytest.mark.parametrize(
    "stamp",
    [
        pa.array([1_795_305_600_000], pa.int64()),
        pa.array([1_795_305_600_000_000], pa.timestamp("us")),
        pa.array([1_795_305_600_000], pa.timestamp("ms", tz="UTC")),
        pa.array(["2026-11-22T00:00:00.000Z"]),
    ],
)
def test_every_spelling_of_a_time_reads_as_in_csv(tmp_path: Path, stamp: Any) -> None:
    path = written(tmp_path, InventoryFormat.PARQUET, {"bucket": ["src"], "key": ["k"], "last_modified_date": stamp})
    (row,) = read(path, InventoryFormat.PARQUET)
    assert isinstance(row, InventoryRow)
    assert row.last_modified == "2026-11-22T00:00:00.000Z"


def test_row_numbers_run_on_over_row_groups(tmp_path: Path) -> None:
    columns = {"bucket": ["src"] * 25, "key": [f"k{number}" for number in range(25)]}
    path = written(tmp_path, InventoryFormat.PARQUET, columns, row_group_size=7)
    rows = read(path, InventoryFormat.PARQUET, start_row=9, stop_row=23, batch_rows=4)
    assert [(row.row_number, row.key) for row in rows if isinstance(row, InventoryRow)] == [
        (number, f"k{number}") for number in range(9, 23)
    ]


@pytest.mark.parametrize("file_format", BOTH)
def test_counting_agrees_with_reading(tmp_path: Path, file_format: InventoryFormat) -> None:
    path = written(tmp_path, file_format, {"bucket": ["src"] * 3, "key": ["a", "", "c"]})
    assert count_rows(path, file_format) == len(read(path, file_format)) == 3


@pytest.mark.parametrize("file_format", BOTH)
def test_a_file_without_rows_gives_none(tmp_path: Path, file_format: InventoryFormat) -> None:
    path = written(tmp_path, file_format, {"bucket": pa.array([], pa.string()), "key": pa.array([], pa.string())})
    assert read(path, file_format) == []
    assert count_rows(path, file_format) == 0


@pytest.mark.parametrize("file_format", BOTH)
def test_a_file_without_a_key_column_is_no_inventory(tmp_path: Path, file_format: InventoryFormat) -> None:
    path = written(tmp_path, file_format, {"bucket": ["src"], "name": ["k"]})
    with pytest.raises(CorruptInventoryFile, match=r"inventory file 3 .* has no column key"):
        read(path, file_format)


@pytest.mark.parametrize("file_format", BOTH)
def test_a_broken_footer_names_the_file(tmp_path: Path, file_format: InventoryFormat) -> None:
    path = written(tmp_path, file_format, {"bucket": ["src"] * 500, "key": [f"k{n}" for n in range(500)]})
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CorruptInventoryFile, match=r"inventory file 3 .* is damaged") as caught:
        read(path, file_format)
    assert "\n" not in str(caught.value)
    with pytest.raises(CorruptInventoryFile):
        count_rows(path, file_format)


@pytest.mark.parametrize("file_format", BOTH)
def test_a_broken_page_names_the_file(tmp_path: Path, file_format: InventoryFormat) -> None:
    columns = {"bucket": ["src"] * 500, "key": [f"k{n * 7919 % 1009}" for n in range(500)]}
    path = written(tmp_path, file_format, columns)
    body = bytearray(path.read_bytes())
    body[8:200] = b"\xff" * 192
    path.write_bytes(bytes(body))
    with pytest.raises(CorruptInventoryFile, match=r"inventory file 3 .* is damaged"):
        read(path, file_format)
