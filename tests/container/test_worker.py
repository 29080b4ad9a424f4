"""The worker's image at work: its pool serves a runner, and ends when it is told to."""

from __future__ import annotations

import signal
import socket

import grpc
import pytest
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc, endpoints_pb2

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


def test_sigterm_ends_it_while_a_worker_runs(pool: Container, address: str) -> None:
    nobody = endpoints_pb2.ApiServiceDescriptor(url=f"127.0.0.1:{free_port()}")
    with grpc.insecure_channel(address) as channel:
        request = beam_fn_api_pb2.StartWorkerRequest(worker_id="1", control_endpoint=nobody)
        answer = beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub(channel).StartWorker(request)
    assert answer.error == ""
    pool.until(lambda: pool.others, "a worker runs")
    everything = [pool.first, *pool.others]
    pool.signal(signal.SIGTERM)
    ended = pool.wait()
    assert ended.code == 0, ended.explain()
    assert [process.pid for process in everything if process.is_running()] == []
