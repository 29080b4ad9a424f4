"""Starts the embedded S3 as a process of its own and stops it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from model.errors import RunBroken

START_S = 60.0
STOP_S = 60.0


@contextmanager
def running_s3(data: Path) -> Iterator[str]:
    """The endpoint URL of an embedded S3 that keeps its data in `data`; stopped and saved at the end.

    The server also stops by itself when this process ends in any other way: it reads a pipe held here.
    It is in a session of its own, so that Ctrl-C in the terminal does not reach it before its clients are done.
    Raises RunBroken when it does not start.
    """
    data.mkdir(parents=True, exist_ok=True)
    port_file = data / "port"
    started = time.time_ns()
    command = [sys.executable, "-m", "local.s3_server", "--data", str(data), "--port-file", str(port_file)]
    process = subprocess.Popen([*command, "--while-stdin"], stdin=subprocess.PIPE, start_new_session=True)
    try:
        yield f"http://127.0.0.1:{_await_port(process, port_file, started)}"
    finally:
        _stop(process)


def _await_port(process: subprocess.Popen[bytes], port_file: Path, started: int) -> int:
    """The port the server has written since `started` (nanoseconds since the epoch)."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RunBroken(f"the embedded S3 ended at once with exit code {process.returncode}; see the lines above")
        if port_file.exists() and port_file.stat().st_mtime_ns >= started:
            return int(port_file.read_text())
        time.sleep(0.02)
    raise RunBroken(f"the embedded S3 did not answer within {START_S:.0f} s")


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.stdin:
        process.stdin.close()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
