"""Every kind of inventory a user may have, and the rows of it that are not simply copied."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from local.inventory import DEFAULT_COLUMNS
from local.workload import WorkObject
from tests.fixtures.compare import differences, keys_of
from tests.fixtures.s3 import S3Server
from tests.integration.conftest import MakeFerry, new_bucket
from tests.integration.ferry import Ferry
from tests.integration.ledger import Ledger
from tests.integration.scenes import MIB, SPLIT, Scene, small_objects, stocked

VERSION_COLUMNS = (*DEFAULT_COLUMNS, "version_id", "is_latest", "is_delete_marker")


@pytest.fixture
def scene(versitygw: S3Server) -> Scene:
    """A few small objects."""
    return stocked(versitygw, new_bucket(versitygw), small_objects(12))


@pytest.fixture
def target(versitygw: S3Server) -> str:
    """An empty bucket."""
    return new_bucket(versitygw)


@pytest.fixture
def user(versitygw: S3Server, ferry: MakeFerry, ledger: Ledger) -> Ferry:
    """A user who copies within one server, with one worker."""
    return ferry(versitygw, versitygw, ledger, "--workers=1", *SPLIT)


def is_copied(scene: Scene, target: str, keys: list[str] | None = None, prefix: str = "") -> list[str]:
    """The differences between the scene (or these of its keys) and `target`."""
    client = scene.server.client()
    return differences((client, scene.bucket), (client, target), keys=keys, destination_prefix=prefix)


def as_csv(rows: list[list[Any]], *, zipped: bool = False) -> bytes:
    """Rows as a CSV file without header."""
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return gzip.compress(text.getvalue().encode()) if zipped else text.getvalue().encode()


def test_csv_parquet_and_orc_inventories_of_one_bucket_give_the_same_ledger(
    scene: Scene, target: str, user: Ferry, ledger: Ledger
) -> None:
    told = {}
    for format in ("CSV", "Parquet", "ORC"):
        run = user.run(scene.inventory(format=format, config_id=format), f"s3://{target}/{format}/")
        assert run.code == 0, run.explain()
        rows = ledger.rows("SELECT * FROM objects WHERE run_id = %s ORDER BY source_key", run.summary["run_id"])
        same = ("source_key", "size", "size_class", "source_etag", "status", "sha256", "crc64nvme", "row_number")
        told[format] = [[row[name] for name in same] for row in rows]
        assert is_copied(scene, target, scene.keys, f"{format}/") == []
    assert told["CSV"] == told["Parquet"] == told["ORC"]
    assert len(told["CSV"]) == len(scene.rows)


def test_sizes_missing_from_a_batch_operations_manifest_are_asked_for(
    versitygw: S3Server, target: str, user: Ferry, ledger: Ledger
) -> None:
    objects = [*small_objects(5), WorkObject("blank and + plus", 10), WorkObject("large", 11 * MIB)]
    scene = stocked(versitygw, new_bucket(versitygw), objects)
    keys = [key.replace("+", "%2B").replace(" ", "+") for key in scene.keys]
    scene.put_inventory("jobs/manifest.csv", as_csv([[scene.bucket, key] for key in keys]))
    run = user.run(f"s3://{scene.inventory_bucket}/jobs/manifest.csv", f"s3://{target}")
    assert run.code == 0, run.explain()
    assert run.classes == {"small": {"VERIFIED": 6}, "large": {"VERIFIED": 1}}
    assert {key: row["size"] for key, row in ledger.objects().items()} == {r["key"]: r["size"] for r in scene.rows}
    assert is_copied(scene, target) == []


def test_latest_is_the_newest_inventory_that_is_complete(scene: Scene, target: str, user: Ferry) -> None:
    old, new, unfinished = (datetime(2026, 11, day, tzinfo=UTC) for day in (20, 21, 22))
    scene.inventory(scene.rows[:3], when=old)
    wanted = scene.inventory(scene.rows[:7], when=new)

    def without_checksum(key: str, body: bytes | Path) -> None:
        if not key.endswith("manifest.checksum"):
            scene.put_inventory(key, body)

    scene.inventory(scene.rows, when=unfinished, put=without_checksum)
    run = user.run(wanted.replace("2026-11-21T00-00Z/manifest.json", "latest"), f"s3://{target}")
    assert run.code == 0, run.explain()
    assert run.summary["manifest"] == wanted
    assert keys_of(scene.server.client(), target) == scene.keys[:7]


def test_an_inventory_on_the_local_disk_is_read_from_there(
    scene: Scene, target: str, user: Ferry, tmp_path: Path
) -> None:
    def write(key: str, body: bytes | Path) -> None:
        path = tmp_path / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body if isinstance(body, bytes) else body.read_bytes())

    address = scene.inventory(put=write)
    run = user.run(str(tmp_path / address.removeprefix(f"s3://{scene.inventory_bucket}/")), f"s3://{target}")
    assert run.code == 0, run.explain()
    assert is_copied(scene, target) == []


def test_a_row_that_comes_twice_is_copied_once_and_counted_as_duplicate(
    versitygw: S3Server, target: str, user: Ferry, ledger: Ledger
) -> None:
    scene = stocked(versitygw, new_bucket(versitygw), [*small_objects(4), WorkObject("large", 11 * MIB)])
    run = user.run(scene.inventory([*scene.rows, scene.rows[0], scene.rows[-1]]), f"s3://{target}")
    assert run.code == 0, run.explain()
    assert run.classes == {"small": {"VERIFIED": 4, "DUPLICATE": 1}, "large": {"VERIFIED": 1, "DUPLICATE": 1}}
    assert ledger.rows_read(run.summary["run_id"]) == 7 == run.summary["rows"]
    assert ledger.statuses() == {"VERIFIED": 5}
    assert is_copied(scene, target) == []


def test_without_etags_the_source_says_what_an_object_is_now(
    scene: Scene, target: str, user: Ferry, ledger: Ledger
) -> None:
    columns = [name for name in DEFAULT_COLUMNS if name != "e_tag"]
    manifest = scene.inventory(columns=columns)
    first = user.run(manifest, f"s3://{target}")
    assert (first.code, first.statuses) == (0, {"VERIFIED": 12}), first.explain()
    assert {row["key"]: row["e_tag"] for row in scene.rows} == {
        key: row["source_etag"] for key, row in ledger.objects().items()
    }
    # Of the same size, so that the inventory cannot tell.
    scene.server.client().put_object(Bucket=scene.bucket, Key=scene.keys[5], Body=b"x" * scene.rows[5]["size"])
    second = user.run(manifest, f"s3://{target}")
    assert (second.code, second.statuses) == (0, {"VERIFIED": 1, "SKIPPED": 11}), second.explain()
    assert is_copied(scene, target) == []


def test_sizes_that_only_the_source_states_are_accounted_for(
    scene: Scene, target: str, user: Ferry, ledger: Ledger
) -> None:
    columns = [name for name in DEFAULT_COLUMNS if name != "size"]
    run = user.run(scene.inventory(columns=columns), f"s3://{target}")
    assert (run.code, run.summary["gaps"]) == (0, []), run.explain()
    size = sum(row["size"] for row in scene.rows)
    assert ledger.value("SELECT sum(object_bytes) FROM manifest_files") == size == run.summary["bytes"]


def test_an_inventory_without_rows_is_a_run_with_nothing_to_do(scene: Scene, target: str, user: Ferry) -> None:
    run = user.run(scene.inventory([]), f"s3://{target}")
    assert (run.code, run.summary["rows"]) == (0, 0), run.explain()
    assert run.last_sentence == "nothing to do: the inventory has no rows"


def test_delete_markers_and_old_versions_are_excluded(
    versitygw: S3Server, target: str, user: Ferry, ledger: Ledger
) -> None:
    bucket, client = new_bucket(versitygw, versioned=True), versitygw.client()
    for key, body in (("kept", b"old"), ("kept", b"new"), ("deleted", b"gone")):
        client.put_object(Bucket=bucket, Key=key, Body=body)
    client.delete_object(Bucket=bucket, Key="deleted")
    listed = client.list_object_versions(Bucket=bucket)
    versions = [_version_row(bucket, entry, marker=False) for entry in listed["Versions"]]
    markers = [_version_row(bucket, entry, marker=True) for entry in listed["DeleteMarkers"]]
    scene = stocked(versitygw, bucket, [])
    run = user.run(scene.inventory([*versions, *markers], columns=VERSION_COLUMNS), f"s3://{target}")
    assert run.code == 0, run.explain()
    assert run.statuses == {"VERIFIED": 1, "EXCLUDED": 3}
    assert ledger.keys("VERIFIED") == {"kept"} == set(keys_of(client, target))
    assert client.get_object(Bucket=target, Key="kept")["Body"].read() == b"new"


def _version_row(bucket: str, entry: dict[str, Any], *, marker: bool) -> dict[str, Any]:
    return {
        "bucket": bucket,
        "key": entry["Key"],
        "version_id": entry["VersionId"],
        "is_latest": entry["IsLatest"],
        "is_delete_marker": marker,
        "size": entry.get("Size"),
        "last_modified_date": entry["LastModified"],
        "e_tag": entry["ETag"].strip('"') if "ETag" in entry else None,
    }


def test_a_bad_row_goes_to_the_dead_letters_and_the_rest_is_copied(
    scene: Scene, target: str, user: Ferry, ledger: Ledger
) -> None:
    bad = {**scene.rows[0], "key": "nul \0 in the key"}
    run = user.run(scene.inventory([*scene.rows[:6], bad, *scene.rows[6:]]), f"s3://{target}")
    assert run.code == 0, run.explain()
    assert run.statuses == {"VERIFIED": 12, "BAD_ROW": 1}
    (letter,) = ledger.rows("SELECT * FROM dead_letters")
    assert (letter["file_number"], letter["row_number"], letter["status"]) == (0, 6, "BAD_ROW")
    assert "NUL" in letter["reason"]
    assert is_copied(scene, target) == []


def damaging(scene: Scene, number: int) -> Callable[[str, bytes | Path], None]:
    """Stores an inventory's files, the data file of this number with its last byte changed."""
    seen: list[str] = []

    def put(key: str, body: bytes | Path) -> None:
        stored = body if isinstance(body, bytes) else body.read_bytes()
        if "/data/" in key:
            seen.append(key)
            if len(seen) - 1 == number:
                stored = stored[:-1] + bytes([stored[-1] ^ 1])
        scene.put_inventory(key, stored)

    return put


def test_a_corrupt_inventory_file_ends_the_run_before_anything_is_copied(
    scene: Scene, target: str, user: Ferry, ledger: Ledger
) -> None:
    run = user.run(scene.inventory(rows_per_file=4, put=damaging(scene, 2)), f"s3://{target}")
    assert run.code == 2, run.explain()
    assert keys_of(scene.server.client(), target) == []
    stored = ledger.run()
    assert (stored["outcome"], stored["exit_code"]) == ("broken", 2)
    assert "inventory file 2" in stored["error"]
    assert "MD5" in stored["error"]
    assert stored["error"] in run.stdout + run.stderr


def test_a_corrupt_inventory_file_can_be_left_out(scene: Scene, target: str, user: Ferry, ledger: Ledger) -> None:
    manifest = scene.inventory(rows_per_file=4, put=damaging(scene, 1))
    run = user.run(manifest, f"s3://{target}", "--skip_bad_files")
    assert run.code == 0, run.explain()
    assert (run.statuses, run.summary["bad_files"]) == ({"VERIFIED": 8}, 1)
    files = ledger.rows("SELECT sum(rows), max(expected_rows) FROM manifest_files GROUP BY file_number ORDER BY 2, 1")
    assert [tuple(row.values()) for row in files] == [(4, 4), (4, 4), (0, None)]
    assert is_copied(scene, target, [*scene.keys[:4], *scene.keys[8:]]) == []
    assert "inventory file 1" in run.stderr


@pytest.fixture
def moved_on(versitygw: S3Server) -> tuple[Scene, str]:
    """A scene, and an inventory of it from before one small and one large object went, and others changed."""
    objects = [*small_objects(6), WorkObject("large/gone", 11 * MIB), WorkObject("large/changed", 11 * MIB)]
    scene = stocked(versitygw, new_bucket(versitygw), objects)
    manifest, client = scene.inventory(), versitygw.client()
    for key in (scene.keys[0], "large/gone"):
        client.delete_object(Bucket=scene.bucket, Key=key)
    client.put_object(Bucket=scene.bucket, Key=scene.keys[1], Body=b"changed, and shorter")
    client.put_object(Bucket=scene.bucket, Key="large/changed", Body=b"y" * 11 * MIB)
    return scene, manifest


def test_objects_that_went_or_changed_since_the_inventory_warn_unless_strict(
    moved_on: tuple[Scene, str], target: str, user: Ferry, ledger: Ledger
) -> None:
    scene, manifest = moved_on
    run = user.run(manifest, f"s3://{target}")
    assert run.code == 0, run.explain()
    assert run.classes == {
        "small": {"VERIFIED": 4, "SOURCE_GONE": 1, "SOURCE_CHANGED": 1},
        "large": {"SOURCE_GONE": 1, "SOURCE_CHANGED": 1},
    }
    assert ledger.keys("SOURCE_GONE") == {scene.keys[0], "large/gone"}
    assert ledger.keys("SOURCE_CHANGED") == {scene.keys[1], "large/changed"}
    assert keys_of(scene.server.client(), target) == scene.keys[2:6]
    assert "not all is VERIFIED" in run.last_sentence

    strict = user.run(manifest, f"s3://{target}", "--strict_source")
    assert strict.code == 1, strict.explain()
    assert strict.statuses == {"SKIPPED": 4, "SOURCE_GONE": 2, "SOURCE_CHANGED": 2}


def test_changed_objects_are_copied_as_they_are_now_when_asked(
    moved_on: tuple[Scene, str], target: str, user: Ferry
) -> None:
    scene, manifest = moved_on
    run = user.run(manifest, f"s3://{target}", "--on_change=copy")
    assert run.code == 0, run.explain()
    assert run.statuses == {"VERIFIED": 6, "SOURCE_GONE": 2}
    assert is_copied(scene, target) == []
