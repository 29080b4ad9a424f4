"""What Beam is told for a cluster: the preset, and that every part of it gives way to what the user says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.flink_runner import FlinkRunner
from apache_beam.runners.portability.portable_runner import PortableRunner
from apache_beam.runners.portability.spark_runner import SparkRunner
from apache_beam.runners.portability.spark_uber_jar_job_server import SparkUberJarJobServer
from apache_beam.transforms.environments import (
    DockerEnvironment,
    Environment,
    ExternalEnvironment,
    ProcessEnvironment,
    PythonLoopbackEnvironment,
)

from model.errors import InvalidInput, RunBroken
from pipeline.cluster_runners import cluster_runner
from pipeline.clusters import WORKER_POOL, FlinkCluster, Preset, flink_args, flink_cluster, spark_args
from pipeline.runners import preset_of
from tests.transforms.examples import a_config

CLUSTER = FlinkCluster(line="1.19", slots=8, task_managers=2)
MASTER = "--flink_master=flink:8081"
JARS = [Path("/jars/beam-flink-1.19-job-server.jar"), Path("/jars/beam-spark-3-job-server.jar")]


def test_flink_is_told_of_its_slots_of_the_pools_and_of_exchanges_that_do_not_wait_for_each_other() -> None:
    assert flink_args([MASTER], CLUSTER, JARS) == [
        MASTER,
        "--execution_mode_for_batch=BATCH_FORCED",
        "--environment_cache_millis=10000",
        "--flink_version=1.19",
        "--environment_type=EXTERNAL",
        "--environment_config=localhost:50000",
        "--parallelism=8",
        "--sdk_worker_parallelism=4",
        "--flink_job_server_jar=/jars/beam-flink-1.19-job-server.jar",
    ]


@pytest.mark.parametrize(
    "given",
    [
        "--parallelism=2",
        "--sdk_worker_parallelism=1",
        "--environment_type=DOCKER",
        "--environment_config=pool:1",
        "--environment_cache_millis=0",
        "--execution_mode_for_batch=PIPELINED",
        "--flink_version=1.19",
        "--flink_job_server_jar=/mine.jar",
    ],
)
def test_what_the_user_says_is_said_once_and_unchanged(given: str) -> None:
    name = given.partition("=")[0]
    told = flink_args([MASTER, given], CLUSTER, JARS)
    assert [arg for arg in told if arg == name or arg.startswith(f"{name}=")] == [given]


def flink_environment(*given: str) -> Environment:
    """Where Flink's workers come from, once Beam has found nothing wrong with what it is told."""
    return _environment(FlinkRunner(), flink_args([MASTER, *given], CLUSTER, JARS))


def spark_environment(*given: str) -> Environment:
    """The same of a Spark cluster."""
    return _environment(SparkRunner(), spark_args(["--spark_master_url=spark://spark:7077", *given], JARS))


def _environment(runner: PortableRunner, told: Sequence[str]) -> Environment:
    options = beam.Pipeline(runner=runner, options=PipelineOptions(list(told))).options
    return runner.default_environment(options)


@pytest.mark.parametrize("environment", [flink_environment, spark_environment])
@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ((), ExternalEnvironment, f"url={WORKER_POOL},"),
        (("--environment_type=EXTERNAL",), ExternalEnvironment, f"url={WORKER_POOL},"),
        (("--environment_config=pool:1",), ExternalEnvironment, "url=pool:1,"),
        (("--environment_option=external_service_address=pool:2",), ExternalEnvironment, "url=pool:2,"),
        (("--environment_options=external_service_address=pool:2",), ExternalEnvironment, "url=pool:2,"),
        (("--environment_type=LOOPBACK",), PythonLoopbackEnvironment, ""),
        (("--environment_type", "LOOPBACK"), PythonLoopbackEnvironment, ""),
        (("--environment_type=DOCKER",), DockerEnvironment, "apache/beam"),
        (("--environment_type=PROCESS", '--environment_config={"command": "boot"}'), ProcessEnvironment, "boot"),
        (("--environment_type=PROCESS", "--environment_option=process_command=boot"), ProcessEnvironment, "boot"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_a_user_may_have_workers_of_any_kind_that_beam_knows(
    environment: Callable[..., Environment], given: tuple[str, ...], kind: type[Environment], words: str
) -> None:
    found = environment(*given)
    assert type(found) is kind
    assert words in repr(found)


def test_workers_in_the_submitting_process_are_none_of_a_detached_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.clusters.flink_cluster", lambda given: CLUSTER)
    config = a_config("--runner=FlinkRunner", MASTER, "--environment_type=LOOPBACK", "--detach")
    with pytest.raises(InvalidInput, match=r"--environment_type=LOOPBACK.*leave out --detach"):
        preset_of(config)


def test_a_spark_job_in_a_jar_of_its_own_goes_to_sparks_rest_address() -> None:
    given = ["--spark_submit_uber_jar", "--spark_rest_url=http://spark:6066", "--spark_master_url=spark://spark:7077"]
    with cluster_runner("SparkRunner") as runner:
        server = runner.default_job_server(PipelineOptions(spark_args(given, JARS)))
    assert isinstance(server, SparkUberJarJobServer)


def test_streaming_has_small_bundles_and_long_checkpoints_and_no_batch_exchanges() -> None:
    told = flink_args([MASTER, "--streaming"], CLUSTER, JARS)
    assert {"--max_bundle_size=100", "--checkpoint_timeout_millis=3600000"} <= set(told)
    assert not [arg for arg in told if arg.startswith("--execution_mode_for_batch")]


def test_beams_own_local_flink_has_no_pool() -> None:
    assert not [
        arg for arg in flink_args(["--flink_master=[local]"], None, JARS) if arg.startswith("--environment_type")
    ]


def test_a_job_server_of_another_line_is_left_to_beam() -> None:
    told = flink_args([MASTER], CLUSTER._replace(line="1.18"), JARS)
    assert not [arg for arg in told if arg.startswith("--flink_job_server_jar")]


def test_flink_without_a_master_is_wrong_usage() -> None:
    with pytest.raises(InvalidInput, match="--flink_master: FlinkRunner needs the JobManager's REST address"):
        flink_cluster([])


def test_a_master_that_does_not_answer_is_named() -> None:
    with pytest.raises(RunBroken, match=r"Flink does not answer at http://127\.0\.0\.1:9/overview"):
        flink_cluster(["--flink_master=127.0.0.1:9"])


def test_spark_keeps_what_two_steps_read_and_has_a_pool_only_on_a_cluster() -> None:
    local = spark_args(["--spark_master_url=local[2]"], JARS)
    assert {"--storage_level=MEMORY_AND_DISK", "--spark_job_server_jar=/jars/beam-spark-3-job-server.jar"} <= set(local)
    assert "--environment_type=EXTERNAL" not in local
    assert "--environment_type=EXTERNAL" in spark_args(["--spark_master_url=spark://spark:7077"], JARS)


def test_a_job_has_the_name_of_its_run_unless_it_has_one() -> None:
    assert Preset("FlinkRunner", (MASTER,), 1).named("s3ferry-run-7").job_name == "s3ferry-run-7"
    assert Preset("FlinkRunner", (MASTER, "--job_name=mine"), 1).named("s3ferry-run-7").job_name == "mine"
