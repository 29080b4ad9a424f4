"""`s3ferry verify --destination_manifest`: two inventories are joined; only what they leave open is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import pytest

from local.workload import WorkObject
from tests.fixtures.s3 import S3Server
from tests.integration.conftest import MakeFerry, MakeProxy, new_bucket
from tests.integration.ferry import Finished
from tests.integration.ledger import Ledger
from tests.integration.proxy import proxy_before
from tests.integration.scenes import MIB, SPLIT, Scene, small_objects, stocked

MISSING, SHORT, OTHER, LATER = (f"small/{number:04}.bin" for number in range(4))
EXTRA = "there/alone.bin"


@dataclass(frozen=True)
class Story:
    ledger: Ledger
    copied: Finished
    joined: Finished
    asked: set[str]
    """Keys that were asked for at the destination."""
    asked_at_source: set[str]
    extras: list[str]


@pytest.fixture(scope="module")
def story(minio: S3Server, module_ledger: Ledger, module_ferry: MakeFerry) -> Iterator[Story]:
    objects = [*small_objects(20), WorkObject("medium", 2 * MIB), WorkObject("large", 11 * MIB)]
    scene = stocked(minio, new_bucket(minio), objects)
    target, client = new_bucket(minio), minio.client()
    with proxy_before(minio) as proxy:
        user = module_ferry(proxy.server, proxy.server, module_ledger, "--workers=1", *SPLIT, "--slice_rows=8")
        copied = user.run(scene.inventory(), f"s3://{target}/in/")
        client.delete_object(Bucket=target, Key=f"in/{MISSING}")
        client.put_object(Bucket=target, Key=f"in/{SHORT}", Body=b"short")
        client.put_object(Bucket=target, Key=f"in/{OTHER}", Body=bytes(10 * 1024))
        client.put_object(Bucket=target, Key=f"in/{EXTRA}", Body=b"nobody asked for this")
        client.put_object(Bucket=target, Key="beside", Body=b"not below the prefix")
        theirs = destination_scene(minio, target, without={f"in/{LATER}"})
        proxy.forget()
        manifest = theirs.inventory(format="Parquet", rows_per_file=9)
        folder = f"--export={user.folder}/found"
        joined = user.verify(scene.inventory(), f"s3://{target}/in/", f"--destination_manifest={manifest}", folder)
        yield Story(
            module_ledger,
            copied,
            joined,
            {request.key for request in proxy.asked(target)},
            {request.key for request in proxy.asked(scene.bucket)},
            extras(module_ledger, joined.summary["run_id"]),
        )


def destination_scene(server: S3Server, bucket: str, without: set[str]) -> Scene:
    """An inventory to be written of what `bucket` holds, but for objects it is too old to know."""
    client = server.client()
    client.create_bucket(Bucket=f"{bucket}-inventory")
    listing = client.list_objects_v2(Bucket=bucket).get("Contents", [])
    rows = [
        {"bucket": bucket, "key": entry["Key"], "size": entry["Size"], "e_tag": entry["ETag"].strip('"')}
        for entry in listing
        if entry["Key"] not in without
    ]
    return Scene(server, bucket, rows)


def extras(ledger: Ledger, run_id: int) -> list[str]:
    rows = ledger.rows(
        "SELECT destination_key FROM destination_rows d WHERE run_id = %s AND NOT EXISTS"
        " (SELECT FROM attempts a WHERE (a.run_id, a.destination_key) = (d.run_id, d.destination_key))",
        run_id,
    )
    return [row["destination_key"] for row in rows]


def test_missing_short_and_other_objects_are_found_by_the_join(story: Story) -> None:
    assert story.copied.code == 0, story.copied.explain()
    assert story.joined.code == 1, story.joined.explain()
    assert story.joined.statuses == {"VERIFIED": 19, "MISMATCH": 2, "DESTINATION_GONE": 1}
    assert story.ledger.keys("MISMATCH") == {SHORT, OTHER}
    assert story.ledger.keys("DESTINATION_GONE") == {MISSING}


def test_only_objects_that_the_inventory_does_not_settle_are_asked_for(story: Story) -> None:
    assert story.asked == {f"in/{key}" for key in (MISSING, SHORT, OTHER, LATER)}


def test_an_object_newer_than_the_inventory_is_looked_at_and_found(story: Story) -> None:
    assert story.ledger.objects()[f"in/{LATER}"]["status"] == "VERIFIED"


def test_objects_that_only_the_destination_has_are_counted_named_and_kept_for_a_query(story: Story) -> None:
    assert story.joined.summary["extra_objects"] == 1
    assert f"in/{EXTRA}" in story.joined.stderr
    assert story.extras == [f"in/{EXTRA}"]


def test_they_are_exported_as_a_manifest_of_the_destination(story: Story) -> None:
    manifest = Path(story.joined.summary["extra_manifest"]).read_text()
    (line,) = manifest.splitlines()
    bucket, key = line.split(",")
    assert bucket == story.joined.summary["destination"].removeprefix("s3://").partition("/")[0]
    assert unquote(key) == f"in/{EXTRA}"
    assert story.joined.last_sentence.endswith(f"; extra manifest: {story.joined.summary['extra_manifest']}")


def test_a_destination_nobody_copied_to_is_adopted_from_two_inventories_alone(
    minio: S3Server, ledger: Ledger, ferry: MakeFerry
) -> None:
    scene = stocked(minio, new_bucket(minio), small_objects(5))
    target, client = new_bucket(minio), minio.client()
    for key in scene.keys[1:]:
        client.copy_object(Bucket=target, Key=key, CopySource={"Bucket": scene.bucket, "Key": key})
    manifest = destination_scene(minio, target, without=set()).inventory()
    with proxy_before(minio) as proxy:
        user = ferry(proxy.server, proxy.server, ledger, "--workers=1")
        done = user.verify(scene.inventory(), f"s3://{target}", f"--destination_manifest={manifest}", "--adopt")
        assert done.statuses == {"VERIFIED": 4, "DESTINATION_GONE": 1}, done.explain()
        assert {request.key for request in proxy.asked(target)} == {scene.keys[0]}
        assert proxy.asked(scene.bucket) == []
        proxy.forget()
        rest = user.run(scene.inventory(), f"s3://{target}")
        assert rest.statuses == {"SKIPPED": 4, "VERIFIED": 1}, rest.explain()
        assert set(proxy.writes(target)) == {scene.keys[0]}


def test_an_inventory_without_objects_leaves_all_to_be_looked_for(
    minio: S3Server, ledger: Ledger, ferry: MakeFerry
) -> None:
    scene, target = stocked(minio, new_bucket(minio), small_objects(3)), new_bucket(minio)
    manifest = destination_scene(minio, target, without=set()).inventory()
    user = ferry(minio, minio, ledger, "--workers=1")

    done = user.verify(scene.inventory(), f"s3://{target}", f"--destination_manifest={manifest}")

    assert (done.code, done.statuses) == (1, {"DESTINATION_GONE": 3}), done.explain()
    assert done.summary["extra_objects"] == 0


def test_an_inventory_of_another_bucket_is_refused(minio: S3Server, ledger: Ledger, ferry: MakeFerry) -> None:
    scene = stocked(minio, new_bucket(minio), small_objects(1))
    user = ferry(minio, minio, ledger)

    done = user.verify(scene.inventory(), f"s3://{new_bucket(minio)}", f"--destination_manifest={scene.inventory()}")

    assert done.code == 2
    assert "--destination_manifest" in done.stderr
    assert scene.bucket in done.stderr


def test_a_listing_takes_the_place_of_an_inventory_of_the_destination(
    minio: S3Server, proxied: MakeProxy, ferry: MakeFerry, ledger: Ledger
) -> None:
    proxy, target = proxied(minio), new_bucket(minio)
    scene = stocked(minio, new_bucket(minio), small_objects(6))
    user = ferry(proxy.server, proxy.server, ledger, "--workers=1")
    assert user.run(scene.inventory(), f"s3://{target}/in/").code == 0
    client = minio.client()
    client.delete_object(Bucket=target, Key=f"in/{MISSING}")
    client.put_object(Bucket=target, Key=f"in/{EXTRA}", Body=b"nobody asked for this")
    proxy.forget()

    found = user.verify(scene.inventory(), f"s3://{target}/in/", "--list_destination")

    assert found.statuses == {"VERIFIED": 5, "DESTINATION_GONE": 1}, found.explain()
    assert found.summary["extra_objects"] == 1
    assert {request.key for request in proxy.asked(target)} == {f"in/{MISSING}"}
