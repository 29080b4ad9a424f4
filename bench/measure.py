"""Measures commands, in a process tree of their own, and servers, by their process id."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import mean
from types import TracebackType
from typing import Self

import psutil

from bench.launch import Usage

TIMEOUT_S = 3600.0
_SAMPLE_S = 0.5


def measure(
    command: Sequence[str], environment: Mapping[str, str], log: Path, *, timeout_s: float = TIMEOUT_S
) -> Usage:
    """Runs `command` with `environment` on top of this process's own; what it prints goes to `log`.

    A failure of the command is its exit code in the answer. Raises RuntimeError where it cannot be measured.
    """
    with tempfile.TemporaryDirectory() as folder, log.open("wb") as output:
        out = Path(folder) / "usage.json"
        launcher = [sys.executable, "-m", "bench.launch", str(out), str(timeout_s), "--", *command]
        subprocess.run(launcher, env={**os.environ, **environment}, stdout=output, stderr=output, check=False)
        if not out.exists():
            raise RuntimeError(f"{command[0]} could not be run: {log.read_text(errors='replace')[-2000:]}")
        return Usage(**json.loads(out.read_text()))


class MachineBusy(threading.Thread):
    """Samples how busy the machine's cores are, all of them together, until it is left. A context manager."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._ended = threading.Event()
        self._samples: list[tuple[float, float]] = []

    def run(self) -> None:
        psutil.cpu_percent()
        while not self._ended.wait(_SAMPLE_S):
            self._samples.append((time.time(), psutil.cpu_percent()))

    def between(self, begin: float, end: float) -> float:
        """The mean from `begin` to `end` (seconds since the epoch), in per cent of all cores."""
        found = [busy for at, busy in self._samples if begin + _SAMPLE_S <= at <= end]
        return mean(found) if found else 0.0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self.join()


def cpu_of(pid: int) -> float:
    """CPU seconds so far of a server: its process, the children it has waited for, and those it has now."""
    server = psutil.Process(pid)
    total = float(sum(server.cpu_times()[:4]))
    for child in server.children(recursive=True):
        with suppress(psutil.Error):
            total += sum(child.cpu_times()[:4])
    return total
