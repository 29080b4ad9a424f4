"""`s3ferry run` and `s3ferry verify`: forks the workers' nursery first of all, then loads and runs the driver."""

from __future__ import annotations

import contextlib
import os
import time

from options.config import JobConfig
from pipeline.nursery import Nursery
from pipeline.workers import is_local, worker_count


def execute(config: JobConfig) -> int:
    """Run the job and return the exit code. Raises InvalidInput, RunBroken and LeaseHeld.

    May be repeated: the ledger, not this process, knows what is done.
    """
    began = time.monotonic()
    # numpy comes with Beam and nobody multiplies matrices: its threads would spin while they wait for work
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with contextlib.ExitStack() as stack:
        nursery = None
        if is_local(config) and worker_count(config) > 1:
            nursery = stack.enter_context(Nursery(config.copy.transport))
        from pipeline.driver import drive  # noqa: PLC0415 - loads Beam, which help and wrong flags do without

        return drive(config, nursery, began)
