"""The job from inventory to ledger: small, medium and large objects, awkward keys and metadata, on every server."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from awscrt.checksums import crc64nvme

from local.workload import content
from tests.fixtures.compare import differences
from tests.fixtures.s3 import S3Server
from tests.integration.conftest import MakeFerry, new_bucket
from tests.integration.ferry import Finished
from tests.integration.ledger import Ledger
from tests.integration.scenes import SPLIT, Scene, mixed_objects, stocked

PAIRS = (
    ("moto", "moto", "CSV"),
    ("minio", "minio", "Parquet"),
    ("versitygw", "versitygw", "ORC"),
    ("versitygw", "minio", "CSV"),
)


@dataclass(frozen=True)
class Copied:
    """One run over the whole scenario."""

    scene: Scene
    destination: S3Server
    bucket: str
    ledger: Ledger
    run: Finished


@pytest.fixture(scope="module", params=PAIRS, ids="-".join)
def copied(request: pytest.FixtureRequest, module_ledger: Ledger, module_ferry: MakeFerry) -> Iterator[Copied]:
    source_name, destination_name, format = request.param
    source, destination = (request.getfixturevalue(name) for name in (source_name, destination_name))
    scene = stocked(source, new_bucket(source), mixed_objects(source, destination))
    bucket = new_bucket(destination)
    ferry = module_ferry(source, destination, module_ledger, *SPLIT)
    run = ferry.run(scene.inventory(format=format, rows_per_file=50), f"s3://{bucket}")
    yield Copied(scene, destination, bucket, module_ledger, run)


def objects_of(copied: Copied) -> dict[str, dict[str, Any]]:
    """The ledger's rows of this run, by key: the other runs here are other jobs with the same keys."""
    return copied.ledger.objects(copied.run.summary["run_id"])


def test_every_row_is_verified_and_the_run_succeeds(copied: Copied) -> None:
    assert copied.run.code == 0, copied.run.explain()
    assert copied.run.statuses == {"VERIFIED": len(copied.scene.rows)}
    assert copied.run.last_sentence == f"{len(copied.scene.rows)} rows accounted for: {len(copied.scene.rows)} VERIFIED"


def test_each_size_class_takes_its_branch(copied: Copied) -> None:
    sizes = [row["size"] for row in copied.scene.rows]
    expected = {
        "small": {"VERIFIED": sum(size < 1024**2 for size in sizes)},
        "medium": {"VERIFIED": sum(1024**2 <= size <= 8 * 1024**2 for size in sizes)},
        "large": {"VERIFIED": sum(size > 8 * 1024**2 for size in sizes)},
    }
    assert copied.run.classes == expected


def test_the_destination_is_the_source_byte_for_byte_with_its_metadata(copied: Copied) -> None:
    source = (copied.scene.server.client(), copied.scene.bucket)
    assert differences(source, (copied.destination.client(), copied.bucket)) == []


def test_the_ledger_holds_digests_that_an_independent_look_at_the_bytes_confirms(copied: Copied) -> None:
    rows = objects_of(copied)
    assert rows.keys() == set(copied.scene.keys)
    for key, row in rows.items():
        body = b"".join(content(key, row["size"]))
        whole = hashlib.sha256(body).hexdigest()
        assert row["sha256"] == (None if row["size_class"] == "large" else whole), key
        assert row["crc64nvme"] == base64.b64encode(crc64nvme(body).to_bytes(8, "big")).decode(), key
        assert row["md5"] in (None, hashlib.md5(body, usedforsecurity=False).hexdigest()), key


def test_each_ledger_row_names_its_evidence_on_both_sides(copied: Copied) -> None:
    listed = copied.destination.client().list_objects_v2(Bucket=copied.bucket)["Contents"]
    etags = {entry["Key"]: entry["ETag"].strip('"') for entry in listed}
    for key, row in objects_of(copied).items():
        assert "none" not in (row["source_evidence"], row["destination_evidence"]), row
        if row["size_class"] == "large":
            assert row["destination_evidence"] == "full_object_crc64nvme", row
        assert row["destination_etag"] == etags[key], row


def test_the_accounts_balance_per_input_file(copied: Copied) -> None:
    rows = len(copied.scene.rows)
    files = copied.ledger.rows(
        "SELECT file_number, rows, expected, accounted FROM (SELECT file_number, sum(rows)::int AS rows,"
        " max(expected_rows)::int AS expected FROM manifest_files WHERE run_id = %s GROUP BY 1) AS seen"
        " JOIN (SELECT file_number, sum(objects)::int AS accounted FROM manifest_counts WHERE run_id = %s GROUP BY 1)"
        " AS counted USING (file_number) ORDER BY 1",
        copied.run.summary["run_id"],
        copied.run.summary["run_id"],
    )
    assert [file["rows"] for file in files] == [50] * (rows // 50) + [rows % 50]
    assert all(file["expected"] == file["rows"] == file["accounted"] for file in files)
    assert copied.run.summary["gaps"] == []


def test_the_run_is_closed_and_leaves_no_upload_behind(copied: Copied) -> None:
    run = copied.ledger.run(copied.run.summary["run_id"])
    assert (run["outcome"], run["exit_code"], run["error"]) == ("succeeded", 0, None)
    assert copied.ledger.value("SELECT count(*) FROM leases WHERE expires_at IS NOT NULL") == 0
    assert copied.ledger.value("SELECT count(*) FROM uploads WHERE state <> 'completed'") == 0
    assert "Uploads" not in copied.destination.client().list_multipart_uploads(Bucket=copied.bucket)


def test_neither_logs_nor_ledger_hold_a_secret(copied: Copied) -> None:
    said = copied.run.stdout + copied.run.stderr + str(copied.run.summary) + str(copied.ledger.run())
    assert copied.scene.server.secret_key not in said
