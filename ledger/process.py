"""Which process holds a lease, and whether that process is still there."""

from __future__ import annotations

import os
import socket
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path


class Presence(Enum):
    """What this process can tell about another."""

    ALIVE = "alive"
    GONE = "gone"
    UNKNOWN = "unknown"
    """It runs, or ran, where this process cannot look."""


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process, told apart from every other by host, boot, pid namespace, pid and start.

    `started` is in clock ticks since boot. What the system does not tell (no /proc) is None.
    """

    host: str
    pid: int
    boot_id: str | None = None
    pid_namespace: str | None = None
    started: int | None = None

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def this_process() -> ProcessIdentity:
    """The identity of the calling process."""
    pid = os.getpid()
    return ProcessIdentity(socket.gethostname(), pid, _boot_id(), _pid_namespace(), _started(pid))


def identity_from_json(stored: object) -> ProcessIdentity:
    """The identity `as_json` described; unknown keys are ignored."""
    values = stored if isinstance(stored, dict) else {}
    names = ("host", "pid", "boot_id", "pid_namespace", "started")
    return ProcessIdentity(**{name: values[name] for name in names if name in values})


def presence(other: ProcessIdentity, me: ProcessIdentity) -> Presence:
    """Whether `other` still runs, as seen from `me`.

    Only a process of the same host, boot and pid namespace can be judged (two containers may share a host
    name and a boot). A pid with another start time belongs to another process.
    """
    if (other.host, other.boot_id, other.pid_namespace) != (me.host, me.boot_id, me.pid_namespace):
        return Presence.UNKNOWN
    if not _exists(other.pid):
        return Presence.GONE
    return Presence.ALIVE if other.started == _started(other.pid) else Presence.GONE


def _exists(pid: int) -> bool:
    stat = _stat(pid)
    if stat is not None:
        return stat[0] != "Z"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _started(pid: int) -> int | None:
    stat = _stat(pid)
    return int(stat[19]) if stat is not None else None


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the third (state) on; the second may hold spaces (proc(5))."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _boot_id() -> str | None:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def _pid_namespace() -> str | None:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return None
