"""A pool of Beam's Python workers for one machine of a cluster: `python -m pipeline.worker_pool --address=HOST:PORT`.

Beam's own pool listens on all addresses, starts whatever `python` is on PATH, and holds what workers print in a pipe
that nobody empties. This one starts its own interpreter, with the whole job imported before the first element arrives,
and lets workers print where it does itself. A worker's environment is the pool's.
"""

from __future__ import annotations

import argparse
import logging
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc

_LOGGER = logging.getLogger("s3ferry")
_CALLS = 16
_PATIENCE_S = 10.0
# gRPC's own way would let two pools share one port, and a runner find now the one and now the other
_OPTIONS = [("grpc.so_reuseport", 0)]
# Steps are imported one after the other here: concurrent bundles that import Beam's parts for the first time
# may see half of one.
_WORKER = (
    "import sys, apache_beam, apache_beam.coders, pipeline.graph;"
    "from apache_beam.runners.worker.sdk_worker import SdkHarness;"
    "SdkHarness(sys.argv[1], worker_id=sys.argv[2]).run()"
)


class WorkerPool(beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolServicer):
    """Starts and stops worker processes as a runner asks for them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._workers: dict[tuple[str, str], subprocess.Popen[bytes]] = {}

    def StartWorker(self, request: Any, _context: Any) -> Any:
        """Start a worker that serves the runner at the request's control endpoint."""
        endpoint = request.control_endpoint.url
        _LOGGER.info("worker %s starts for %s", request.worker_id, endpoint)
        try:
            worker = subprocess.Popen([sys.executable, "-c", _WORKER, endpoint, request.worker_id])
        except OSError as error:
            return beam_fn_api_pb2.StartWorkerResponse(error=str(error))
        with self._lock:
            self._forget_dead()
            self._workers[endpoint, request.worker_id] = worker
        return beam_fn_api_pb2.StartWorkerResponse()

    def StopWorker(self, request: Any, _context: Any) -> Any:
        """Stop a worker of this id, the oldest: a request does not say for which endpoint, and ids come again."""
        with self._lock:
            self._forget_dead()
            found = [name for name in self._workers if name[1] == request.worker_id]
            stopped = [self._workers.pop(name) for name in found[:1]]
        _stop(stopped)
        return beam_fn_api_pb2.StopWorkerResponse()

    def close(self) -> None:
        """Stop all workers."""
        with self._lock:
            workers, self._workers = list(self._workers.values()), {}
        _stop(workers)

    def _forget_dead(self) -> None:
        self._workers = {name: worker for name, worker in self._workers.items() if worker.poll() is None}


def _stop(workers: list[subprocess.Popen[bytes]]) -> None:
    for worker in workers:
        worker.terminate()
    for worker in workers:
        try:
            worker.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()


def main() -> None:
    """Serve until SIGTERM or SIGINT, then end the workers."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.worker_pool", description="A pool of Python workers.")
    parser.add_argument("--address", default="localhost:50000", help="HOST:PORT to listen on")
    address = parser.parse_args().address
    # Beam has set up the root logger at its import
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)-7s %(message)s", force=True)
    pool, server, ended = WorkerPool(), grpc.server(ThreadPoolExecutor(_CALLS), options=_OPTIONS), threading.Event()
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
    try:
        server.add_insecure_port(address)
    except RuntimeError:
        sys.exit(f"s3ferry worker pool: cannot listen on {address}")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    server.start()
    _LOGGER.info("workers are started at %s", address)
    ended.wait()
    server.stop(None)
    pool.close()


if __name__ == "__main__":
    main()
