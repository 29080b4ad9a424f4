"""The inventory writer: what S3 itself would have written."""

from __future__ import annotations

import gzip
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyarrow import orc

from local.inventory import write_inventory
from model.errors import InvalidInput
from storage.inventory.columns import BY_NAME
from tests.inventory.helpers import FORMATS, FULL, WHEN, keys, load, read_manifest, write_tree

ROW = {
    "key": 'a b+c/"é".txt',
    "version_id": "v1",
    "is_latest": True,
    "is_delete_marker": False,
    "size": 7,
    "last_modified_date": datetime(2026, 11, 21, 1, 2, 3, 456789, tzinfo=UTC),
    "e_tag": "0cc175b9c0f1b6a831c399e269772661",
    "storage_class": "STANDARD",
}


def entry(manifest: Path) -> tuple[dict[str, Any], Path]:
    """The manifest and the path of its first file."""
    stated = json.loads(manifest.read_bytes())
    return stated, manifest.parents[4] / stated["files"][0]["key"]


def test_a_csv_file_is_written_as_s3_writes_it(tmp_path: Path) -> None:
    stated, path = entry(write_tree(tmp_path, [ROW], "CSV", columns=FULL))
    assert stated["fileSchema"] == (
        "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate, ETag, StorageClass, "
        "IsMultipartUploaded, IntelligentTieringAccessTier, ObjectOwner"
    )
    assert gzip.decompress(path.read_bytes()).decode() == (
        '"src","a+b%2Bc/%22%C3%A9%22.txt","v1","true","false","7","2026-11-21T01:02:03.456Z",'
        '"0cc175b9c0f1b6a831c399e269772661","STANDARD","","",""\n'
    )


def test_a_parquet_file_is_written_as_s3_writes_it(tmp_path: Path) -> None:
    stated, path = entry(write_tree(tmp_path, [ROW], "Parquet"))
    assert stated["fileSchema"] == (
        "message s3.inventory { required binary bucket (UTF8); required binary key (UTF8); optional int64 size; "
        "optional int64 last_modified_date (TIMESTAMP_MILLIS); optional binary e_tag (UTF8); "
        "optional binary storage_class (UTF8); }"
    )
    column = pq.read_metadata(path).row_group(0).column(1)
    assert (column.compression, column.physical_type) == ("SNAPPY", "BYTE_ARRAY")
    schema = pq.ParquetFile(path).schema
    assert schema.column(3).converted_type == "TIMESTAMP_MILLIS"
    assert schema.column(1).max_definition_level == 0


def test_an_orc_file_is_written_as_s3_writes_it(tmp_path: Path) -> None:
    stated, path = entry(write_tree(tmp_path, [ROW], "ORC"))
    assert stated["fileSchema"] == (
        "struct<bucket:string,key:string,size:bigint,last_modified_date:timestamp,e_tag:string,storage_class:string>"
    )
    assert orc.ORCFile(path).compression == "ZLIB"


@pytest.mark.parametrize(("format", "suffix"), [("CSV", "csv.gz"), ("Parquet", "parquet"), ("ORC", "orc")])
def test_keys_and_manifest_have_the_documented_form(tmp_path: Path, format: str, suffix: str) -> None:
    stored: dict[str, bytes] = {}

    def put(key: str, body: bytes | Path) -> None:
        stored[key] = body if isinstance(body, bytes) else body.read_bytes()

    key = write_inventory(
        [ROW],
        format=format,
        put=put,
        source_bucket="src",
        inventory_bucket="inv",
        prefix="reports/",
        config_id="daily",
        when=WHEN,
    )
    data, manifest, checksum = stored
    assert key == manifest == "reports/src/daily/2026-11-22T00-00Z/manifest.json"
    assert checksum == "reports/src/daily/2026-11-22T00-00Z/manifest.checksum"
    assert data.startswith("reports/src/daily/data/")
    assert data.endswith(f".{suffix}")
    assert stored[checksum].decode() == hashlib.md5(stored[manifest], usedforsecurity=False).hexdigest() + "\n"
    stated = json.loads(stored[manifest])
    del stated["fileSchema"]
    assert stated == {
        "sourceBucket": "src",
        "destinationBucket": "arn:aws:s3:::inv",
        "version": "2016-11-30",
        "creationTimestamp": "1795305600000",
        "fileFormat": format,
        "files": [
            {
                "key": data,
                "size": len(stored[data]),
                "MD5checksum": hashlib.md5(stored[data], usedforsecurity=False).hexdigest(),
            }
        ],
    }


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_rows_give_the_same_files(tmp_path: Path, format: str) -> None:
    def written(folder: str) -> dict[str, bytes]:
        root = tmp_path / folder
        write_tree(root, [ROW] * 3, format, rows_per_file=2)
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    assert written("first") == written("second")


@pytest.mark.parametrize("format", FORMATS)
def test_every_documented_column_can_be_written(tmp_path: Path, format: str) -> None:
    manifest = load(write_tree(tmp_path, [ROW], format, columns=tuple(BY_NAME)))
    assert keys(read_manifest(manifest)) == [ROW["key"]]


def test_an_unknown_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="an inventory has no column etag"):
        write_tree(tmp_path, [ROW], columns=("bucket", "key", "etag"))


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be written as JSON"):
        write_tree(tmp_path, [ROW], "JSON")
