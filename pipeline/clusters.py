"""Presets for clusters: what Beam needs to be told to run this job on Flink or Spark, where the user has not said it.

What each option does, and why it is set: docs/clusters.md.
"""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple

from model.errors import InvalidInput, RunBroken

WORKER_POOL = "localhost:50000"
"""Where Beam's worker pool listens on every machine of a cluster, unless `--environment_config` says otherwise."""
JOB_SERVERS = "S3FERRY_JOB_SERVERS"
"""The environment variable that names a folder of job-server jars."""
_ASK_S = 10.0
_KEEP_WORKERS_MS = 10_000
"""How long a cluster keeps idle Python workers for the next stage. Below its delay of restarts, or dead ones stay."""
_LOCAL_MASTERS = ("[local]", "[auto]")
_ENDED = frozenset({"FINISHED", "FAILED", "CANCELED", "SUSPENDED"})


class Preset(NamedTuple):
    """What Beam is told of one run. `workers`: processes that share the job's rates and a machine's memory."""

    runner: str
    args: tuple[str, ...]
    workers: int
    flink_url: str | None = None
    """The REST address of the Flink cluster that carries the job out, where there is one."""

    def named(self, name: str) -> Preset:
        """The same with a name for the job, unless it has one."""
        return self if _named(self.args, "job_name") else self._replace(args=(*self.args, f"--job_name={name}"))

    @property
    def job_name(self) -> str:
        """The job's name; empty where it has none yet."""
        return _value(self.args, "job_name") or ""


class FlinkCluster(NamedTuple):
    """What a JobManager says of its cluster: its line (1.19), slots in all, and TaskManagers."""

    line: str
    slots: int
    task_managers: int


def flink_preset(given: Sequence[str]) -> Preset:
    """The preset of FlinkRunner. Raises as `flink_cluster`."""
    cluster = flink_cluster(given)
    args = tuple(flink_args(given, cluster, job_servers()))
    return Preset("FlinkRunner", args, _parallelism(args), _flink_url(given) if cluster else None)


def spark_preset(given: Sequence[str]) -> Preset:
    """The preset of SparkRunner. A local Spark has one worker; of a cluster `--parallelism` tells how many it has."""
    args = tuple(spark_args(given, job_servers()))
    return Preset("SparkRunner", args, _parallelism(args))


def other_preset(runner: str, given: Sequence[str]) -> Preset:
    """The preset of a runner that is told everything by its user."""
    return Preset(runner, tuple(given), _parallelism(given))


def _parallelism(args: Sequence[str]) -> int:
    found = _value(args, "parallelism") or ""
    return max(1, int(found)) if found.isdecimal() else 1


def flink_args(given: Sequence[str], cluster: FlinkCluster | None, jars: Sequence[Path]) -> list[str]:
    """Beam's arguments for a batch job on `cluster` (None: Beam's own local Flink), `given` ones first and unchanged.

    `jars` are the job servers at hand; without one that fits, Beam looks for its own.
    """
    wanted: dict[str, object] = {
        # a branch that is slow must not hold up another through a shared, bounded buffer
        "execution_mode_for_batch": "BATCH_FORCED",
        "environment_cache_millis": _KEEP_WORKERS_MS,
    }
    if _named(given, "streaming"):
        wanted |= {
            # a bundle waits for its objects, and a checkpoint for its bundle
            "max_bundle_size": 100,
            "checkpointing_interval": 60_000,
            "checkpoint_timeout_millis": 3_600_000,
            "shutdown_sources_after_idle_ms": 1_000,
        }
        del wanted["execution_mode_for_batch"]
    if cluster is not None:
        wanted |= {
            "flink_version": cluster.line,
            **_environment(given),
            "parallelism": cluster.slots,
            "sdk_worker_parallelism": max(1, -(-cluster.slots // max(1, cluster.task_managers))),
        }
    line = _value(given, "flink_version") or (cluster.line if cluster else None)
    jar = _jar(jars, f"beam-flink-{line}-job-server") if line else None
    return _filled(given, wanted | ({"flink_job_server_jar": jar} if jar else {}))


def spark_args(given: Sequence[str], jars: Sequence[Path]) -> list[str]:
    """Beam's arguments for Spark, `given` ones first and unchanged. `jars` as in `flink_args`."""
    wanted: dict[str, object] = {
        "spark_version": "3",
        # what is asked for twice is kept, on disk where memory ends, so that no step runs again
        "storage_level": "MEMORY_AND_DISK",
        "environment_cache_millis": _KEEP_WORKERS_MS,
    }
    if not (_value(given, "spark_master_url") or "local[4]").startswith("local"):
        wanted |= _environment(given)
    jar = _jar(jars, "beam-spark-3-job-server")
    return _filled(given, wanted | ({"spark_job_server_jar": jar} if jar else {}))


def flink_cluster(given: Sequence[str]) -> FlinkCluster | None:
    """Ask the JobManager of `--flink_master`; None where Beam is to start a local Flink.

    Raises InvalidInput where no master is named, RunBroken where it does not answer.
    """
    master = _value(given, "flink_master")
    if master is None:
        raise InvalidInput("--flink_master: FlinkRunner needs the JobManager's REST address; give host:8081")
    if master in _LOCAL_MASTERS:
        return None
    url = _flink_url(given)
    overview, config = _ask(url, "/overview"), _ask(url, "/config")
    try:
        line = ".".join(str(config["flink-version"]).split(".")[:2])
        cluster = FlinkCluster(line, int(overview["slots-total"]), int(overview["taskmanagers"]))
    except (KeyError, TypeError, ValueError):
        raise _not_flink(url) from None
    if not cluster.slots:
        raise RunBroken(f"Flink at {url} has no TaskManager: start one, or wait until it has registered")
    return cluster


def job_servers() -> list[Path]:
    """The job-server jars at hand: in the folder S3FERRY_JOB_SERVERS names, else where deploy/job-server puts them."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "s3ferry" / "job-servers"
    folder = Path(os.environ.get(JOB_SERVERS) or cache)
    return sorted(folder.glob("*.jar")) if folder.is_dir() else []


def flink_job(url: str, job_name: str) -> str | None:
    """The id of the newest job of this name that the cluster at `url` has not ended; None where there is none.

    Raises RunBroken where the cluster does not answer.
    """
    overview = _ask(url, "/jobs/overview")
    try:
        alive = [job for job in overview["jobs"] if job["name"] == job_name and job["state"] not in _ENDED]
        return str(max(alive, key=lambda job: job["start-time"])["jid"]) if alive else None
    except (KeyError, TypeError):
        raise _not_flink(url) from None


def flink_failures(url: str, job: str) -> str:
    """What tasks of the job of this id have failed of so far, restarted or not, as text. Raises as `flink_job`."""
    exceptions = _ask(url, f"/jobs/{job}/exceptions")
    try:
        return "\n".join(str(entry["stacktrace"]) for entry in exceptions["exceptionHistory"]["entries"])
    except (KeyError, TypeError):
        raise _not_flink(url) from None


def _environment(given: Sequence[str]) -> dict[str, object]:
    """Where workers come from: the pool beside each machine, unless the user names another kind, or its options."""
    filled: dict[str, object] = {"environment_type": "EXTERNAL"}
    if environment_type(given) == "EXTERNAL":
        told_otherwise = _named(given, "environment_option", "environment_options")
        # Beam reads these options only beside a configuration that is an empty text (2.70, looks_like_json)
        filled["environment_config"] = "" if told_otherwise else WORKER_POOL
    return filled


def environment_type(given: Sequence[str]) -> str:
    """The kind of environment the workers of a cluster are in, in Beam's words."""
    return (_value(given, "environment_type") or "EXTERNAL").upper()


def _flink_url(given: Sequence[str]) -> str:
    master = _value(given, "flink_master") or ""
    return (master if master.startswith(("http://", "https://")) else f"http://{master}").rstrip("/")


def _ask(url: str, path: str) -> Any:
    try:
        with urllib.request.urlopen(url + path, timeout=_ASK_S) as answer:  # noqa: S310 - http(s) by construction
            return json.load(answer)
    except (OSError, HTTPException, ValueError) as error:
        raise RunBroken(f"Flink does not answer at {url}{path}: {error}; check --flink_master") from None


def _not_flink(url: str) -> RunBroken:
    return RunBroken(f"what answers at {url} is not Flink's JobManager: check --flink_master")


def _named(given: Sequence[str], *names: str) -> bool:
    return any(arg.partition("=")[0] == f"--{name}" for arg in given for name in names)


def _value(given: Sequence[str], name: str) -> str | None:
    for position, arg in enumerate(given):
        if arg.startswith(f"--{name}="):
            return arg.partition("=")[2]
        if arg == f"--{name}" and position + 1 < len(given):
            return given[position + 1]
    return None


def _filled(given: Sequence[str], wanted: Mapping[str, object]) -> list[str]:
    return [*given, *(f"--{name}={value}" for name, value in wanted.items() if not _named(given, name))]


def _jar(jars: Sequence[Path], name: str) -> Path | None:
    return next((jar for jar in jars if jar.stem == name), None)
