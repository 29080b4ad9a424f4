"""The nursery: a process without threads that forks Beam's worker processes on request.

Importing Beam takes more than a second of CPU. So it is imported once: by the driver, which forks the nursery
from itself before it starts threads; workers are forked from the nursery at once, for every slice, and share
the memory of what was imported. FnApiRunner starts a worker by a shell command: `ask_nursery.py`, which
passes the worker's environment on and stands for it until it ends.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import selectors
import shlex
import shutil
import signal
import socket
import sys
import tempfile
import traceback
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

from pipeline.logs import set_down_logging

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

    Made before this process has threads, for it forks; it imports what workers need first.
    `transport` names the one of `storage.transports` that the workers will use, if they use any.
    """

    def __init__(self, transport: str | None = None) -> None:
        _import_all(transport)
        self._folder = tempfile.mkdtemp(prefix="s3ferry-")
        self._socket = str(Path(self._folder) / "nursery")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self._socket)
        listener.listen(128)
        # the nursery reads until this process is gone, however it ends
        driver_gone, self._held = os.pipe()
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            self._pid: int | None = os.fork()
            if self._pid == 0:
                os.close(self._held)
                _be_nursery(listener, driver_gone)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        listener.close()
        os.close(driver_gone)

    @property
    def command(self) -> str:
        """The shell command that starts one worker and lasts as long as it does."""
        asking = Path(__file__).with_name("ask_nursery.py")
        return "exec " + shlex.join([sys.executable, "-I", "-S", str(asking), self._socket])

    def close(self) -> None:
        """End the nursery and its workers. May be called twice."""
        if self._pid is None:
            return
        os.close(self._held)
        os.waitpid(self._pid, 0)
        self._pid = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Server:
    """The nursery's own side: one thread, so that forking is safe."""

    def __init__(self, listener: socket.socket, driver_gone: int) -> None:
        self._listener = listener
        self._driver_gone = driver_gone
        self._workers: dict[int, socket.socket] = {}
        self._ended, waker = os.pipe()
        os.set_blocking(waker, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)

    def serve(self) -> None:
        """Fork workers until the driver is gone, then end those that are left."""
        with selectors.DefaultSelector() as ready:
            for source in (self._driver_gone, self._ended, self._listener):
                ready.register(source, selectors.EVENT_READ)
            while True:
                for key, _ in ready.select():
                    if key.fileobj == self._driver_gone:
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
        from apache_beam.runners.worker import sdk_worker_main  # noqa: PLC0415 - imported before the fork

        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._listener.close()
            for other in (*self._workers.values(), asking):
                other.close()
            os.environ.update(environment)
            sdk_worker_main.main([])
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


def _import_all(transport: str | None) -> None:
    for name in _WARM:
        importlib.import_module(name)
    if transport is not None:
        from storage.transports import load_transport  # noqa: PLC0415 - after what it is built on

        load_transport(transport)
    # what is imported lives on: the collector need not walk it, nor unshare its pages in each process
    gc.collect()
    gc.freeze()


def _be_nursery(listener: socket.socket, driver_gone: int) -> NoReturn:
    code = 1
    try:
        # workers log to their runner, and what they might read belongs to the driver
        set_down_logging()
        with Path(os.devnull).open("rb") as nothing:
            os.dup2(nothing.fileno(), 0)
        _Server(listener, driver_gone).serve()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        # the rest is the driver's to end
        os._exit(code)
