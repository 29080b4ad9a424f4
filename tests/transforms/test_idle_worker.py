"""A worker of a cluster that has nothing to do for long is closed, and holds no lease any more."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.transforms.examples import a_job
from transforms.context import JobContext
from transforms.worker import _Shared, make_worker

PATIENCE_S = 10
LONG_S = 100


class Told:
    """A worker that is idle for as long as the test says."""

    def __init__(self, job: JobContext) -> None:
        self.job = job
        self.idle = 0.0
        self.touched = 0
        self.closed = threading.Event()

    def touch(self) -> None:
        self.touched += 1

    def idle_s(self) -> float:
        return self.idle

    def close(self) -> None:
        self.closed.set()


@pytest.fixture
def on_cluster() -> JobContext:
    return a_job("--runner=FlinkRunner", "--flink_master=flink:8081")


@pytest.fixture
def shared() -> Iterator[Any]:
    process: Any = _Shared(idle_s=1.0)
    yield process
    process.close()


def test_it_is_closed_once_it_is_idle_and_made_anew_when_it_is_asked_for(shared: Any, on_cluster: JobContext) -> None:
    first = shared.get(on_cluster, Told)
    first.idle = 1.0
    assert first.closed.wait(PATIENCE_S)
    second = shared.get(on_cluster, Told)
    assert second is not first
    assert not second.closed.is_set()


def test_every_bundle_touches_it(shared: Any, on_cluster: JobContext) -> None:
    worker = shared.get(on_cluster, Told)
    worker.idle = 0.9
    assert shared.get(on_cluster, Told) is worker
    assert worker.touched == 2


def test_on_one_machine_it_lives_as_long_as_its_process(shared: Any, on_cluster: JobContext) -> None:
    run = dataclasses.replace(on_cluster.config.run, runner="DirectRunner")
    worker = shared.get(dataclasses.replace(on_cluster, config=dataclasses.replace(on_cluster.config, run=run)), Told)
    worker.idle = 1.0
    assert not worker.closed.wait(0.5)


def test_a_run_that_follows_is_not_closed_for_the_one_before(shared: Any, on_cluster: JobContext) -> None:
    first = shared.get(on_cluster, Told)
    following = dataclasses.replace(on_cluster, token="another")
    second = shared.get(following, Told)
    assert first.closed.is_set()
    first.idle = 1.0
    assert not second.closed.wait(0.5)


def test_transfers_questions_to_the_ledger_and_rows_passed_over_are_work(job: JobContext) -> None:
    # not the shared one, which is watched, and asking it is work while it lasts
    worker = make_worker(job)
    go_on = threading.Event()

    def idle_after(work: Any) -> float:
        worker._used_at = worker.ledger.used_at = time.monotonic() - LONG_S
        work()
        return worker.idle_s()

    async def transfer(_: None) -> None:
        await asyncio.to_thread(go_on.wait)

    assert idle_after(lambda: None) >= LONG_S
    assert idle_after(lambda: worker.pass_over(1)) < LONG_S
    assert idle_after(lambda: worker.ledger.call(lambda conn: None)) < LONG_S
    assert idle_after(lambda: worker.ledger.call_apart(lambda conn: None)) < LONG_S
    assert idle_after(lambda: worker.engine.open_bundle().submit(transfer, [None])) < LONG_S
    go_on.set()
    worker.close()
