"""The memory of real workers: what one large object takes above a worker that only waits."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable
from pathlib import Path

import pytest

from local.workload import WorkObject
from tests.fixtures.s3 import S3Server
from tests.integration.conftest import MakeFerry, MakeProxy, new_bucket
from tests.integration.ledger import Ledger
from tests.integration.proxy import Effect, Proxy, Request
from tests.integration.scenes import MIB, stocked

SIZE = 2048 * MIB
MOST_RISE = 90 * MIB
PATIENCE_S = 240.0


class Gates:
    """Holds Create while the workers are idle, and Complete while the parts of the object have just passed."""

    def __init__(self, proxy: Proxy, bucket: str) -> None:
        self._proxy = proxy
        self._bucket = bucket
        self._create, self._complete = threading.Event(), threading.Event()
        proxy.rule = self._rule

    def _rule(self, request: Request) -> Effect | None:
        if request.is_probe or request.bucket != self._bucket:
            return None
        if request.is_create:
            return Effect(hold=self._create)
        return Effect(hold=self._complete) if request.is_complete else None

    def at_create(self) -> bool:
        return any(request.is_create for request in self._proxy.asked(self._bucket))

    def at_complete(self) -> bool:
        return any(request.is_complete for request in self._proxy.asked(self._bucket))

    def open_create(self) -> None:
        self._create.set()

    def open_complete(self) -> None:
        self._complete.set()


def memory(pid: int, name: str) -> int:
    """A figure of a process in bytes: VmRSS, or VmHWM for its peak."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(name)


def idle_memory(pids: Iterable[int]) -> dict[int, int]:
    """The memory of each process now, from which its peak counts anew."""
    found = {pid: memory(pid, "VmRSS") for pid in pids}
    for pid in found:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    return found


@pytest.mark.nightly
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from Linux's /proc")
def test_a_worker_copies_a_2_gib_object_in_90_mib(
    minio: S3Server, versitygw: S3Server, proxied: MakeProxy, ferry: MakeFerry, ledger: Ledger
) -> None:
    proxy, target = proxied(versitygw), new_bucket(versitygw)
    scene = stocked(minio, new_bucket(minio), [WorkObject("large", SIZE)])
    gates = Gates(proxy, target)

    run = ferry(minio, proxy.server, ledger, "--workers=2").start(scene.inventory(), f"s3://{target}")
    run.until(gates.at_create, "the upload is about to be created")
    idle = idle_memory(run.left)
    gates.open_create()
    run.until(gates.at_complete, "all parts are sent", PATIENCE_S)
    sent = ledger.rows("SELECT pid FROM workers WHERE (counters->>'large.bytes')::bigint > 0")
    risen = {row["pid"]: memory(row["pid"], "VmHWM") - idle[row["pid"]] for row in sent}
    gates.open_complete()
    finished = run.wait()

    for server, bucket in ((minio, scene.bucket), (versitygw, target)):
        server.client().delete_object(Bucket=bucket, Key="large")
    assert finished.statuses == {"VERIFIED": 1}, finished.explain()
    assert risen
    assert max(risen.values()) <= MOST_RISE, {pid: f"{rise / MIB:.1f} MiB" for pid, rise in risen.items()}
