"""Runner presets: what Beam needs to be told so that the job behaves the same everywhere.

`DirectRunner` is pinned to FnApiRunner with worker processes: Beam's own switch picks Prism when it can
download it and something else when it cannot.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from typing import Any

from options.config import JobConfig

_LOGGER = logging.getLogger("s3ferry")

LOCAL_RUNNERS = frozenset({"DirectRunner", "FnApiRunner"})


def worker_count(config: JobConfig) -> int:
    """Worker processes that share this machine's memory and the job's rates."""
    if config.run.workers:
        return config.run.workers
    return os.cpu_count() or 1


def is_local(config: JobConfig) -> bool:
    return config.run.runner in LOCAL_RUNNERS


def beam_arguments(config: JobConfig) -> list[str]:
    """The arguments for Beam's PipelineOptions; what the user gave comes last and wins."""
    if not is_local(config):
        return [f"--runner={config.run.runner}", *config.beam_args]
    workers = worker_count(config)
    mode = "multi_processing" if workers > 1 else "in_memory"
    return [
        "--runner=FnApiRunner",
        f"--direct_num_workers={workers}",
        f"--direct_running_mode={mode}",
        *config.beam_args,
    ]


def run_graph(arguments: list[str], build: Callable[[Any], None]) -> None:
    """Build and run one graph to its end. Raises what the runner raises."""
    import apache_beam as beam  # noqa: PLC0415 - a heavy import
    from apache_beam.options.pipeline_options import PipelineOptions  # noqa: PLC0415

    pipeline = beam.Pipeline(options=PipelineOptions(arguments))
    build(pipeline)
    pipeline.run().wait_until_finish()


class GraphThread(threading.Thread):
    """Runs graphs apart from the main thread, which stays free for signals.

    Started with SIGINT and SIGTERM blocked, so that the worker processes it starts inherit that: a
    signal to the whole process group reaches the driver alone, and the workers drain on its word.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        super().__init__(name="graph", daemon=True)
        self._work = work
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - handed to the main thread, which raises it
            self.error = error
