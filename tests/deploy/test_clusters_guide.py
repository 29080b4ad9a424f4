"""What docs/clusters.md says to type is there, and s3ferry takes it."""

from __future__ import annotations

import os
import re
import shlex

import pytest

from local.embedded import Stocked
from local.servers import parser
from options.parse import parse_run
from tests.deploy.manifests import KUBERNETES, REPOSITORY

GUIDE = (REPOSITORY / "docs/clusters.md").read_text(encoding="utf-8")
LINES = [
    line for block in re.findall(r"^```sh\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL) for line in block.splitlines()
]
RUNS = [line for line in LINES if line.startswith("s3ferry run")]


@pytest.mark.parametrize("line", RUNS)
def test_s3ferry_takes_the_runs_with_the_flags_of_the_embedded_servers(line: str) -> None:
    copied = shlex.join(Stocked("http://127.0.0.1:9000", "host=db", "s3://inventory/source/daily/manifest.json").flags)
    _, _, *flags = shlex.split(line.replace('"${COPY[@]}"', copied))
    job = parse_run(flags)
    assert job.run.runner in ("FlinkRunner", "SparkRunner")
    assert job.run.job == "demo"


def test_flink_and_spark_have_runs_in_it() -> None:
    assert len(RUNS) == 3


def test_every_script_it_calls_is_there_and_can_be_run() -> None:
    scripts = {line.split()[0] for line in LINES if line.startswith("deploy/")}
    assert {"deploy/flink/local_cluster.sh", "deploy/spark/local_cluster.sh", "deploy/job-server/build.sh"} == scripts
    assert [name for name in scripts if not os.access(REPOSITORY / name, os.X_OK)] == []


def test_the_file_it_sources_is_the_one_that_the_embedded_servers_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/somebody")
    folder = parser().parse_args([]).data
    assert f". {folder}/environment".replace("/home/somebody", "~") in GUIDE


def test_the_class_path_is_that_of_the_image() -> None:
    (named,) = re.findall(r"^export (HADOOP_CLASSPATH=\S+)", GUIDE, re.MULTILINE)
    assert f"ENV {named}\n" in (KUBERNETES / "flink/Dockerfile").read_text()
