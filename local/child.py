"""Runs the job as a child process, and ends in order when this process is told to stop."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

INTERRUPTED = 5
"""The exit code of a run that was told to stop."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def _handled(handler: Any) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextmanager
def exit_on_signals() -> Iterator[None]:
    """Ctrl-C, SIGTERM and SIGHUP leave by SystemExit(5), so that what was started is stopped on the way out."""

    def leave(number: int, frame: FrameType | None) -> None:
        for other in _SIGNALS:
            signal.signal(other, signal.SIG_IGN)
        raise SystemExit(INTERRUPTED)

    with _handled(leave):
        yield


def run_child(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """The exit code of `command`; 128 + N when signal N ended it.

    The first signal to this process becomes one SIGTERM to the child, which drains; the second kills it.
    The child is in a process group of its own, or a Ctrl-C would reach it twice.
    """
    process = subprocess.Popen(command, env=dict(environment), process_group=0)
    received = 0

    def forward(number: int, frame: FrameType | None) -> None:
        nonlocal received
        received += 1
        if received == 1:
            process.terminate()
        else:
            process.kill()

    with _handled(forward):
        code = process.wait()
    return code if code >= 0 else 128 - code
