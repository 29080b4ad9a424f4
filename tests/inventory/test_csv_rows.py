"""Rows of CSV inventories: values, bad rows and damaged files."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from model.errors import InvalidInput
from model.objects import BadRow, InventoryRow
from storage.inventory.columns import InventoryFormat
from storage.inventory.errors import CorruptInventoryFile
from storage.inventory.rows import count_rows, read_rows
from tests.inventory.helpers import bad, file_at, keys, read_csv_text

GOOD = '"src","good","1"\n'


def test_values_are_taken_by_the_names_in_the_schema(tmp_path: Path) -> None:
    rows = read_csv_text(
        tmp_path,
        '"STANDARD","7","a%20b+c","src","2026-11-22T00:00:00.000Z","""0cc175b9""","v1","false","true","ARCHIVE"\n',
        "StorageClass, Size, Key, Bucket, LastModifiedDate, ETag, VersionId, IsLatest, IsDeleteMarker, "
        "IntelligentTieringAccessTier",
    )
    assert rows == [
        InventoryRow(
            file_number=3,
            row_number=0,
            bucket="src",
            key="a b c",
            version_id="v1",
            is_latest=False,
            is_delete_marker=True,
            size=7,
            etag="0cc175b9",
            storage_class="STANDARD",
            access_tier="ARCHIVE",
            last_modified="2026-11-22T00:00:00.000Z",
        )
    ]


def test_absent_columns_are_none(tmp_path: Path) -> None:
    assert read_csv_text(tmp_path, '"src","k"\n', "Bucket, Key") == [InventoryRow(3, 0, "src", "k")]


def test_empty_values_are_none(tmp_path: Path) -> None:
    rows = read_csv_text(
        tmp_path,
        '"src","k","","","","","","","",""\n',
        "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, ETag, StorageClass, LastModifiedDate, "
        "IntelligentTieringAccessTier",
    )
    assert rows == [InventoryRow(3, 0, "src", "k")]


def test_unknown_columns_are_passed_over(tmp_path: Path) -> None:
    rows = read_csv_text(tmp_path, '"x","src","k","y"\n', "NewThing, Bucket, Key, OtherThing")
    assert keys(rows) == ["k"]


def test_unquoted_values_and_crlf_are_read(tmp_path: Path) -> None:
    assert keys(read_csv_text(tmp_path, "src,a,1\r\nsrc,b,2\r\n")) == ["a", "b"]


def test_a_plain_file_is_read_as_well(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(GOOD)
    (batch,) = read_rows(path, InventoryFormat.CSV, ("Bucket", "Key", "Size"), file_at(path))
    assert keys(batch) == ["good"]


def test_a_raw_key_may_hold_quotes_commas_and_newlines(tmp_path: Path) -> None:
    text = '"src","say ""hi"", twice\nand é","1"\n' + GOOD
    rows = read_csv_text(tmp_path, text, csv_key_encoding="none")
    assert keys(rows) == ['say "hi", twice\nand é', "good"]
    assert [row.row_number for row in rows] == [0, 1]


def test_empty_lines_are_no_rows(tmp_path: Path) -> None:
    rows = read_csv_text(tmp_path, f"\n{GOOD}\r\n\n{GOOD}\n")
    assert [row.row_number for row in rows] == [0, 1]


def test_the_number_of_columns_must_be_the_schemas(tmp_path: Path) -> None:
    rows = read_csv_text(tmp_path, f'{GOOD}"src","k"\n"src","k","1","more"\n{GOOD}')
    assert bad(rows) == [(3, 1, "row has 2 columns, expected 3"), (3, 2, "row has 4 columns, expected 3")]
    assert isinstance(rows[1], BadRow)
    assert rows[1].text == "src,k"
    assert isinstance(rows[3], InventoryRow)


def test_a_row_that_is_not_csv_is_bad_and_the_next_is_read(tmp_path: Path) -> None:
    rows = read_csv_text(tmp_path, f'{GOOD}"src","a"b","1"\n{GOOD}')
    assert [(number, row) for number, row, _ in bad(rows)] == [(3, 1)]
    assert bad(rows)[0][2].startswith("row is not valid CSV")
    assert len(rows) == 3


def test_an_unclosed_quote_spoils_at_most_the_rows_it_swallows(tmp_path: Path) -> None:
    rows = read_csv_text(tmp_path, GOOD + '"src","a,"1"\n' + GOOD * 3)
    assert [number for _, number, _ in bad(rows)] == [1]
    assert [row.row_number for row in rows] == list(range(len(rows)))
    assert isinstance(rows[-1], InventoryRow)


def test_an_unclosed_quote_at_the_end_is_a_bad_row(tmp_path: Path) -> None:
    rows = read_csv_text(tmp_path, GOOD + '"src","a')
    assert [number for _, number, _ in bad(rows)] == [1]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("%FF", "key is not UTF-8 at byte 0"),
        ("%ED%A0%80", "key is not UTF-8 at byte 0"),
        ("a%00b", "key has a NUL character"),
        ("", "key is empty"),
        ("x" * 1025, "key has 1025 bytes, S3 allows 1024"),
        ("%C3%A9" * 513, "key has 1026 bytes, S3 allows 1024"),
        ("100%", "key has a % that starts no %XX, so it is not URL-encoded (see --csv_key_encoding)"),
    ],
)
def test_a_key_that_cannot_be_one_is_a_bad_row(tmp_path: Path, value: str, reason: str) -> None:
    rows = read_csv_text(tmp_path, f'{GOOD}"src","{value}","1"\n{GOOD}')
    assert bad(rows) == [(3, 1, reason)]
    assert len(rows) == 3


def test_a_raw_key_that_is_not_utf8_is_a_bad_row(tmp_path: Path) -> None:
    rows = read_csv_text(tmp_path, b'"src","\xff","1"\n' + GOOD.encode(), csv_key_encoding="none")
    assert bad(rows) == [(3, 0, "key is not valid UTF-8")]


def test_a_key_of_1024_bytes_is_good(tmp_path: Path) -> None:
    assert keys(read_csv_text(tmp_path, f'"src","{"%C3%A9" * 512}","1"\n')) == ["é" * 512]


@pytest.mark.parametrize("size", ["-1", "1.5", "ten", "1_000", " 1", "٣"])
def test_a_size_that_is_no_whole_number_is_a_bad_row(tmp_path: Path, size: str) -> None:
    rows = read_csv_text(tmp_path, f'{GOOD}"src","k","{size}"\n{GOOD}')
    assert bad(rows) == [(3, 1, f"size {size!r} is not a whole number of bytes")]


def test_a_flag_that_is_neither_true_nor_false_is_a_bad_row(tmp_path: Path) -> None:
    rows = read_csv_text(tmp_path, '"src","a","TRUE"\n"src","b","yes"\n', "Bucket, Key, IsLatest")
    assert bad(rows) == [(3, 1, "is_latest 'yes' is neither true nor false")]


def test_a_row_without_bucket_is_bad(tmp_path: Path) -> None:
    assert bad(read_csv_text(tmp_path, '"","k","1"\n')) == [(3, 0, "bucket is empty")]


def test_other_text_that_cannot_be_stored_is_a_bad_row(tmp_path: Path) -> None:
    rows = read_csv_text(tmp_path, b'"src","k","e\x00"\n"src","k","\xff"\n', "Bucket, Key, ETag")
    assert bad(rows) == [(3, 0, "ETag has a NUL character"), (3, 1, "ETag is not valid UTF-8")]


def test_the_text_of_a_bad_row_can_always_be_stored(tmp_path: Path) -> None:
    (row,) = read_csv_text(tmp_path, b'"src","\x00\xff' + b"y" * 9000 + b'","1"\n', csv_key_encoding="none")
    assert isinstance(row, BadRow)
    row.text.encode("utf-8")
    assert "\0" not in row.text
    assert len(row.text) < 3000


def test_counting_counts_bad_rows_too(tmp_path: Path) -> None:
    text = f'{GOOD}\n"src","a"b","1"\n"short"\n{GOOD}"unclosed'
    rows = read_csv_text(tmp_path, text)
    assert count_rows(tmp_path / "rows.csv.gz", InventoryFormat.CSV) == len(rows) == 5


def test_start_behind_the_end_gives_nothing(tmp_path: Path) -> None:
    assert read_csv_text(tmp_path, GOOD, start_row=5) == []


def _many_rows() -> bytes:
    return "".join(f'"src","key-{number * 7919 % 100003}","{number}"\n' for number in range(50_000)).encode()


def _damaged(tmp_path: Path, body: bytes) -> tuple[int, str]:
    """How many rows were read before the error, and its message."""
    path = tmp_path / "rows.csv.gz"
    path.write_bytes(body)
    seen = 0
    with pytest.raises(CorruptInventoryFile) as caught:
        for batch in read_rows(path, InventoryFormat.CSV, ("Bucket", "Key", "Size"), file_at(path)):
            seen += len(batch)
    with pytest.raises(CorruptInventoryFile):
        count_rows(path, InventoryFormat.CSV)
    return seen, str(caught.value)


def test_a_truncated_gzip_names_file_and_row(tmp_path: Path) -> None:
    body = gzip.compress(_many_rows())
    seen, message = _damaged(tmp_path, body[: len(body) // 2])
    assert message.startswith(f"inventory file 3 ({tmp_path / 'rows.csv.gz'}) is damaged at row ")
    assert seen <= int(message.split(" at row ")[1].split()[0]) < 50_000
    assert "\n" not in message


def test_a_wrong_crc_names_file_and_row(tmp_path: Path) -> None:
    body = bytearray(gzip.compress(_many_rows()))
    body[-6] ^= 1
    _, message = _damaged(tmp_path, bytes(body))
    assert "CRC check failed" in message


def test_broken_deflate_data_names_file_and_row(tmp_path: Path) -> None:
    body = bytearray(gzip.compress(_many_rows()))
    body[len(body) // 2 : len(body) // 2 + 64] = bytes(64)
    _, message = _damaged(tmp_path, bytes(body))
    assert "is damaged at row" in message


def test_a_gz_file_that_is_not_gzip_is_damaged(tmp_path: Path) -> None:
    _, message = _damaged(tmp_path, _many_rows())
    assert "is not gzip" in message


def test_an_unknown_key_encoding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="--csv_key_encoding=base64 is unknown"):
        read_csv_text(tmp_path, GOOD, csv_key_encoding="base64")
