"""`python -m bench.launch OUT SECONDS -- COMMAND…`: runs a command and measures its whole process tree.

CPU is exact: this process is the subreaper of the tree (prctl(2), PR_SET_CHILD_SUBREAPER), so every descendant
is waited for, by its parent or here, and getrusage(RUSAGE_CHILDREN) holds all of them, however short-lived.
Memory is sampled: RSS ten times a second, PSS (shared pages counted once) about once. Writes JSON to OUT.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

_SUBREAPER = 36
_SAMPLE_S = 0.1
_PSS_EVERY = 10
_PAGE = os.sysconf("SC_PAGE_SIZE")
_LINGER_S = 15.0
TIMED_OUT = 124


@dataclass(slots=True)
class Usage:
    """Seconds and bytes of one command and all its descendants.

    `peak_main_rss_bytes` is of the command's own process, `peak_other_rss_bytes` the largest of any descendant.
    """

    exit_code: int
    wall_s: float
    user_s: float
    system_s: float
    peak_rss_bytes: int
    peak_pss_bytes: int
    peak_main_rss_bytes: int
    peak_other_rss_bytes: int

    @property
    def cpu_s(self) -> float:
        return self.user_s + self.system_s


class _Sampler(threading.Thread):
    """Looks at the memory of all descendants of this process until stopped."""

    def __init__(self, main: int) -> None:
        super().__init__(daemon=True)
        self._main = main
        self._me = psutil.Process()
        self._stopped = threading.Event()
        self.rss = self.pss = self.main_rss = self.other_rss = 0

    def run(self) -> None:
        looks = 0
        while not self._stopped.wait(_SAMPLE_S):
            pids = [child.pid for child in self._me.children(recursive=True)]
            self._look(pids)
            looks += 1
            if looks % _PSS_EVERY == 1:
                self.pss = max(self.pss, sum(_pss(pid) for pid in pids))

    def _look(self, pids: list[int]) -> None:
        sizes = {pid: _rss(pid) for pid in pids}
        self.rss = max(self.rss, sum(sizes.values()))
        self.main_rss = max(self.main_rss, sizes.pop(self._main, 0))
        self.other_rss = max(self.other_rss, *sizes.values(), 0)

    def stop(self) -> None:
        self._stopped.set()
        self.join()


def _rss(pid: int) -> int:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    return 0


def _pss(pid: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def run(command: list[str], timeout_s: float) -> Usage:
    """Runs `command` to its end, or kills its tree after `timeout_s` seconds (exit code 124)."""
    if ctypes.CDLL(None, use_errno=True).prctl(_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER")
    began = time.monotonic()
    process = subprocess.Popen(command)
    sampler = _Sampler(process.pid)
    sampler.start()
    try:
        code = process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        code = TIMED_OUT
        process.kill()
        process.wait()
    wall = time.monotonic() - began
    sampler.stop()
    _reap_rest()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Usage(
        exit_code=code,
        wall_s=wall,
        user_s=used.ru_utime,
        system_s=used.ru_stime,
        peak_rss_bytes=sampler.rss,
        peak_pss_bytes=sampler.pss,
        peak_main_rss_bytes=sampler.main_rss,
        peak_other_rss_bytes=sampler.other_rss,
    )


def _reap_rest() -> None:
    """Waits for what the command left behind, and kills it when it does not end by itself."""
    deadline = time.monotonic() + _LINGER_S
    with suppress(ChildProcessError):
        while True:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                if time.monotonic() > deadline:
                    for child in psutil.Process().children(recursive=True):
                        with suppress(psutil.Error):
                            child.kill()
                time.sleep(0.02)


def main() -> None:
    out, timeout_s, _, *command = sys.argv[1:]
    Path(out).write_text(json.dumps(asdict(run(command, float(timeout_s)))))


if __name__ == "__main__":
    main()
