"""The worker's image at work: its pool serves a runner, and ends when it is told to."""

from __future__ import annotations

import signal
import socket

import psutil
import pytest

from tests.container.conftest import Run
from tests.container.images import Container, Image
from tests.fixtures.servers import free_port

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(1800)]

_DRIVER = """
import os, sys, apache_beam as beam
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.transforms.environments import ExternalEnvironment

runner = FnApiRunner(default_environment=ExternalEnvironment(sys.argv[1]))
with beam.Pipeline(runner=runner) as pipeline:
    pipeline | beam.Create(["MARK"]) | beam.Map(os.getenv) | beam.Map(print)
"""


@pytest.fixture
def address() -> str:
    """Where the pool listens."""
    return f"127.0.0.1:{free_port()}"


@pytest.fixture
def pool(worker_image: Image, start: Run, address: str) -> Container:
    """The image at work, with a variable in its environment that no other process has."""
    container = start(worker_image, f"--address={address}", environment={"MARK": "from the pool"})
    container.until(lambda: _listens(address), "the pool listens")
    return container


def _listens(address: str) -> bool:
    host, _, port = address.partition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def test_its_workers_carry_out_a_pipeline(pool: Container, job_image: Image, start: Run, address: str) -> None:
    driver = start(job_image, address, command=["python", "-c", _DRIVER]).wait()
    assert driver.code == 0, driver.explain()
    assert "from the pool" in pool.stdout


def test_sigterm_ends_it_with_its_workers(pool: Container, start: Run) -> None:
    first = pool.first
    pool.signal(signal.SIGTERM)
    ended = pool.wait()
    assert ended.code == 0, ended.explain()
    assert not psutil.pid_exists(first.pid)
