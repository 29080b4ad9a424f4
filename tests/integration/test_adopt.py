"""`s3ferry verify --adopt`: a destination that another tool filled is taken over, and a run copies only the rest."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from local.workload import WorkObject, content
from tests.fixtures.compare import differences, keys_of
from tests.fixtures.s3 import S3Server
from tests.fixtures.tools import tool
from tests.integration.conftest import MakeFerry, MakeProxy, new_bucket
from tests.integration.ferry import Finished
from tests.integration.ledger import Ledger
from tests.integration.proxy import proxy_before
from tests.integration.scenes import MIB, SPLIT, Scene, small_objects, stocked

EQUAL = [f"small/{number:04}.bin" for number in range(8)]
OTHER, MISSING = "small/0008.bin", "small/0009.bin"
PLAIN_BY_PARTS, CUT_ALIKE, CUT_OTHERWISE = "plain-by-parts", "cut-alike", "cut-otherwise"
SIZES = {PLAIN_BY_PARTS: 11 * MIB, CUT_ALIKE: 20 * MIB, CUT_OTHERWISE: 21 * MIB}
PROVEN_BY = dict.fromkeys(EQUAL, "etag_md5") | {CUT_ALIKE: "multipart_etag", CUT_OTHERWISE: "stored_checksum"}


@dataclass(frozen=True)
class Told:
    """One command of the story, the bodies it moved, and what `objects` held after it."""

    done: Finished
    reads: Counter[str]
    read_back: Counter[str]
    writes: set[str]
    rows: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Story:
    scene: Scene
    told: dict[str, Told]
    ledger: Ledger


def put_by_parts(client: Any, bucket: str, key: str, part_size: int, **checksum: str) -> None:
    """What a tool does that cuts objects in its own way."""
    body = b"".join(content(key, SIZES[key]))
    target = {"Bucket": bucket, "Key": key}
    upload = client.create_multipart_upload(**target, **checksum)["UploadId"]
    algorithm = {name: value for name, value in checksum.items() if name == "ChecksumAlgorithm"}
    parts = []
    for number, start in enumerate(range(0, len(body), part_size), 1):
        sent = body[start : start + part_size]
        part = client.upload_part(**target, **algorithm, UploadId=upload, PartNumber=number, Body=sent)
        crc = {"ChecksumCRC64NVME": part["ChecksumCRC64NVME"]} if algorithm else {}
        parts.append({"PartNumber": number, "ETag": part["ETag"], **crc})
    client.complete_multipart_upload(**target, UploadId=upload, MultipartUpload={"Parts": parts})


@pytest.fixture(scope="module")
def story(minio: S3Server, module_ledger: Ledger, module_ferry: MakeFerry) -> Iterator[Story]:
    objects = [*small_objects(10), *(WorkObject(key, size) for key, size in SIZES.items())]
    scene = stocked(minio, new_bucket(minio), objects)
    target, client, told = new_bucket(minio), minio.client(), {}
    for key in EQUAL:
        client.put_object(Bucket=target, Key=key, Body=b"".join(content(key, 10 * 1024)))
    client.put_object(Bucket=target, Key=OTHER, Body=bytes(10 * 1024))
    put_by_parts(client, target, PLAIN_BY_PARTS, 5 * MIB)
    put_by_parts(client, target, CUT_ALIKE, 16 * MIB)
    put_by_parts(client, target, CUT_OTHERWISE, 8 * MIB, ChecksumAlgorithm="CRC64NVME", ChecksumType="FULL_OBJECT")
    with proxy_before(minio) as proxy:
        user = module_ferry(proxy.server, proxy.server, module_ledger, "--workers=1", *SPLIT)
        inventory = scene.inventory()

        def tell(name: str, command: str, *flags: str) -> None:
            proxy.forget()
            done = getattr(user, command)(inventory, f"s3://{target}", *flags)
            written = set(proxy.writes(target)) | set(proxy.uploads(target))
            told[name] = Told(done, proxy.reads(scene.bucket), proxy.reads(target), written, module_ledger.objects())

        tell("looked", "verify")
        tell("adopted", "verify", "--adopt")
        tell("read", "verify", "--adopt", "--deep")
        tell("copied", "run")
        tell("at last", "verify")
        assert set(keys_of(client, target)) == set(scene.keys)
        yield Story(scene, told, module_ledger)


def found(story: Story, name: str) -> dict[str, str]:
    """Status by key in the history of one command."""
    run_id = story.told[name].done.summary["run_id"]
    rows = story.ledger.rows("SELECT source_key, status::text FROM attempts WHERE run_id = %s", run_id)
    return {row["source_key"]: row["status"] for row in rows}


ALL_FOUND = dict.fromkeys(PROVEN_BY, "VERIFIED") | {
    OTHER: "MISMATCH",
    MISSING: "DESTINATION_GONE",
    PLAIN_BY_PARTS: "COPIED",
}


def test_without_adopt_all_is_reported_and_nothing_enters_the_objects(story: Story) -> None:
    told = story.told["looked"]
    assert told.done.code == 1, told.done.explain()
    assert found(story, "looked") == ALL_FOUND
    assert told.rows == {}
    assert told.done.summary["unadopted_objects"] == len(PROVEN_BY)
    assert "--adopt takes them" in told.done.last_sentence


def test_what_can_be_proven_without_reading_is_adopted_with_its_evidence(story: Story) -> None:
    told = story.told["adopted"]
    assert {key: row["status"] for key, row in told.rows.items()} == ALL_FOUND
    assert {key: told.rows[key]["destination_evidence"] for key in PROVEN_BY} == PROVEN_BY
    assert all(row["adopted"] for row in told.rows.values())
    assert told.reads == Counter()
    # a HEAD that is refused is asked for once more, to tell a missing key from a missing bucket
    assert set(told.read_back) <= {MISSING}
    assert told.done.summary["unadopted_objects"] == 0


def test_reading_proves_what_nothing_else_shows_and_gives_digests(story: Story) -> None:
    told = story.told["read"]
    row = told.rows[PLAIN_BY_PARTS]
    assert (row["status"], row["destination_evidence"], row["source_evidence"]) == ("VERIFIED", "readback", "etag_md5")
    assert all(told.rows[key]["sha256"] for key in [*PROVEN_BY, PLAIN_BY_PARTS])
    assert (told.rows[OTHER]["status"], told.rows[MISSING]["status"]) == ("MISMATCH", "DESTINATION_GONE")
    assert told.reads == Counter(), "the source's word is enough, its bytes are not read"


def test_a_run_then_copies_only_the_rest(story: Story) -> None:
    told = story.told["copied"]
    assert told.done.code == 0, told.done.explain()
    assert told.done.statuses == {"SKIPPED": len(PROVEN_BY) + 1, "VERIFIED": 2}
    assert told.writes == {OTHER, MISSING}
    assert told.reads == Counter([OTHER, MISSING])
    assert not told.rows[OTHER]["adopted"]
    assert told.rows[CUT_ALIKE]["adopted"]


def test_copied_and_adopted_objects_are_found_to_be_the_same(story: Story) -> None:
    told = story.told["at last"]
    assert told.done.code == 0, told.done.explain()
    assert told.done.statuses == {"VERIFIED": len(SIZES) + 10}


def test_a_source_whose_word_proves_nothing_is_read_beside_the_copy(
    minio: S3Server, ledger: Ledger, module_ferry: MakeFerry
) -> None:
    bucket, target, client = new_bucket(minio), new_bucket(minio), minio.client()
    scene = stocked(minio, bucket, [])
    put_by_parts(client, bucket, PLAIN_BY_PARTS, 5 * MIB)
    put_by_parts(client, target, PLAIN_BY_PARTS, 6 * MIB)
    etag = client.head_object(Bucket=bucket, Key=PLAIN_BY_PARTS)["ETag"].strip('"')
    inventory = scene.inventory([{"key": PLAIN_BY_PARTS, "size": 11 * MIB, "e_tag": etag}])
    user = module_ferry(minio, minio, ledger, "--workers=1")

    done = user.verify(inventory, f"s3://{target}", "--adopt", "--deep")

    assert done.statuses == {"VERIFIED": 1}, done.explain()
    [row] = ledger.objects().values()
    assert (row["source_evidence"], row["destination_evidence"]) == ("length", "readback")
    skipped = user.run(inventory, f"s3://{target}")
    assert skipped.statuses == {"SKIPPED": 1}, skipped.explain()


def test_what_rclone_copied_between_two_servers_is_adopted_and_the_rest_is_copied(
    minio: S3Server, versitygw: S3Server, ledger: Ledger, ferry: MakeFerry, proxied: MakeProxy
) -> None:
    objects = [*small_objects(12), WorkObject("medium", 2 * MIB), WorkObject("large", 11 * MIB)]
    scene, target = stocked(minio, new_bucket(minio), objects), new_bucket(versitygw)
    rest = {"small/0004.bin", "small/0010.bin"}
    copied_by_rclone(minio, scene.bucket, versitygw, target, without=rest)
    proxy = proxied(versitygw)
    user = ferry(minio, proxy.server, ledger, "--workers=1", *SPLIT)
    inventory = scene.inventory()

    adopted = user.verify(inventory, f"s3://{target}", "--adopt")
    assert adopted.statuses == {"VERIFIED": 12, "DESTINATION_GONE": 2}, adopted.explain()
    proxy.forget()
    done = user.run(inventory, f"s3://{target}")

    assert done.statuses == {"SKIPPED": 12, "VERIFIED": 2}, done.explain()
    assert set(proxy.writes(target)) == rest
    # rclone keeps times of its own among the metadata
    told = differences((minio.client(), scene.bucket), (versitygw.client(), target))
    assert [line for line in told if "mtime" not in line] == []


def copied_by_rclone(source: S3Server, bucket: str, destination: S3Server, target: str, without: set[str]) -> None:
    def remote(server: S3Server, name: str) -> str:
        keys = f"access_key_id={server.access_key},secret_access_key={server.secret_key}"
        return f":s3,provider=Other,{keys},region={server.region},endpoint='{server.endpoint_url}':{name}"

    flags = ["--config=", "--s3-no-check-bucket", *(f"--exclude=/{key}" for key in without)]
    command = [str(tool("rclone")), "copy", *flags, remote(source, bucket), remote(destination, target)]
    subprocess.run(command, env={"PATH": os.environ["PATH"]}, check=True)
