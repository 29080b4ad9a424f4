"""Memory of this process: how much it may use, and how the C library and the collector go about it."""

from __future__ import annotations

import ctypes
import gc
import os
from pathlib import Path

from model.routing import MIB

_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_NO_LIMIT = 1 << 60
_SHARE = 0.5
"""Bodies get half of what is left once every worker has its interpreter and imports."""
WORKER_BASE_BYTES = 220 * MIB
"""What a worker process takes before it holds a body."""
_LEAST = 32 * MIB
_MOST = 1024 * MIB
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3), as <malloc.h> numbers them."""
_KEPT_BYTES = 32 * MIB
_OWN_MAPPING_BYTES = 4 * MIB
_COLLECT_AFTER = 50_000
"""Objects made and not freed before the collector looks; Python's own is 700 (2,000 from 3.13)."""


def available_bytes() -> int:
    """The cgroup's memory limit where there is one, else the machine's memory."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in _CGROUP_LIMITS:
        try:
            text = Path(name).read_text().strip()
        except OSError:
            continue
        if text.isdigit() and int(text) < _NO_LIMIT:
            return min(machine, int(text))
    return machine


def body_budget(total_bytes: int, workers: int) -> int:
    """Bytes of bodies one of `workers` processes may hold, between 32 MiB and 1 GiB."""
    per_worker = total_bytes // max(1, workers) - WORKER_BASE_BYTES
    return int(min(_MOST, max(_LEAST, per_worker * _SHARE)))


def keep_freed_memory() -> None:
    """Let the C library keep up to `_KEPT_BYTES` of freed memory for the next body. May be called twice.

    glibc gives memory above 128 KiB back to the system as soon as it is free, and each body would be paid for
    in page faults again: a tenth of the CPU of a small object's transport. Where there is no mallopt(3),
    nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _OWN_MAPPING_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def spare_collector() -> None:
    """Take what lives on (imports, clients, models) out of the collector's sight, and let it look less often.

    Transfers leave few cycles behind, but hundreds of them are under way at once: at Python's own threshold the
    collector walks them all several times per object, a tenth of a small object's CPU. May be called twice.
    """
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER)
