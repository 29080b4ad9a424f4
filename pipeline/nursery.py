"""The nursery: one process that has imported everything once, and forks Beam's worker processes on request.

Importing Beam takes more than a second of CPU a process. The driver starts the nursery first of all, so
that it imports while the driver reads the manifest; workers then start at once, for every slice, and share
the memory of what was imported. FnApiRunner starts a worker by a shell command: `ask_nursery.py`, which
passes the worker's environment on and stands for it until it ends.
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM})
"""What only the driver answers to: its workers drain on its word."""

_WARM = (
    "apache_beam.runners.worker.sdk_worker_main",
    "boto3.session",
    "uvloop",
    "awscrt.auth",
    "awscrt.checksums",
    "pipeline.graph",
)


class Nursery:
    """The driver's hold on its nursery. A context manager; leaving it ends every worker.

    `transport` names the one of `storage.transports` that the workers will use, if they use any.
    """

    def __init__(self, transport: str | None = None) -> None:
        self._folder = tempfile.mkdtemp(prefix="s3ferry-")
        self._socket = str(Path(self._folder) / "nursery")
        command = [sys.executable, "-m", "pipeline.nursery", self._socket, *([transport] if transport else [])]
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    @property
    def command(self) -> str:
        """The shell command that starts one worker and lasts as long as it does."""
        asking = Path(__file__).with_name("ask_nursery.py")
        return "exec " + shlex.join([sys.executable, "-I", "-S", str(asking), self._socket])

    def close(self) -> None:
        """End the nursery and its workers. May be called twice."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Server:
    """The nursery's own side: one thread, so that forking is safe."""

    def __init__(self, path: str) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(128)
        self._workers: dict[int, socket.socket] = {}
        self._ended, waker = os.pipe()
        os.set_blocking(waker, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)

    def serve(self) -> None:
        """Fork workers until the driver is gone, then end those that are left."""
        with selectors.DefaultSelector() as ready:
            for source in (sys.stdin.fileno(), self._ended, self._listener):
                ready.register(source, selectors.EVENT_READ)
            while True:
                for key, _ in ready.select():
                    if key.fileobj == sys.stdin.fileno():
                        return self._kill(list(self._workers))
                    if key.fileobj == self._ended:
                        os.read(self._ended, 4096)
                        self._reap(ready)
                    elif key.fileobj is self._listener:
                        self._fork(ready)
                    elif isinstance(key.fileobj, socket.socket):
                        ready.unregister(key.fileobj)
                        self._kill([pid for pid, asking in self._workers.items() if asking is key.fileobj])

    def _fork(self, ready: selectors.BaseSelector) -> None:
        asking, _ = self._listener.accept()
        environment = json.loads(asking.makefile("rb").readline())
        pid = os.fork()
        if pid == 0:
            self._become_worker(environment, asking)
        self._workers[pid] = asking
        ready.register(asking, selectors.EVENT_READ)

    def _become_worker(self, environment: dict[str, str], asking: socket.socket) -> None:
        from pipeline import worker  # noqa: PLC0415 - imported before the fork

        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._listener.close()
            for other in (*self._workers.values(), asking):
                other.close()
            os.environ.update(environment)
            worker.main()
            code = 0
        finally:
            os._exit(code)

    def _reap(self, ready: selectors.BaseSelector) -> None:
        for pid in list(self._workers):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                asking = self._workers.pop(pid)
                with suppress(KeyError):
                    ready.unregister(asking)
                with suppress(OSError):
                    asking.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
                asking.close()

    def _kill(self, pids: list[int]) -> None:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def main() -> None:
    """The nursery process: listen first, so that early requests wait, then import, then serve."""
    server = _Server(sys.argv[1])
    import importlib  # noqa: PLC0415
    import logging  # noqa: PLC0415

    # a handler on the root keeps Beam's imports from printing past the driver's log
    logging.getLogger().addHandler(logging.NullHandler())
    for name in _WARM:
        importlib.import_module(name)
    from storage.transports import load_transport  # noqa: PLC0415

    for name in sys.argv[2:]:
        load_transport(name)
    # what is imported lives on: the collector need not walk it, nor unshare its pages in each worker
    gc.collect()
    gc.freeze()
    server.serve()
    # nothing is left to do, and taking all the modules down would take its time
    os._exit(0)


if __name__ == "__main__":
    main()
