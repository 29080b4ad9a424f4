"""Runner presets: what Beam needs to be told so that the job behaves the same everywhere.

`DirectRunner` is pinned to FnApiRunner with worker processes: Beam's own switch picks Prism when it can
download it and something else when it cannot.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from options.config import JobConfig

LOCAL_RUNNERS = frozenset({"DirectRunner", "FnApiRunner"})


def worker_count(config: JobConfig) -> int:
    """Worker processes that share this machine's memory and the job's rates."""
    if config.run.workers:
        return config.run.workers
    return os.cpu_count() or 1


def is_local(config: JobConfig) -> bool:
    return config.run.runner in LOCAL_RUNNERS


def run_graph(config: JobConfig, build: Callable[[Any], None]) -> None:
    """Build and run one graph to its end. Raises what the runner raises."""
    import apache_beam as beam  # noqa: PLC0415 - a heavy import
    from apache_beam.options.pipeline_options import PipelineOptions  # noqa: PLC0415

    if is_local(config):
        workers = worker_count(config)
        options = PipelineOptions([f"--direct_num_workers={workers}", *config.beam_args])
        pipeline = beam.Pipeline(runner=_local_runner(workers), options=options)
    else:
        pipeline = beam.Pipeline(options=PipelineOptions([f"--runner={config.run.runner}", *config.beam_args]))
    build(pipeline)
    pipeline.run().wait_until_finish()


def _local_runner(workers: int) -> Any:
    """FnApiRunner: in this process for one worker, else with worker processes that log through the driver only."""
    from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner  # noqa: PLC0415
    from apache_beam.transforms.environments import SubprocessSDKEnvironment  # noqa: PLC0415

    if workers == 1:
        return FnApiRunner()
    command = f"{sys.executable} -m pipeline.worker"
    return FnApiRunner(default_environment=SubprocessSDKEnvironment.from_command_string(command))


class GraphThread(threading.Thread):
    """Runs graphs apart from the main thread, which stays free for signals.

    SIGINT and SIGTERM are blocked for it, and the worker processes it starts inherit that: a signal to
    the whole process group reaches the driver alone, and the workers drain on its word.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        super().__init__(name="graph", daemon=True)
        self._work = work
        self.error: BaseException | None = None

    def start_with_signals_blocked(self) -> None:
        blocked = {signal.SIGINT, signal.SIGTERM}
        signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
        try:
            self.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, blocked)

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # handed to the main thread, which raises it
            self.error = error
