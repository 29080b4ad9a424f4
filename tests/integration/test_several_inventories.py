"""Several inventories in one run: of two buckets, in two formats; every row of each is accounted for."""

from __future__ import annotations

import hashlib

from tests.fixtures.compare import keys_of
from tests.fixtures.s3 import S3Server
from tests.integration.conftest import MakeFerry, new_bucket
from tests.integration.ledger import Ledger
from tests.integration.scenes import KIB, small_objects, stocked


def test_two_buckets_in_two_formats_are_one_run(minio: S3Server, ferry: MakeFerry, ledger: Ledger) -> None:
    photos = stocked(minio, new_bucket(minio), small_objects(12, folder="photos"))
    letters = stocked(minio, new_bucket(minio), small_objects(9, folder="letters"))
    target, user = new_bucket(minio), ferry(minio, minio, ledger, "--workers=2", "--slice_rows=8")
    manifests = (photos.inventory(rows_per_file=5), letters.inventory(format="Parquet", rows_per_file=4))

    ran = user.run(manifests[0], f"s3://{target}", f"--manifest={manifests[1]}")

    assert ran.code == 0, ran.explain()
    assert ran.statuses == {"VERIFIED": 21}
    assert keys_of(minio.client(), target) == sorted(photos.keys + letters.keys)
    run_id = ran.summary["run_id"]
    read = ledger.rows(
        "SELECT file_number, sum(rows)::int AS rows FROM manifest_files WHERE run_id = %s GROUP BY 1 ORDER BY 1", run_id
    )
    assert [row["rows"] for row in read] == [5, 5, 2, 4, 4, 1]
    assert ledger.run(run_id)["manifest"] == " ".join(manifests)
    buckets = {row["source_bucket"] for row in ledger.objects().values()}
    assert buckets == {photos.bucket, letters.bucket}
    assert user.run(manifests[1], f"s3://{target}", f"--manifest={manifests[0]}").statuses == {"SKIPPED": 21}


def test_a_key_of_both_buckets_is_kept_once_and_the_other_named(
    minio: S3Server, ferry: MakeFerry, ledger: Ledger
) -> None:
    one = stocked(minio, new_bucket(minio), small_objects(3))
    other = stocked(minio, new_bucket(minio), small_objects(1, size=7))

    ran = ferry(minio, minio, ledger, "--workers=1").run(
        one.inventory(), f"s3://{new_bucket(minio)}", f"--manifest={other.inventory()}"
    )

    assert (ran.code, ran.statuses) == (1, {"VERIFIED": 3, "FAILED": 1}), ran.explain()
    (letter,) = ledger.rows("SELECT file_number, reason FROM dead_letters")
    assert letter == {"file_number": 1, "reason": "another object of this run has this destination key"}


def test_what_the_ledger_proves_of_a_key_of_both_buckets_is_what_the_destination_holds(
    minio: S3Server, ferry: MakeFerry, ledger: Ledger
) -> None:
    one = stocked(minio, new_bucket(minio), small_objects(60))
    other = stocked(minio, new_bucket(minio), small_objects(60, size=9 * KIB))
    target, user = new_bucket(minio), ferry(minio, minio, ledger, "--workers=2")
    manifests = (one.inventory(rows_per_file=7), other.inventory(rows_per_file=7))

    for first, second, again in ((*manifests, ()), (*manifests[::-1], ()), (*manifests, ("--recopy",))):
        ran = user.run(first, f"s3://{target}", f"--manifest={second}", *again)

        assert (ran.code, ran.statuses["FAILED"]) == (1, 60), ran.explain()
        for key, row in ledger.objects().items():
            held = minio.client().get_object(Bucket=target, Key=key)["Body"].read()
            assert (row["status"], row["sha256"]) == ("VERIFIED", hashlib.sha256(held).hexdigest()), key


def test_a_proven_object_keeps_its_key_whatever_is_read_first(
    minio: S3Server, ferry: MakeFerry, ledger: Ledger
) -> None:
    one = stocked(minio, new_bucket(minio), small_objects(5))
    other = stocked(minio, new_bucket(minio), small_objects(5, size=9 * KIB))
    target, user = new_bucket(minio), ferry(minio, minio, ledger, "--workers=1")
    assert user.run(one.inventory(), f"s3://{target}", "--job=both").code == 0

    for again in ("--recopy", "--retry_failed", "--check_destination=sample"):
        ran = user.run(other.inventory(), f"s3://{target}", "--job=both", f"--manifest={one.inventory()}", again)

        told = {row["source_bucket"] for row in ledger.objects().values() if row["status"] == "VERIFIED"}
        assert (ran.code, told) == (0 if again == "--retry_failed" else 1, {one.bucket}), ran.explain()


def test_a_bucket_that_takes_the_place_of_another_is_copied(minio: S3Server, ferry: MakeFerry, ledger: Ledger) -> None:
    one = stocked(minio, new_bucket(minio), small_objects(3))
    other = stocked(minio, new_bucket(minio), small_objects(3, size=9 * KIB))
    target, user = new_bucket(minio), ferry(minio, minio, ledger, "--workers=1", "--job=moved")
    assert user.run(one.inventory(), f"s3://{target}").statuses == {"VERIFIED": 3}
    assert user.run(other.inventory(), f"s3://{target}").statuses == {"VERIFIED": 3}
    assert {row["source_bucket"] for row in ledger.objects().values()} == {other.bucket}
