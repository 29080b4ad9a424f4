"""Runner presets: what Beam needs to be told so that the job behaves the same everywhere.

`DirectRunner` is pinned to FnApiRunner with worker processes: Beam's own switch picks Prism when it can
download it and something else when it cannot.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any

from options.config import JobConfig
from pipeline.clusters import flink_args, flink_cluster, job_servers, spark_args
from pipeline.nursery import SIGNALS
from pipeline.workers import is_local, worker_count


def run_graph(config: JobConfig, worker_command: str | None, build: Callable[[Any], None]) -> None:
    """Build and run one graph to its end. Raises what the runner raises.

    `worker_command` starts one local worker process; None keeps a local run in this process.
    """
    import apache_beam as beam  # noqa: PLC0415 - a heavy import
    from apache_beam.options.pipeline_options import PipelineOptions  # noqa: PLC0415

    if is_local(config):
        options = PipelineOptions([f"--direct_num_workers={worker_count(config)}", *config.beam_args])
        _run(beam.Pipeline(runner=_local_runner(worker_command), options=options), build)
        return
    from pipeline.cluster_runners import cluster_runner  # noqa: PLC0415 - a heavy import

    with cluster_runner(config.run.runner) as runner:
        _run(beam.Pipeline(runner=runner, options=PipelineOptions(_cluster_args(config))), build)


def _run(pipeline: Any, build: Callable[[Any], None]) -> None:
    build(pipeline)
    pipeline.run().wait_until_finish()


def _cluster_args(config: JobConfig) -> list[str]:
    if config.run.runner == "FlinkRunner":
        return flink_args(config.beam_args, flink_cluster(config.beam_args), job_servers())
    if config.run.runner == "SparkRunner":
        return spark_args(config.beam_args, job_servers())
    return list(config.beam_args)


def _local_runner(worker_command: str | None) -> Any:
    from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner  # noqa: PLC0415
    from apache_beam.transforms.environments import SubprocessSDKEnvironment  # noqa: PLC0415

    if worker_command is None:
        return FnApiRunner()
    return FnApiRunner(default_environment=SubprocessSDKEnvironment.from_command_string(worker_command))


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
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            self.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # handed to the main thread, which raises it
            self.error = error
