"""Runs of a scheduler: the newest complete inventory, nothing new, runs that overlap, a run that was killed."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import pytest

from local.workload import seed
from tests.fixtures.compare import keys_of
from tests.fixtures.s3 import S3Server
from tests.integration.conftest import MakeFerry, MakeProxy, new_bucket
from tests.integration.ferry import Ferry, Finished
from tests.integration.ledger import Ledger
from tests.integration.proxy import gate
from tests.integration.scenes import WHEN, Scene, small_objects, stocked

DAY = timedelta(days=1)


def latest(manifest: str) -> str:
    """The place a schedule names for the configuration a manifest is of."""
    return f"{manifest.rsplit('/', 2)[0]}/latest"


def checksum(manifest: str) -> str:
    """The object S3 writes last."""
    return manifest.replace("manifest.json", "manifest.checksum")


def key_of(place: str) -> str:
    return place.removeprefix("s3://").partition("/")[2]


@dataclass(frozen=True)
class Days:
    """The runs of a schedule one after another, by what there was to find."""

    told: dict[str, Finished]
    first: str
    second: str


@pytest.fixture(scope="module", params=["minio", "versitygw"])
def days(request: pytest.FixtureRequest, module_ledger: Ledger, module_ferry: MakeFerry) -> Iterator[Days]:
    server: S3Server = request.getfixturevalue(request.param)
    scene, target = stocked(server, new_bucket(server), small_objects(10)), new_bucket(server)
    client, told = server.client(), {}
    user = module_ferry(server, server, module_ledger, "--workers=1", f"--job={request.param}")
    daily = latest(scene.inventory()).removesuffix("/latest")

    def tell(name: str) -> None:
        told[name] = user.run(f"{daily}/latest", f"s3://{target}")

    # S3 begins with the files of rows, and Hive's folder of links stands beside the dated ones
    client.put_object(Bucket=scene.inventory_bucket, Key=f"{key_of(daily)}/hive/dt=2026-11-22-00-00/symlink.txt")
    client.delete_object(
        Bucket=scene.inventory_bucket, Key=checksum(key_of(f"{daily}/2026-11-22T00-00Z/manifest.json"))
    )
    tell("none is complete")
    first = scene.inventory()
    rows = [*scene.rows, *seed(client, scene.bucket, small_objects(3, folder="new"))]
    held_back: dict[str, bytes] = {}

    def put(key: str, body: object) -> None:
        if key.endswith("manifest.checksum"):
            held_back[key] = body if isinstance(body, bytes) else b""
        else:
            scene.put_inventory(key, body)  # type: ignore[arg-type]

    second = scene.inventory(rows, when=WHEN + DAY, put=put)
    tell("the second is being written")
    tell("nothing new")
    for key, body in held_back.items():
        scene.put_inventory(key, body)
    tell("the second is complete")
    told["by its checksum"] = user.run(checksum(first), f"s3://{target}")
    yield Days(told, first, second)


def test_without_a_complete_inventory_nothing_is_begun_and_the_line_says_what_is_looked_for(days: Days) -> None:
    run = days.told["none is complete"]
    assert run.code == 2, run.explain()
    (line,) = [line for line in run.stderr.splitlines() if line.startswith("s3ferry: ")]
    assert line.startswith(f"s3ferry: {latest(days.first)} finds no inventory")
    assert "wait for the first report" in line


def test_an_inventory_that_is_still_being_written_is_passed_over(days: Days) -> None:
    run = days.told["the second is being written"]
    assert run.code == 0, run.explain()
    assert run.summary["manifest"] == days.first
    assert run.statuses == {"VERIFIED": 10}


def test_nothing_new_is_success_and_says_so(days: Days) -> None:
    run = days.told["nothing new"]
    assert run.code == 0, run.explain()
    assert run.summary["manifest"] == days.first
    assert run.statuses == {"SKIPPED": 10}
    assert run.last_sentence == "nothing to do: all 10 were verified by an earlier run"


def test_the_newest_inventory_is_taken_once_it_is_complete(days: Days) -> None:
    run = days.told["the second is complete"]
    assert run.code == 0, run.explain()
    assert run.summary["manifest"] == days.second
    assert run.statuses == {"VERIFIED": 3, "SKIPPED": 10}


def test_the_checksum_an_event_names_stands_for_its_inventory(days: Days) -> None:
    run = days.told["by its checksum"]
    assert run.code == 0, run.explain()
    assert run.summary["manifest"] == days.first
    assert run.statuses == {"SKIPPED": 10}


def test_a_scheduled_run_that_meets_the_one_before_is_refused_and_the_next_does_the_rest(
    minio: S3Server, proxied: MakeProxy, ferry: MakeFerry, ledger: Ledger
) -> None:
    proxy, target = proxied(minio), new_bucket(minio)
    scene = stocked(minio, new_bucket(minio), small_objects(5))
    daily = latest(scene.inventory(scene.rows[:3]))
    user = ferry(proxy.server, proxy.server, ledger, "--workers=1")
    proxy.rule, opened = gate(lambda request: request.bucket == target and request.method == "PUT", 0)
    monday = user.start(daily, f"s3://{target}")
    monday.until(lambda: len(proxy.writes(target)) == 3, "the first run is in the middle of its work")
    scene.inventory(when=WHEN + DAY)

    tuesday = user.run(daily, f"s3://{target}")
    opened.set()

    assert tuesday.code == 4, tuesday.explain()
    assert monday.wait().code == 0
    wednesday = user.run(daily, f"s3://{target}")
    assert wednesday.code == 0, wednesday.explain()
    assert wednesday.statuses == {"VERIFIED": 2, "SKIPPED": 3}
    assert keys_of(minio.client(), target) == scene.keys


def test_a_run_may_wait_for_the_one_before(
    minio: S3Server, proxied: MakeProxy, ferry: MakeFerry, ledger: Ledger
) -> None:
    proxy, target = proxied(minio), new_bucket(minio)
    scene = stocked(minio, new_bucket(minio), small_objects(3))
    manifest = scene.inventory()
    user = ferry(proxy.server, proxy.server, ledger, "--workers=1")
    proxy.rule, opened = gate(lambda request: request.bucket == target and request.method == "PUT", 0)
    first = user.start(manifest, f"s3://{target}")
    first.until(lambda: len(proxy.writes(target)) == 3, "the first run is in the middle of its work")

    second = user.start(manifest, f"s3://{target}", "--lease_wait=90")
    second.until(lambda: "waiting 90 s for it" in second.stderr, "the second run waits")
    opened.set()

    assert first.wait().code == 0
    finished = second.wait()
    assert finished.code == 0, finished.explain()
    assert finished.statuses == {"SKIPPED": 3}


@dataclass(frozen=True)
class Killed:
    """A user whose run was killed in what looks like another pod, in the middle of its work."""

    user: Ferry
    scene: Scene
    target: str

    def again(self, *flags: str) -> Finished:
        return self.user.run(self.scene.inventory(), f"s3://{self.target}", *flags)


@pytest.fixture
def killed(minio: S3Server, proxied: MakeProxy, ferry: MakeFerry, ledger: Ledger) -> Killed:
    proxy, target = proxied(minio), new_bucket(minio)
    scene = stocked(minio, new_bucket(minio), small_objects(5))
    user = ferry(proxy.server, proxy.server, ledger, "--workers=1", "--lease_ttl=40")
    proxy.rule, opened = gate(lambda request: request.bucket == target and request.method == "PUT", 0)
    first = user.start(scene.inventory(), f"s3://{target}")
    first.until(lambda: len(proxy.writes(target)) == 5, "the run is in the middle of its work")
    first.signal_group(signal.SIGKILL)
    first.wait()
    opened.set()
    ledger.rows('UPDATE leases SET holder = holder || \'{"host": "another-pod"}\' RETURNING 1')
    return Killed(user, scene, target)


@pytest.mark.nightly
def test_a_pod_in_the_place_of_a_killed_one_waits_until_its_lease_has_run_out(killed: Killed, ledger: Ledger) -> None:
    refused = killed.again()
    assert refused.code == 4, refused.explain()
    assert "another-pod" in refused.stderr

    second = killed.again("--lease_wait=90")

    assert second.code == 0, second.explain()
    assert second.statuses == {"VERIFIED": 5}
    assert [row["outcome"] for row in ledger.rows("SELECT outcome FROM runs ORDER BY run_id")] == [
        "abandoned",
        "succeeded",
    ]
