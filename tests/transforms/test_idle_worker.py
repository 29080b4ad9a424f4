"""A worker of a cluster that has nothing to do for long is closed, and holds no lease any more."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from storage.engine import Engine
from tests.transforms.examples import a_job
from transforms.context import JobContext
from transforms.worker import _Shared

IDLE_S = 0.4


class Idle:
    """What the process shares of a worker."""

    def __init__(self, job: JobContext) -> None:
        self.job = job
        self.engine = Engine()
        self.closed = threading.Event()

    def close(self) -> None:
        self.closed.set()
        self.engine.close()


@pytest.fixture
def on_cluster() -> JobContext:
    return a_job("--runner=FlinkRunner", "--flink_master=flink:8081")


@pytest.fixture
def shared() -> Iterator[Any]:
    process: Any = _Shared(IDLE_S)
    yield process
    process.close()


def test_it_is_closed_once_it_is_idle_and_made_anew_when_it_is_asked_for(shared: Any, on_cluster: JobContext) -> None:
    first = shared.get(on_cluster, Idle)
    assert first.closed.wait(10)
    second = shared.get(on_cluster, Idle)
    assert second is not first
    assert not second.closed.is_set()


def test_it_stays_as_long_as_bundles_ask_for_it(shared: Any, on_cluster: JobContext) -> None:
    worker = shared.get(on_cluster, Idle)
    for _ in range(8):
        assert not worker.closed.wait(IDLE_S / 4)
        assert shared.get(on_cluster, Idle) is worker


def test_it_stays_while_a_transfer_is_under_way(shared: Any, on_cluster: JobContext) -> None:
    worker = shared.get(on_cluster, Idle)
    bundle = worker.engine.open_bundle()
    bundle.submit(asyncio.sleep, [3 * IDLE_S])
    assert not worker.closed.wait(2 * IDLE_S)
    assert worker.closed.wait(10)


def test_on_one_machine_it_lives_as_long_as_its_process(shared: Any, on_cluster: JobContext) -> None:
    run = dataclasses.replace(on_cluster.config.run, runner="DirectRunner")
    worker = shared.get(dataclasses.replace(on_cluster, config=dataclasses.replace(on_cluster.config, run=run)), Idle)
    assert not worker.closed.wait(3 * IDLE_S)


def test_a_run_that_follows_is_not_closed_for_the_one_before(shared: Any, on_cluster: JobContext) -> None:
    first = shared.get(on_cluster, Idle)
    following = dataclasses.replace(on_cluster, token="another")
    second = shared.get(following, Idle)
    assert first.closed.is_set()
    assert shared.get(following, Idle) is second
    assert not second.closed.is_set()
