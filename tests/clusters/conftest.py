"""Fixtures of the cluster tests: clusters, started once a session, and the one ledger their workers write to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clusters.clusters import (
    FLINK_JAR,
    SPARK_JAR,
    Cluster,
    FlinkCluster,
    job_server_folder,
    need,
    running_flink,
    running_spark,
)
from tests.fixtures.s3 import S3Server
from tests.fixtures.tools import cache
from tests.integration.conftest import ferry, fresh_ledger, module_ferry, proxied
from tests.integration.ledger import Ledger

__all__ = ["ferry", "module_ferry", "proxied"]

WORKERS_HOME = {"AWS_EC2_METADATA_DISABLED": "true", "PYTHONUNBUFFERED": "1"}


@pytest.fixture(scope="session")
def cluster_ledger(postgres_uri: str) -> Iterator[Ledger]:
    """One ledger for all tests of a session: a cluster's workers are told of theirs when it starts."""
    with fresh_ledger(postgres_uri) as ledger:
        yield ledger


@pytest.fixture(scope="session")
def worker_environment(minio: S3Server, cluster_ledger: Ledger) -> dict[str, str]:
    """What the workers of a cluster are given: the ledger and the credentials of both sides."""
    sides = minio.environment("SOURCE") | minio.environment("DESTINATION")
    return {**WORKERS_HOME, **sides, "LEDGER_DSN": cluster_ledger.dsn}


@pytest.fixture(scope="session")
def flink(tmp_path_factory: pytest.TempPathFactory, worker_environment: dict[str, str]) -> Iterator[FlinkCluster]:
    """A standalone Flink cluster of two TaskManagers with a slot and a Python worker each."""
    job_server_folder(FLINK_JAR)
    need("Flink (deploy/flink/local_cluster.sh)", there=any((cache() / "tools").glob("flink-*")))
    with running_flink(tmp_path_factory.mktemp("flink"), worker_environment) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory, worker_environment: dict[str, str]) -> Iterator[Cluster]:
    """A standalone Spark cluster: a master, a worker of two cores and a Python worker."""
    job_server_folder(SPARK_JAR)
    need("Spark (deploy/spark/local_cluster.sh)", there=any((cache() / "tools").glob("spark-*")))
    with running_spark(tmp_path_factory.mktemp("spark"), worker_environment) as cluster:
        yield cluster
