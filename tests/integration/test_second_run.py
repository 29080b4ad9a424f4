"""Running again: what the ledger holds is not copied again, what changed or vanished is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from local.workload import WorkObject
from tests.fixtures.compare import differences, keys_of
from tests.fixtures.s3 import S3Server
from tests.integration.conftest import MakeFerry, MakeProxy, new_bucket
from tests.integration.ferry import Finished
from tests.integration.ledger import Ledger
from tests.integration.proxy import Effect, proxy_before
from tests.integration.scenes import MIB, SPLIT, Scene, small_objects, stocked


@dataclass(frozen=True)
class Told:
    """One run of the story, and the requests for bodies it made."""

    run: Finished
    reads: Counter[str]
    writes: Counter[str]
    parts: int


@dataclass(frozen=True)
class Story:
    """The runs of one job one after another, by what had happened before each."""

    scene: Scene
    target: str
    ledger: Ledger
    told: dict[str, Told]


@pytest.fixture(scope="module")
def story(minio: S3Server, module_ledger: Ledger, module_ferry: MakeFerry) -> Iterator[Story]:
    objects = [*small_objects(20), WorkObject("medium", 2 * MIB), WorkObject("large", 11 * MIB)]
    scene = stocked(minio, new_bucket(minio), objects)
    target, client, told = new_bucket(minio), minio.client(), {}
    with proxy_before(minio) as proxy:
        user = module_ferry(proxy.server, proxy.server, module_ledger, "--workers=1", *SPLIT)

        def tell(name: str, manifest: str, *flags: str) -> None:
            proxy.forget()
            run = user.run(manifest, f"s3://{target}", *flags)
            bodies = proxy.reads(scene.bucket), proxy.writes(target), proxy.parts(target).total()
            told[name] = Told(run, *bodies)

        first = scene.inventory()
        tell("first", first)
        tell("same again", first)
        client.put_object(Bucket=scene.bucket, Key=scene.keys[3], Body=b"changed")
        changed = client.head_object(Bucket=scene.bucket, Key=scene.keys[3])
        row = {**scene.rows[3], "size": 7, "e_tag": changed["ETag"].strip('"')}
        second = scene.inventory([*scene.rows[:3], row, *scene.rows[4:]], config_id="next-day")
        tell("one object changed", second)
        for key in keys_of(client, target):
            client.delete_object(Bucket=target, Key=key)
        tell("destination wiped", second)
        client.delete_object(Bucket=target, Key=scene.keys[0])
        tell("unchecked", second, "--check_destination=none")
        tell("listed", second, "--check_destination=list")
        tell("all again", second, "--recopy")
        yield Story(scene, target, module_ledger, told)


def test_the_first_run_reads_and_writes_each_object_once(story: Story) -> None:
    told = story.told["first"]
    assert told.run.code == 0, told.run.explain()
    whole = [key for key in story.scene.keys if key != "large"]
    assert told.writes == Counter(whole)
    assert {key: told.reads[key] for key in whole} == dict.fromkeys(whole, 1)
    assert (told.reads["large"], told.parts) == (3, 3)


def test_the_same_inventory_again_moves_no_body_and_says_so(story: Story) -> None:
    told = story.told["same again"]
    assert told.run.code == 0, told.run.explain()
    assert told.run.statuses == {"SKIPPED": 22}
    assert (told.reads, told.writes, told.parts) == (Counter(), Counter(), 0)
    assert told.run.last_sentence == "nothing to do: all 22 were verified by an earlier run"


def test_only_the_object_that_changed_is_copied(story: Story) -> None:
    told = story.told["one object changed"]
    assert told.run.code == 0, told.run.explain()
    assert told.run.statuses == {"VERIFIED": 1, "SKIPPED": 21}
    changed = Counter([story.scene.keys[3]])
    assert (told.reads, told.writes, told.parts) == (changed, changed, 0)


def test_a_destination_wiped_meanwhile_is_noticed_and_copied_again(story: Story) -> None:
    told = story.told["destination wiped"]
    assert told.run.code == 0, told.run.explain()
    assert told.run.statuses == {"VERIFIED": 22}
    assert "not at the destination as recorded" in told.run.stderr


def test_what_is_missing_at_the_destination_goes_unnoticed_when_it_is_not_to_be_checked(story: Story) -> None:
    told = story.told["unchecked"]
    assert told.run.statuses == {"SKIPPED": 22}, told.run.explain()


def test_with_a_list_check_the_one_missing_object_is_copied_again(story: Story) -> None:
    told = story.told["listed"]
    assert told.run.statuses == {"VERIFIED": 1, "SKIPPED": 21}, told.run.explain()
    assert told.writes == Counter([story.scene.keys[0]])


def test_everything_is_copied_again_when_asked_to(story: Story) -> None:
    told = story.told["all again"]
    assert told.run.statuses == {"VERIFIED": 22}, told.run.explain()
    assert told.writes == Counter(key for key in story.scene.keys if key != "large")


def test_after_all_runs_the_destination_is_the_source(story: Story) -> None:
    client = story.scene.server.client()
    assert differences((client, story.scene.bucket), (client, story.target)) == []


def test_the_ledger_keeps_one_current_row_an_object_and_one_attempt_a_copy(story: Story) -> None:
    attempts = story.ledger.rows("SELECT run_id, count(*)::int AS rows FROM attempts GROUP BY run_id ORDER BY run_id")
    assert [row["rows"] for row in attempts] == [22, 1, 22, 1, 22]
    assert story.ledger.statuses() == {"VERIFIED": 22}


def test_only_what_failed_is_tried_again_when_asked_to(
    minio: S3Server, proxied: MakeProxy, ferry: MakeFerry, ledger: Ledger
) -> None:
    scene, target, proxy = stocked(minio, new_bucket(minio), small_objects(6)), new_bucket(minio), proxied(minio)
    user = ferry(proxy.server, proxy.server, ledger, "--workers=1", "--attempts=1")
    proxy.rule = lambda request: refused if request.key in scene.keys[:2] and request.method == "PUT" else None
    refused = Effect(refuse=(400, "InvalidRequest"))
    first = user.run(scene.inventory(scene.rows[:5]), f"s3://{target}")
    proxy.forget()

    again = user.run(scene.inventory(config_id="next-day"), f"s3://{target}", "--retry_failed")

    assert first.statuses == {"VERIFIED": 3, "FAILED": 2}, first.explain()
    assert again.statuses == {"VERIFIED": 2, "SKIPPED": 3, "EXCLUDED": 1}, again.explain()
    assert proxy.writes(target) == Counter(scene.keys[:2])
