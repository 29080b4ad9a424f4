"""A run that was stopped in its tracks and wakes up after another has taken its job over."""

from __future__ import annotations

import signal
import threading
import time
from typing import Any

import pytest

from local.workload import WorkObject
from tests.fixtures.compare import differences
from tests.fixtures.s3 import S3Server
from tests.integration.conftest import MakeFerry, MakeProxy, new_bucket
from tests.integration.ferry import Command
from tests.integration.ledger import Ledger
from tests.integration.proxy import Effect, Request
from tests.integration.scenes import KIB, MIB, SPLIT, stocked

FLAGS = (
    *SPLIT,
    "--workers=2",
    "--small_unit_objects=5",
    "--flush_interval=0.1",
    "--lease_ttl=6",
    "--job=copy",
    "--idle_timeout=300",
)
TABLES = ("objects", "attempts", "uploads", "parts", "manifest_files", "manifest_counts", "dead_letters")


def snapshot(ledger: Ledger) -> dict[str, list[str]]:
    """Every row of the tables a run writes, as text."""
    return {table: sorted(str(row) for row in ledger.rows(f"SELECT * FROM {table}")) for table in TABLES}  # noqa: S608


def older(kind: str) -> list[WorkObject]:
    """Objects of one branch each: sent whole, streamed, and by parts."""
    sizes = {"small": (30, 10 * KIB), "medium": (6, 3 * MIB), "large": (2, 12 * MIB)}
    count, size = sizes[kind]
    return [WorkObject(f"{kind}/{number:02}.bin", size) for number in range(count)]


@pytest.mark.parametrize("kind", ["small", "medium", "large"])
def test_a_run_that_wakes_up_after_its_lease_is_lost_overwrites_nothing_and_ends(
    kind: str, minio: S3Server, proxied: MakeProxy, ferry: MakeFerry, ledger: Ledger
) -> None:
    proxy, target = proxied(minio), new_bucket(minio)
    scene = stocked(minio, new_bucket(minio), older(kind))
    opened = threading.Event()

    def hold_answers(request: Request) -> Effect | None:
        # The source has answered with what it held then; nothing but the lease keeps that from being written.
        held = request.bucket == scene.bucket and request.method == "GET" and request.key in scene.keys[1:]
        return Effect(hold_answer=opened) if held else None

    proxy.rule = hold_answers
    first = ferry(proxy.server, proxy.server, ledger, *FLAGS).start(scene.inventory(), f"s3://{target}")
    first.until(
        lambda: bool(set(scene.keys[1:]) & proxy.reads(scene.bucket).keys()),
        "the first run is in the middle of copying",
    )
    first.until(lambda: bool(ledger.recorded_parts() if kind == "large" else ledger.count()), "something is recorded")
    run_id = ledger.run()["run_id"]
    first.signal_group(signal.SIGSTOP)
    try:
        newer = stocked_again(minio, scene.bucket, older(kind))
        first_writes = len(proxy.asked(target))
        _until_expired(first, ledger, run_id)
        second = ferry(minio, minio, ledger, *FLAGS, "--lease_ttl=60").run(
            scene.inventory(newer, config_id="later"), f"s3://{target}"
        )
        assert second.code == 0, second.explain()
        assert second.statuses == {"VERIFIED": len(newer)}
        before = snapshot(ledger)
        opened.set()
        # The old bytes are there to be read before the first run is.
        time.sleep(0.5)
    finally:
        first.signal_group(signal.SIGCONT)

    ended = first.wait()
    assert ended.code == 3, ended.explain()
    last = ended.stderr.splitlines()[-1]
    assert last.startswith(f"s3ferry: run {run_id} ")
    assert "lease" in last
    assert first.left == []
    assert len(proxy.asked(target)) == first_writes
    client = minio.client()
    assert differences((client, scene.bucket), (client, target)) == []
    assert snapshot(ledger) == before
    assert ledger.run(run_id)["outcome"] == "abandoned"
    assert ledger.run()["outcome"] == "succeeded"


def stocked_again(server: S3Server, bucket: str, objects: list[WorkObject]) -> list[dict[str, Any]]:
    """The same keys with other bytes; the inventory's rows of them."""
    from local.workload import seed

    return seed(server.client(), bucket, [WorkObject(item.key, item.size + 1) for item in objects])


def _until_expired(command: Command, ledger: Ledger, run_id: int) -> None:
    gone = "SELECT count(*) FROM leases WHERE run_id = %s AND expires_at < clock_timestamp()"
    command.until(lambda: bool(ledger.value(gone, run_id)), "the first run's lease has run out")
