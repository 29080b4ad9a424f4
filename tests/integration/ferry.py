"""Runs the command line as a user does: a process of its own, credentials and ledger in its environment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.fixtures.s3 import S3Server

REPOSITORY = Path(__file__).parents[2]
PATIENCE_S = 120.0
"""How long anything may take before a test gives up on it."""
POLL_S = 0.05


def until(condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    """Returns as soon as `condition` holds; fails naming `what` when it does not come true in time."""
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"this did not happen within {patience_s:.0f} s: {what}")
        time.sleep(POLL_S)


@dataclass(frozen=True)
class Finished:
    """A command that has ended. `summary` is what --summary wrote, {} where there is none."""

    code: int
    stdout: str
    stderr: str
    summary: dict[str, Any]

    @property
    def last_sentence(self) -> str:
        """The last line of the table's output."""
        lines = [line for line in self.stdout.splitlines() if line.strip()]
        return lines[-1] if lines else ""

    @property
    def statuses(self) -> dict[str, int]:
        """Rows of each status that occurs."""
        return {status: entry["objects"] for status, entry in self.summary.get("statuses", {}).items()}

    @property
    def classes(self) -> dict[str, dict[str, int]]:
        """Rows of each status, by size class."""
        counts = self.summary.get("counts", {})
        return {name: {s: entry["objects"] for s, entry in row.items()} for name, row in counts.items()}

    def explain(self) -> str:
        """What the process said, for a failed assertion."""
        return f"exit code {self.code}\n--- standard output\n{self.stdout}\n--- standard error\n{self.stderr[-6000:]}"


class Command:
    """One running command in a session, and so a process group, of its own."""

    def __init__(self, arguments: Sequence[str], environment: dict[str, str], folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._summary = folder / "summary.json"
        command = [sys.executable, "-m", "pipeline.main", *arguments]
        if arguments[0] in ("run", "verify") and "--detach" not in arguments:
            command.append(f"--summary={self._summary}")
        with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
            self._process = subprocess.Popen(
                command, env=environment, cwd=folder, stdout=out, stderr=err, start_new_session=True
            )
        self.pid = self._process.pid

    def wait(self, patience_s: float = PATIENCE_S) -> Finished:
        """How the command ended. Fails, with what it said so far, when it does not end."""
        try:
            code = self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.kill_group()
            raise AssertionError(f"it did not end within {patience_s:.0f} s:\n{self.stderr[-6000:]}") from None
        summary = json.loads(self._summary.read_text()) if self._summary.exists() else {}
        return Finished(code, (self._folder / "stdout").read_text(), self.stderr, summary)

    def until(self, condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
        """As `until`, but fails at once when the command has ended before."""

        def met() -> bool:
            if condition():
                return True
            if self._process.poll() is not None:
                raise AssertionError(f"the command ended before this: {what}\n{self.wait().explain()}")
            return False

        until(met, what, patience_s)

    @property
    def stderr(self) -> str:
        return (self._folder / "stderr").read_text()

    @property
    def left(self) -> list[int]:
        """The processes of the command that still run, workers included."""
        return [process.pid for process in psutil.process_iter() if _runs_in(process, self.pid)]

    def signal_driver(self, number: signal.Signals) -> None:
        """A signal to the process the user started, and to no other."""
        os.kill(self.pid, number)

    def signal_group(self, number: signal.Signals) -> None:
        """A signal to the driver and its workers at once, as a terminal or systemd sends it."""
        os.killpg(self.pid, number)

    def kill_group(self) -> None:
        """Ends everything that is left of the command, and returns when the driver is gone."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def kill_driver(self) -> None:
        """Ends the driver alone; its workers have to notice."""
        self._process.kill()
        self._process.wait()


def _runs_in(process: psutil.Process, group: int) -> bool:
    try:
        return os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False


@dataclass
class Ferry:
    """A user with credentials of two servers and a ledger. `folder` takes what the commands leave on the disk."""

    source: S3Server
    destination: S3Server
    dsn: str | None
    folder: Path
    flags: tuple[str, ...] = ()
    """Flags every `run` and `verify` of this user has; later ones win."""
    environment: dict[str, str] = field(default_factory=dict)
    _commands: list[Command] = field(default_factory=list)

    def run(self, manifest: str, destination: str, *flags: str, patience_s: float = PATIENCE_S) -> Finished:
        """`s3ferry run`, to its end."""
        return self.start(manifest, destination, *flags).wait(patience_s)

    def start(self, manifest: str, destination: str, *flags: str) -> Command:
        """`s3ferry run`, in the background."""
        return self._job("run", manifest, destination, *flags)

    def verify(self, manifest: str, destination: str, *flags: str, patience_s: float = PATIENCE_S) -> Finished:
        """`s3ferry verify`, to its end."""
        return self._job("verify", manifest, destination, *flags).wait(patience_s)

    def _job(self, name: str, manifest: str, destination: str, *flags: str) -> Command:
        return self.command(
            name,
            f"--manifest={manifest}",
            f"--destination={destination}",
            f"--source_endpoint_url={self.source.endpoint_url}",
            f"--destination_endpoint_url={self.destination.endpoint_url}",
            *self.flags,
            *flags,
        )

    def command(self, *arguments: str) -> Command:
        """Any command of s3ferry, in the background."""
        folder = self.folder / f"command-{len(self._commands)}"
        command = Command(arguments, self._environment(), folder)
        self._commands.append(command)
        return command

    def clear_up(self) -> None:
        """Ends what a test left running."""
        for command in self._commands:
            command.kill_group()

    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH") if name in os.environ}
        ledger = {"LEDGER_DSN": self.dsn} if self.dsn is not None else {}
        return {
            **kept,
            # Neither AWS files nor leftovers of other runs.
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder),
            "AWS_EC2_METADATA_DISABLED": "true",
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONUNBUFFERED": "1",
            **ledger,
            **self.source.environment("SOURCE"),
            **self.destination.environment("DESTINATION"),
            **self.environment,
        }
