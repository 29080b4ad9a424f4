"""Manifests: what is accepted, what is refused and in which words, and where local files are looked for."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from model.errors import InvalidInput
from model.objects import InventoryRow
from storage.inventory.columns import InventoryFormat
from storage.inventory.location import LocalInventoryStore, Location, parse_location
from storage.inventory.manifest import load_manifest, resolve_latest
from tests.inventory.helpers import FORMATS, WHEN, bad, keys, load, read_manifest, write_tree

STORE = LocalInventoryStore()
ROWS = [{"key": "a b", "size": 1}, {"key": "c", "size": 2}]


def rewrite(manifest: Path, **changes: Any) -> Path:
    """The manifest with other values (None removes one) and the checksum that belongs to them."""
    stated = {**json.loads(manifest.read_bytes()), **changes}
    body = json.dumps({name: value for name, value in stated.items() if value is not None}).encode()
    manifest.write_bytes(body)
    manifest.with_name("manifest.checksum").write_text(hashlib.md5(body, usedforsecurity=False).hexdigest() + "\n")
    return manifest


def refusal(manifest: Path) -> str:
    with pytest.raises(InvalidInput) as caught:
        load_manifest(STORE, parse_location(str(manifest)), pause=lambda seconds: None)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("format", FORMATS)
def test_a_manifest_tells_what_the_inventory_consists_of(tmp_path: Path, format: str) -> None:
    path = write_tree(tmp_path, ROWS, format, rows_per_file=1)
    manifest = load(path)
    assert manifest.uri == str(path)
    assert manifest.checksum == hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    assert (manifest.source_bucket, manifest.inventory_bucket) == ("src", "inv")
    assert manifest.format == format
    assert manifest.created_at == WHEN
    assert [file.file_number for file in manifest.files] == [0, 1]
    assert all(file.size == Path(file.location.key).stat().st_size for file in manifest.files)
    assert pickle.loads(pickle.dumps(manifest)) == manifest
    assert keys(read_manifest(manifest)) == ["a b", "c"]


def test_a_manifest_without_files_is_valid(tmp_path: Path) -> None:
    assert load(write_tree(tmp_path, [])).files == ()


def test_unknown_entries_of_the_manifest_are_passed_over(tmp_path: Path) -> None:
    assert len(load(rewrite(write_tree(tmp_path, ROWS), somethingNew={"a": 1})).files) == 1


def test_the_schema_of_parquet_and_orc_is_not_read_from_the_manifest(tmp_path: Path) -> None:
    path = rewrite(write_tree(tmp_path, ROWS, "Parquet"), fileSchema="nonsense")
    assert load(path).columns == ()
    assert keys(read_manifest(load(path))) == ["a b", "c"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": "2021-11-30"}, "has version '2021-11-30': only manifests of version 2016-11-30"),
        ({"version": None}, "has version None"),
        ({"fileFormat": "JSON"}, "has fileFormat 'JSON': only CSV, Parquet and ORC"),
        ({"fileSchema": "Bucket, Size"}, "has a fileSchema with 0 columns Key"),
        ({"fileSchema": "Bucket, Key, Key"}, "has a fileSchema with 2 columns Key"),
        ({"fileSchema": None}, "has a fileSchema with 0 columns Bucket"),
        ({"files": None}, "has no list `files`"),
        ({"files": [{"size": 1}]}, "names no key for file 0"),
        ({"files": [{"key": "k", "size": -1}]}, "states size -1 for file 0 (k)"),
        ({"files": [{"key": "data/gone.csv.gz"}]}, "names the file data/gone.csv.gz, which is neither under"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    path = rewrite(write_tree(tmp_path, ROWS), **changes)
    assert refusal(path).startswith(f"{path} {words}")


def test_broken_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text('{"version": ')
    assert "is not valid JSON" in refusal(path)


def test_a_missing_manifest_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "manifest.json") == f"{tmp_path / 'manifest.json'} does not exist: check the path"


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert "is a folder: give the path of a manifest, or FOLDER/latest" in refusal(tmp_path)


@pytest.mark.parametrize("text", ["s3://", "s3://bucket", "s3:///key", "gs://bucket/key", "https://host/key", ""])
def test_a_location_that_names_no_manifest_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="give s3://BUCKET/KEY"):
        parse_location(text)


def test_a_location_reads_as_it_was_written() -> None:
    assert str(parse_location("s3://inv/a//b")) == "s3://inv/a//b"
    assert parse_location("s3://inv/a/latest/") == Location("inv", "a/latest")


def test_a_manifest_needs_no_checksum(tmp_path: Path) -> None:
    path = write_tree(tmp_path, ROWS)
    path.with_name("manifest.checksum").unlink()
    assert len(load(path).files) == 1


def test_a_manifest_that_never_matches_its_checksum_is_refused(tmp_path: Path) -> None:
    path = write_tree(tmp_path, ROWS)
    path.with_name("manifest.checksum").write_text("0" * 32 + "\n")
    assert f"{path} does not match its manifest.checksum" in refusal(path)


def test_a_manifest_rewritten_meanwhile_is_read_again(tmp_path: Path) -> None:
    path = write_tree(tmp_path, ROWS)
    before = path.read_bytes()
    rewrite(path, sourceBucket="newer")
    after = path.read_bytes()
    path.write_bytes(before)

    pauses: list[float] = []

    def finish_writing(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            path.write_bytes(after)

    manifest = load_manifest(STORE, parse_location(str(path)), pause=finish_writing)
    assert manifest.source_bucket == "newer"
    assert pauses == [1.0, 2.0]


def test_latest_is_the_newest_dated_folder_with_a_checksum(tmp_path: Path) -> None:
    older = write_tree(tmp_path, ROWS)
    newer = write_tree(tmp_path, ROWS, when=WHEN + timedelta(days=1))
    unfinished = write_tree(tmp_path, ROWS, when=WHEN + timedelta(days=2))
    unfinished.with_name("manifest.checksum").unlink()
    stray = older.parent.parent / "zzz"
    stray.mkdir()
    (stray / "manifest.checksum").write_text("x")
    latest = parse_location(str(older.parent.parent / "latest"))
    assert resolve_latest(STORE, latest) == parse_location(str(newer))


def test_latest_without_a_finished_inventory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"has no folder YYYY-MM-DDTHH-MMZ with a manifest\.checksum"):
        resolve_latest(STORE, parse_location(str(tmp_path / "latest")))


def test_a_checksum_stands_for_the_manifest_beside_it(tmp_path: Path) -> None:
    manifest = write_tree(tmp_path, ROWS)
    checksum = parse_location(str(manifest.with_name("manifest.checksum")))
    assert resolve_latest(STORE, checksum) == parse_location(str(manifest))


def test_any_other_location_is_its_own_latest(tmp_path: Path) -> None:
    location = parse_location(str(tmp_path / "manifest.json"))
    assert resolve_latest(STORE, location) == location


def test_local_files_are_found_in_the_mirrored_bucket(tmp_path: Path) -> None:
    (file,) = load(write_tree(tmp_path, ROWS)).files
    assert Path(file.location.key).parent == tmp_path / "reports/src/daily/data"


@pytest.mark.parametrize("place", ["../data", "data"])
def test_local_files_are_found_in_a_data_folder_by_name(tmp_path: Path, place: str) -> None:
    original = write_tree(tmp_path / "bucket", ROWS)
    manifest = tmp_path / "copy/2026-11-22T00-00Z/manifest.json"
    shutil.copytree(original.parent, manifest.parent)
    data = (manifest.parent / place).resolve()
    shutil.copytree(tmp_path / "bucket/reports/src/daily/data", data)
    shutil.rmtree(tmp_path / "bucket")
    (file,) = load(manifest).files
    assert Path(file.location.key).parent == data


def test_a_batch_operations_csv_is_a_manifest_of_one_file(tmp_path: Path) -> None:
    path = tmp_path / "retry.csv"
    path.write_text("src,a%20b%2Bc\nsrc,d,v1\n")
    manifest = load(path)
    assert manifest.format is InventoryFormat.BATCH_OPERATIONS_CSV
    assert manifest.checksum == hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    assert [(file.size, file.md5) for file in manifest.files] == [(path.stat().st_size, manifest.checksum)]
    assert read_manifest(manifest) == [
        InventoryRow(0, 0, "src", "a b+c"),
        InventoryRow(0, 1, "src", "d", version_id="v1"),
    ]


def test_a_batch_operations_csv_may_be_gzip(tmp_path: Path) -> None:
    import gzip

    path = tmp_path / "retry.csv.gz"
    path.write_bytes(gzip.compress(b"src,a\n"))
    assert keys(read_manifest(load(path))) == ["a"]


def test_a_batch_operations_row_has_two_or_three_columns(tmp_path: Path) -> None:
    path = tmp_path / "retry.csv"
    path.write_text("src\nsrc,a,v,more\nsrc,b\n")
    rows = read_manifest(load(path))
    assert bad(rows) == [
        (0, 0, "row has 1 columns, expected 2 or 3"),
        (0, 1, "row has 4 columns, expected 2 or 3"),
    ]


def test_an_empty_batch_operations_csv_is_a_manifest_without_files(tmp_path: Path) -> None:
    path = tmp_path / "retry.csv"
    path.touch()
    assert load(path).files == ()
