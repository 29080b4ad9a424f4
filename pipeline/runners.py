"""Runner presets: what Beam needs to be told so that the job behaves the same everywhere.

`DirectRunner` is pinned to FnApiRunner with worker processes: Beam's own switch picks Prism when it can
download it and something else when it cannot.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from model.errors import InvalidInput, RunBroken
from options.config import JobConfig
from pipeline.clusters import (
    Preset,
    environment_type,
    flink_failures,
    flink_job,
    flink_preset,
    other_preset,
    spark_preset,
)
from pipeline.failures import failure_in, is_said
from pipeline.nursery import SIGNALS
from pipeline.workers import LOCAL_RUNNERS, is_local, worker_count

_LOGGER = logging.getLogger("s3ferry")

_LOOK_EVERY_S = 0.5


def preset_of(config: JobConfig) -> Preset:
    """What Beam is told for this job. Raises InvalidInput for options that cannot work, RunBroken without a cluster."""
    if is_local(config):
        workers = worker_count(config)
        return Preset(config.run.runner, (f"--direct_num_workers={workers}", *config.beam_args), workers)
    if config.run.runner == "SparkRunner":
        return spark_preset(config.beam_args)
    if config.run.runner != "FlinkRunner":
        return other_preset(config.run.runner, config.beam_args)
    preset = flink_preset(config.beam_args)
    if config.run.detach and preset.flink_url is None:
        raise InvalidInput("--detach: a local Flink ends with the process that submits the job; name a cluster")
    if config.run.detach and environment_type(config.beam_args) == "LOOPBACK":
        raise InvalidInput("--environment_type=LOOPBACK: its workers end with this process; leave out --detach")
    return preset


def run_graph(
    preset: Preset, worker_command: str | None, build: Callable[[Any], None], *, detach: bool = False
) -> None:
    """Build and run one graph to its end, or (`detach`) until a cluster has taken it. Raises what the runner raises.

    `worker_command` starts one local worker process; None keeps a local run in this process.
    """
    import apache_beam as beam  # noqa: PLC0415 - a heavy import
    from apache_beam.options.pipeline_options import PipelineOptions  # noqa: PLC0415

    options = PipelineOptions(list(preset.args))
    if preset.runner in LOCAL_RUNNERS:
        pipeline = beam.Pipeline(runner=_local_runner(worker_command), options=options)
        build(pipeline)
        pipeline.run().wait_until_finish()
        return
    from pipeline.cluster_runners import cluster_runner  # noqa: PLC0415 - a heavy import

    with cluster_runner(preset.runner) as runner:
        pipeline = beam.Pipeline(runner=runner, options=options)
        build(pipeline)
        result = pipeline.run()
        if not detach or not taken(result, preset):
            wait(result, preset)


def taken(result: Any, preset: Preset) -> bool:
    """Wait until the cluster has the job: True; False where it has ended already, well or not.

    A cluster that does not answer for a while may have it all the same: it is asked again.
    """
    from apache_beam.runners.runner import PipelineState  # noqa: PLC0415 - a heavy import

    level = logging.WARNING
    while True:
        state = result.state
        if PipelineState.is_terminal(state):
            return False
        try:
            if flink_job(preset.flink_url, preset.job_name) if preset.flink_url else state == PipelineState.RUNNING:
                return True
        except RunBroken as error:
            _LOGGER.log(level, "%s; the job may be there already: asking again", error.message)
            level = logging.DEBUG
        time.sleep(_LOOK_EVERY_S)


def wait(result: Any, preset: Preset) -> None:
    """Wait until the job has ended. Raises what it failed of.

    Flink restarts what fails. Where a worker says why it cannot go on, no restart helps: the job is cancelled.
    """
    from apache_beam.runners.runner import PipelineState  # noqa: PLC0415 - a heavy import

    job: str | None = None
    while preset.flink_url is not None and not PipelineState.is_terminal(result.state):
        said = ""
        try:
            job = job or flink_job(preset.flink_url, preset.job_name)
            said = flink_failures(preset.flink_url, job) if job else ""
        except RunBroken as error:
            _LOGGER.debug("%s", error.message)
        if is_said(said):
            result.cancel()
            raise failure_in(RuntimeError(said))
        time.sleep(_LOOK_EVERY_S)
    result.wait_until_finish()


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
