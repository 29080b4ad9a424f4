"""Killed in the middle: the next run finishes what is left, and does not repeat what the ledger holds.

A gate before the servers lets a number of requests through and holds the others, so that the kill always
comes at the same place whatever the machine's speed.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.fixtures.compare import differences, keys_of
from tests.fixtures.s3 import S3Server
from tests.integration.conftest import MakeFerry, MakeProxy, new_bucket
from tests.integration.ferry import Command, Ferry, until
from tests.integration.ledger import Ledger
from tests.integration.proxy import Proxy, gate
from tests.integration.scenes import SPLIT, Scene, small_objects, stocked

SMALL = 80
FLAGS = (*SPLIT, "--workers=2", "--small_unit_objects=10", "--flush_interval=0.1")


@pytest.fixture
def proxy(minio: S3Server, proxied: MakeProxy) -> Proxy:
    """What both sides are reached through."""
    return proxied(minio)


@pytest.fixture
def user(proxy: Proxy, ferry: MakeFerry, ledger: Ledger) -> Ferry:
    """A user whose runs have two workers, and a ledger that is written soon."""
    return ferry(proxy.server, proxy.server, ledger, *FLAGS)


@pytest.fixture
def target(minio: S3Server) -> str:
    """An empty bucket."""
    return new_bucket(minio)


def is_copied(scene: Scene, target: str) -> list[str]:
    client = scene.server.client()
    return differences((client, scene.bucket), (client, target))


def kill_group(command: Command) -> None:
    """Everything at once, as a machine that loses its power."""
    command.kill_group()


def kill_driver(command: Command) -> None:
    """The driver alone, as the OOM killer may; its workers end by themselves."""
    command.kill_driver()


@pytest.mark.parametrize("kill", [kill_group, kill_driver])
def test_a_run_killed_half_way_is_finished_by_the_next_without_repeating_what_is_recorded(
    kill: Callable[[Command], None], minio: S3Server, proxy: Proxy, user: Ferry, ledger: Ledger, target: str
) -> None:
    scene = stocked(minio, new_bucket(minio), small_objects(SMALL))
    manifest = scene.inventory()
    proxy.rule, opened = gate(lambda request: request.bucket == target and request.method == "PUT", SMALL * 3 // 4)
    first = user.start(manifest, f"s3://{target}")
    first.until(lambda: ledger.count() >= SMALL // 2, "the ledger holds half of the rows")
    kill(first)

    until(lambda: not first.left, "the workers have ended")
    recorded = ledger.keys("VERIFIED")
    there = set(keys_of(minio.client(), target))
    assert SMALL // 2 <= len(recorded) <= len(there) < SMALL
    assert recorded <= there
    assert ledger.run()["outcome"] == "running"

    proxy.forget()
    opened.set()
    second = user.run(manifest, f"s3://{target}")
    assert second.code == 0, second.explain()
    assert second.statuses["VERIFIED"] + second.statuses["SKIPPED"] == SMALL
    assert second.statuses["SKIPPED"] >= len(recorded)
    assert not proxy.reads(scene.bucket).keys() & recorded
    assert is_copied(scene, target) == []
    assert [run["outcome"] for run in ledger.rows("SELECT outcome FROM runs ORDER BY run_id")] == [
        "abandoned",
        "succeeded",
    ]
