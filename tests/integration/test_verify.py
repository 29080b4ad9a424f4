"""`s3ferry verify` after a run: it finds what was done to the destination behind its back, and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from local.workload import WorkObject
from tests.fixtures.compare import differences
from tests.fixtures.s3 import S3Server
from tests.integration.conftest import MakeFerry, MakeProxy, new_bucket
from tests.integration.ferry import Finished
from tests.integration.ledger import Ledger
from tests.integration.proxy import Effect, proxy_before
from tests.integration.scenes import MIB, SPLIT, Scene, small_objects, stocked

DAMAGED, DELETED, SHORTENED, LARGE = "small/0003.bin", "small/0007.bin", "medium", "large"
WRONG = {DAMAGED: "MISMATCH", DELETED: "DESTINATION_GONE", SHORTENED: "MISMATCH", LARGE: "MISMATCH"}


@dataclass(frozen=True)
class Told:
    """One command of the story, and its requests at the two buckets, by method and key."""

    done: Finished
    at_source: Counter[tuple[str, str]]
    at_destination: Counter[tuple[str, str]]
    methods: set[str]
    """Methods of all requests at the destination, those that find out what it can do among them."""
    rows: dict[str, dict[str, object]]
    """What `objects` held after it."""


@dataclass(frozen=True)
class Story:
    """The commands of one job one after another, by what had happened before each."""

    scene: Scene
    target: str
    ledger: Ledger
    told: dict[str, Told]


@pytest.fixture(scope="module", params=["minio", "versitygw"])
def story(request: pytest.FixtureRequest, module_ledger: Ledger, module_ferry: MakeFerry) -> Iterator[Story]:
    server: S3Server = request.getfixturevalue(request.param)
    objects = [*small_objects(12), WorkObject(SHORTENED, 2 * MIB), WorkObject(LARGE, 11 * MIB)]
    scene = stocked(server, new_bucket(server), objects)
    target, client, told = new_bucket(server), server.client(), {}
    job = f"--job={server.name}"
    with proxy_before(server) as proxy:
        user = module_ferry(proxy.server, proxy.server, module_ledger, "--workers=1", job, *SPLIT)
        inventory = scene.inventory()

        def tell(name: str, command: str, *flags: str) -> None:
            proxy.forget()
            done = getattr(user, command)(inventory, f"s3://{target}", *flags)
            asked = [Counter((one.method, one.key) for one in proxy.asked(bucket)) for bucket in (scene.bucket, target)]
            methods = {one.method for one in proxy.seen if one.bucket == target}
            told[name] = Told(done, *asked, methods, rows(module_ledger, server.name))

        tell("copied", "run")
        tell("whole", "verify")
        body = client.get_object(Bucket=target, Key=DAMAGED)["Body"].read()
        client.put_object(Bucket=target, Key=DAMAGED, Body=bytes(reversed(body)))
        client.delete_object(Bucket=target, Key=DELETED)
        client.put_object(Bucket=target, Key=SHORTENED, Body=b"short")
        client.put_object(Bucket=target, Key=LARGE, Body=bytes(11 * MIB))
        tell("damaged", "verify")
        tell("mended", "run")
        tell("whole again", "verify")
        yield Story(scene, target, module_ledger, told)


def rows(ledger: Ledger, job: str) -> dict[str, dict[str, object]]:
    return {row["source_key"]: row for row in ledger.rows("SELECT * FROM objects WHERE job = %s", job)}


def statuses(ledger: Ledger, run_id: object) -> dict[str, str]:
    """Status by source key in one run's history."""
    found = ledger.rows("SELECT source_key, status::text FROM attempts WHERE run_id = %s", run_id)
    return {row["source_key"]: row["status"] for row in found}


def test_what_a_run_copied_is_found_to_be_the_same(story: Story) -> None:
    told = story.told["whole"]
    assert told.done.code == 0, told.done.explain()
    assert told.done.statuses == {"VERIFIED": 14}
    assert told.done.summary["kind"] == "verify"


def test_an_object_costs_one_head_and_the_source_none(story: Story) -> None:
    told = story.told["whole"]
    assert told.at_destination == Counter({("HEAD", key): 1 for key in story.scene.keys})
    assert not told.at_source


def test_a_look_that_finds_nothing_new_leaves_the_rows_as_the_run_wrote_them(story: Story) -> None:
    assert story.told["whole"].rows == story.told["copied"].rows


def test_what_was_damaged_deleted_and_shortened_is_found_and_nothing_else(story: Story) -> None:
    told = story.told["damaged"]
    assert told.done.code == 1, told.done.explain()
    expected = dict.fromkeys(story.scene.keys, "VERIFIED") | WRONG
    assert statuses(story.ledger, told.done.summary["run_id"]) == expected
    assert {key: row["status"] for key, row in told.rows.items()} == expected


def test_a_verification_only_reads(story: Story) -> None:
    for name in ("whole", "damaged", "whole again"):
        assert story.told[name].methods <= {"HEAD", "GET"}


def test_digests_and_evidence_of_what_is_wrong_now_are_kept(story: Story) -> None:
    kept = ("sha256", "crc64nvme", "source_evidence", "destination_evidence", "destination_etag", "size")
    before, after = story.told["copied"].rows, story.told["damaged"].rows
    for key in WRONG:
        assert [after[key][name] for name in kept] == [before[key][name] for name in kept]
        assert after[key]["run_id"] == story.told["damaged"].done.summary["run_id"]
        assert after[key]["error"]


def test_the_next_run_copies_exactly_what_was_found_wrong(story: Story) -> None:
    told = story.told["mended"]
    assert told.done.code == 0, told.done.explain()
    assert told.done.statuses == {"VERIFIED": len(WRONG), "SKIPPED": 14 - len(WRONG)}
    assert {key for method, key in told.at_destination if method == "PUT"} == set(WRONG)
    client = story.scene.server.client()
    assert differences((client, story.scene.bucket), (client, story.target)) == []


def test_what_was_mended_is_found_to_be_the_same(story: Story) -> None:
    told = story.told["whole again"]
    assert told.done.code == 0, told.done.explain()
    assert {row["status"] for row in told.rows.values()} == {"VERIFIED"}


def test_what_cannot_be_looked_at_is_failed_and_the_ledger_keeps_what_it_knew(
    minio: S3Server, ledger: Ledger, ferry: MakeFerry, proxied: MakeProxy
) -> None:
    scene, target, proxy = stocked(minio, new_bucket(minio), small_objects(3)), new_bucket(minio), proxied(minio)
    user = ferry(proxy.server, proxy.server, ledger, "--workers=1")
    assert user.run(scene.inventory(), f"s3://{target}").code == 0
    before = ledger.objects()
    refused = scene.keys[1]
    refusal = Effect(refuse=(403, "AccessDenied"))
    proxy.rule = lambda one: refusal if (one.bucket, one.key) == (target, refused) else None

    done = user.verify(scene.inventory(), f"s3://{target}")

    assert (done.code, done.statuses) == (1, {"VERIFIED": 2, "FAILED": 1}), done.explain()
    assert statuses(ledger, done.summary["run_id"])[refused] == "FAILED"
    assert ledger.objects() == before
