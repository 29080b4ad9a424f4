"""A worker that cannot do its job says why, and the user reads it: one line, exit code 3, nothing copied."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clusters.clusters import DEPLOY, Cluster, worker_pool
from tests.fixtures.compare import keys_of
from tests.fixtures.s3 import S3Server
from tests.integration.conftest import MakeFerry, new_bucket
from tests.integration.ferry import Finished
from tests.integration.ledger import Ledger
from tests.integration.scenes import small_objects, stocked

pytestmark = pytest.mark.nightly
REPOSITORY = DEPLOY.parent
RunWith = Callable[[dict[str, str]], Finished]


@pytest.fixture
def run_with(tmp_path: Path, flink: Cluster, minio: S3Server, cluster_ledger: Ledger, ferry: MakeFerry) -> RunWith:
    """`run_with(environment)` runs a job on one worker that has this environment."""

    def run(environment: dict[str, str]) -> Finished:
        scene = stocked(minio, new_bucket(minio), small_objects(3))
        target = new_bucket(minio)
        user = ferry(minio, minio, cluster_ledger)
        user.environment |= flink.environment
        with worker_pool(tmp_path, environment) as address:
            run = user.run(
                scene.inventory(),
                f"s3://{target}",
                *flink.flags,
                f"--environment_config={address}",
                "--parallelism=1",
                "--environment_cache_millis=1000",
                "--log_level=WARNING",
            )
        assert keys_of(minio.client(), target) == []
        return run

    return run


def says(run: Finished, *words: str) -> None:
    """The run has broken, and said `words` on one line of the log and nothing else."""
    assert run.code == 3, run.explain()
    assert run.summary["outcome"] == "broken"
    for word in words:
        assert word in run.summary["error"], run.explain()
    said = [line for line in run.stderr.splitlines() if not re.search(r"\d rows; ", line)]
    assert len(said) == 1, run.stderr


def test_no_ledger(run_with: RunWith, worker_environment: dict[str, str]) -> None:
    environment = {name: value for name, value in worker_environment.items() if name != "LEDGER_DSN"}
    run = run_with({**environment, "PYTHONPATH": str(REPOSITORY)})
    says(run, "this worker has no ledger: set LEDGER_DSN in the worker's own environment")


def test_another_version_of_the_package(run_with: RunWith, worker_environment: dict[str, str], tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / "model", tmp_path / "model")
    (tmp_path / "model" / "version.py").write_text('VERSION = "0.0.1"\n')
    run = run_with({**worker_environment, "PYTHONPATH": f"{tmp_path}:{REPOSITORY}"})
    says(run, "this worker has s3ferry 0.0.1, the job was made by", "install that version")


def test_wrong_credentials(run_with: RunWith, worker_environment: dict[str, str]) -> None:
    wrong = {"DESTINATION_AWS_SECRET_ACCESS_KEY": "not-the-secret"}
    run = run_with({**worker_environment, **wrong, "PYTHONPATH": str(REPOSITORY)})
    says(run, "this worker cannot take work: destination: the endpoint refuses these credentials")
