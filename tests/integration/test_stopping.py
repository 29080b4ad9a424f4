"""Told to stop: what is under way ends and is recorded, nothing new begins, the next run finishes."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from local.workload import WorkObject
from tests.fixtures.compare import differences, keys_of
from tests.fixtures.s3 import S3Server
from tests.integration.conftest import MakeFerry, MakeProxy, new_bucket
from tests.integration.ferry import Command, Ferry
from tests.integration.ledger import Ledger, until_stop_is_known
from tests.integration.proxy import Proxy, gate
from tests.integration.scenes import MIB, SPLIT, Scene, small_objects, stocked

OBJECTS = 60
PASSES = 20
FLAGS = (*SPLIT, "--workers=2", "--small_unit_objects=10", "--max_in_flight=8", "--flush_interval=0.1")


@pytest.fixture
def proxy(minio: S3Server, proxied: MakeProxy) -> Proxy:
    """What both sides are reached through."""
    return proxied(minio)


@pytest.fixture
def user(proxy: Proxy, ferry: MakeFerry, ledger: Ledger) -> Ferry:
    """A user whose runs have two workers, each with few objects under way."""
    return ferry(proxy.server, proxy.server, ledger, *FLAGS)


@pytest.fixture
def target(minio: S3Server) -> str:
    """An empty bucket."""
    return new_bucket(minio)


def terminate(command: Command) -> None:
    """As `kill PID` does."""
    command.signal_driver(signal.SIGTERM)


def terminate_group(command: Command) -> None:
    """As systemd does."""
    command.signal_group(signal.SIGTERM)


def interrupt(command: Command) -> None:
    """As Ctrl-C in a terminal does, which reaches the whole process group."""
    command.signal_group(signal.SIGINT)


@pytest.mark.parametrize("tell", [terminate, terminate_group, interrupt])
def test_a_signal_lets_what_is_under_way_end_and_the_next_run_finishes(
    tell: Callable[[Command], None], minio: S3Server, proxy: Proxy, user: Ferry, ledger: Ledger, target: str
) -> None:
    scene = stocked(minio, new_bucket(minio), small_objects(OBJECTS))
    manifest = scene.inventory()
    proxy.rule, opened = gate(lambda request: request.bucket == target and request.method == "PUT", PASSES)
    first = user.start(manifest, f"s3://{target}")
    first.until(lambda: ledger.count() >= PASSES // 2, "some objects are recorded")
    tell(first)
    until_stop_is_known(first, ledger)
    opened.set()

    stopped = first.wait()
    assert stopped.code == 5, stopped.explain()
    assert first.left == []
    assert stopped.summary["outcome"] == "interrupted" == ledger.run()["outcome"]
    assert "interrupted" in stopped.last_sentence
    assert ledger.keys("VERIFIED") == set(keys_of(minio.client(), target))
    assert PASSES <= ledger.count() < OBJECTS

    recorded = ledger.keys("VERIFIED")
    proxy.forget()
    second = user.run(manifest, f"s3://{target}")
    assert second.code == 0, second.explain()
    assert second.statuses == {"VERIFIED": OBJECTS - len(recorded), "SKIPPED": len(recorded)}
    assert not proxy.reads(scene.bucket).keys() & recorded
    assert _is_copied(scene, target) == []


def test_a_stop_from_another_process_ends_a_run_between_the_parts_of_an_object(
    minio: S3Server, proxy: Proxy, user: Ferry, ledger: Ledger, target: str
) -> None:
    scene = stocked(minio, new_bucket(minio), [WorkObject("large", 48 * MIB)])
    manifest = scene.inventory()
    proxy.rule, opened = gate(lambda request: request.bucket == target and request.is_part, 2)
    first = user.start(manifest, f"s3://{target}", "--parts_in_flight=2")
    first.until(lambda: len(ledger.recorded_parts().get("large", ())) == 2, "two parts are recorded")
    stop = user.command("stop", str(ledger.run()["run_id"])).wait()
    assert (stop.code, stop.stdout) == (0, f"run {ledger.run()['run_id']} was asked to stop\n")
    until_stop_is_known(first, ledger)
    opened.set()

    stopped = first.wait()
    assert stopped.code == 5, stopped.explain()
    assert ledger.run()["stop_requested"] == "s3ferry stop"
    recorded = ledger.recorded_parts()["large"]
    assert recorded == {number for _, number in proxy.parts(target)}
    assert len(recorded) < 10

    proxy.forget()
    second = user.run(manifest, f"s3://{target}")
    assert second.code == 0, second.explain()
    assert {number for _, number in proxy.parts(target)} == set(range(1, 11)) - recorded
    assert _is_copied(scene, target) == []
    assert "Uploads" not in minio.client().list_multipart_uploads(Bucket=target)


def _is_copied(scene: Scene, target: str) -> list[str]:
    client = scene.server.client()
    return differences((client, scene.bucket), (client, target))
