"""Beam's pool of Python workers on one address, so that several fit on one machine: one for each TaskManager.

Beam's own entry point listens on all addresses, and a pool knows its workers by an id that only differs within a
TaskManager.
"""

from __future__ import annotations

import argparse
import atexit
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
from apache_beam.portability.api import beam_fn_api_pb2_grpc
from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer, kill_process_gracefully


def main() -> None:
    """Serve until SIGTERM, then end the workers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True, help="HOST:PORT to listen on")
    address = parser.parse_args().address
    pool = BeamFnExternalWorkerPoolServicer(use_process=True)
    server = grpc.server(ThreadPoolExecutor(16))
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
    if not server.add_insecure_port(address):
        sys.exit(f"worker_pool.py: cannot listen on {address}")
    server.start()
    atexit.register(lambda: [kill_process_gracefully(worker) for worker in pool._worker_processes.values()])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server.wait_for_termination()


if __name__ == "__main__":
    main()
