"""What a result was measured on and with: hardware, system, versions. No names of hosts, users or folders."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.tools import pinned
from model.version import VERSION

_PACKAGES = ("apache-beam", "pyreqwest", "uvloop", "awscrt", "boto3", "psycopg", "pyarrow")
_ROOT = Path(__file__).parent.parent


def machine() -> dict[str, Any]:
    """Processor, cores, memory (GiB) and system."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """Of s3ferry (with the commit), what it stands on, the peers and the servers."""
    return {"s3ferry": f"{VERSION} ({_commit()})", **{name: version(name) for name in _PACKAGES}, **pinned()}


def today() -> str:
    """The date (UTC) in ISO 8601."""
    return datetime.now(UTC).date().isoformat()


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str:
    """The commit that is measured; results that an earlier part wrote do not make it another."""
    commit = _git("describe", "--always", "--abbrev=10")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!bench/results")
    return f"{commit}-dirty" if changed else commit or "no commit"


def _git(*arguments: str) -> str:
    asked = subprocess.run(["git", *arguments], cwd=_ROOT, capture_output=True, text=True, check=False)
    return asked.stdout.strip()
