"""Real clusters on this machine, as a user starts them, and what a run is told to use one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil

from pipeline.clusters import JOB_SERVERS
from tests.fixtures.servers import free_port
from tests.fixtures.tools import cache, missing

DEPLOY = Path(__file__).parents[2] / "deploy"
FLINK_JAR = "beam-flink-1.19-job-server.jar"
SPARK_JAR = "beam-spark-3-job-server.jar"
START_S = 120.0


def need(what: str, *, there: bool) -> None:
    """Without `what` the test is skipped by name; with CI=true it fails."""
    if not there:
        missing(f"{what} is not installed")


def job_server_folder(jar: str) -> Path:
    """The folder that holds a job server built by deploy/job-server/build.sh."""
    folder = Path(os.environ.get(JOB_SERVERS) or cache() / "job-servers")
    need("java", there=shutil.which("java") is not None)
    need(f"{jar} (deploy/job-server/build.sh)", there=(folder / jar).exists())
    return folder


@dataclass(frozen=True)
class Cluster:
    """A cluster that runs. `flags` make a run use it; `environment` is what the user's own process needs."""

    script: Path
    folder: Path
    flags: tuple[str, ...]
    environment: Mapping[str, str]
    start: Mapping[str, str]
    """The environment it was started with."""

    def up(self) -> None:
        """Start what is not running."""
        up = subprocess.run(
            [self.script, "up"], check=False, env=dict(self.start), capture_output=True, text=True, timeout=START_S
        )
        assert up.returncode == 0, up.stdout + up.stderr

    def down(self) -> None:
        """Stop all of it."""
        subprocess.run([self.script, "down"], check=False, env=dict(self.start), timeout=START_S)

    @contextmanager
    def running(self) -> Iterator[Self]:
        """Up within, down afterwards."""
        try:
            self.up()
            yield self
        finally:
            self.down()

    def pid(self, name: str) -> int:
        """The process of this name: jobmanager, taskmanager-1, worker-pool-2, ..."""
        return int((self.folder / f"{name}.pid").read_text())

    def workers(self) -> list[psutil.Process]:
        """The Python workers of all pools."""
        pools = [psutil.Process(int(path.read_text())) for path in sorted(self.folder.glob("worker-pool-*.pid"))]
        return [worker for pool in pools for worker in _living_children(pool)]

    def executors(self) -> list[psutil.Process]:
        """The executors of the job that runs on Spark."""
        children = _living_children(psutil.Process(self.pid("worker")))
        return [child for child in children if any("CoarseGrainedExecutorBackend" in word for word in child.cmdline())]


def _living_children(process: psutil.Process) -> list[psutil.Process]:
    return [child for child in process.children() if child.status() != psutil.STATUS_ZOMBIE]


@dataclass(frozen=True)
class FlinkCluster(Cluster):
    """A Flink cluster; `url` is its REST address."""

    url: str

    def ask(self, path: str, method: str = "GET") -> Any:
        """What the cluster's REST address answers."""
        request = urllib.request.Request(self.url + path, method=method)  # noqa: S310 - http by construction
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return json.load(answer)

    def cancel(self, job_name: str) -> None:
        """Cancel a job, as a user does on Flink's web page."""
        self.ask(f"/jobs/{self._id(job_name)}?mode=cancel", "PATCH")

    def job_type(self, job_name: str) -> str:
        """How Flink carries a job out: BATCH or STREAMING."""
        return str(self.ask(f"/jobs/{self._id(job_name)}/plan")["plan"]["type"])

    def _id(self, job_name: str) -> str:
        [job] = [job["jid"] for job in self.ask("/jobs/overview")["jobs"] if job["name"] == job_name]
        return str(job)


def _environment(worker_environment: Mapping[str, str], pool_port: int) -> dict[str, str]:
    """What the scripts of both kinds of cluster are given."""
    own = {"WORKER_POOL_PORT": str(pool_port), "PYTHON": sys.executable, "PYTHONPATH": str(DEPLOY.parent)}
    return {**os.environ, **worker_environment, **own}


@contextmanager
def running_flink(folder: Path, worker_environment: Mapping[str, str]) -> Iterator[FlinkCluster]:
    """deploy/flink/local_cluster.sh with two TaskManagers of one slot each, on free ports."""
    port, pool_port = free_port(), free_port()
    environment = {
        **_environment(worker_environment, pool_port),
        "FLINK_FOLDER": str(folder),
        "FLINK_PORT": str(port),
        "FLINK_RPC_PORT": str(free_port()),
        "SLOTS": "1",
    }
    master = f"localhost:{port}"
    flags = ("--runner=FlinkRunner", f"--flink_master={master}", f"--environment_config=worker-pool:{pool_port}")
    servers = {JOB_SERVERS: str(job_server_folder(FLINK_JAR))}
    script = DEPLOY / "flink" / "local_cluster.sh"
    cluster = FlinkCluster(script, folder, flags, servers, environment, f"http://{master}")
    with cluster.running():
        yield cluster


@contextmanager
def running_spark(folder: Path, worker_environment: Mapping[str, str]) -> Iterator[Cluster]:
    """deploy/spark/local_cluster.sh on free ports."""
    port, pool_port = free_port(), free_port()
    environment = {
        **_environment(worker_environment, pool_port),
        "SPARK_FOLDER": str(folder),
        "SPARK_PORT": str(port),
        "SPARK_UI_PORT": str(free_port()),
    }
    flags = (
        "--runner=SparkRunner",
        f"--spark_master_url=spark://localhost:{port}",
        f"--environment_config=localhost:{pool_port}",
    )
    servers = {JOB_SERVERS: str(job_server_folder(SPARK_JAR))}
    cluster = Cluster(DEPLOY / "spark" / "local_cluster.sh", folder, flags, servers, environment)
    with cluster.running():
        yield cluster


@contextmanager
def worker_pool(folder: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """One more pool of Python workers, with an environment of its own; yields the address for one TaskManager."""
    port = free_port()
    with (folder / "worker-pool.out").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.worker_pool", f"--address=127.0.0.1:{port}"],
            env={"PATH": os.environ["PATH"], **environment},
            cwd=folder,
            stdout=output,
            stderr=output,
        )
    try:
        yield f"localhost:{port}"
    finally:
        process.terminate()
        process.wait(20)
