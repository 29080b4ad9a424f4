"""How many worker processes a run has, and where."""

from __future__ import annotations

import os

from options.config import JobConfig

LOCAL_RUNNERS = frozenset({"DirectRunner", "FnApiRunner"})


def is_local(config: JobConfig) -> bool:
    """Whether the run's workers are processes of this machine that the driver starts."""
    return config.run.runner in LOCAL_RUNNERS


def worker_count(config: JobConfig) -> int:
    """Worker processes that share this machine's memory and the job's rates: `--workers`, else one per core."""
    return config.run.workers or os.cpu_count() or 1
