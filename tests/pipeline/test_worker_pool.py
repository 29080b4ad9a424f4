"""The pool of Python workers as a process."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.fixtures.servers import free_port
from tests.integration.ferry import until


@contextmanager
def pool(address: str) -> Iterator[subprocess.Popen[str]]:
    """A pool that was started a moment ago."""
    command = [sys.executable, "-m", "pipeline.worker_pool", f"--address={address}"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_port_that_another_pool_has_is_not_shared_with_it() -> None:
    port = free_port()
    with pool(f"127.0.0.1:{port}"):
        until(lambda: listens(port), "the first listens")
        with pool(f"127.0.0.1:{port}") as second:
            _, said = second.communicate(timeout=60)
    assert second.returncode == 1
    assert said.splitlines()[-1] == f"s3ferry worker pool: cannot listen on 127.0.0.1:{port}"
