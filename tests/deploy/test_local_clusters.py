"""The scripts of local clusters know their own processes from others, and say what keeps a cluster from being there."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.deploy.manifests import REPOSITORY
from tests.fixtures.servers import free_port
from tests.fixtures.tools import missing
from tests.integration.ferry import until

DEPLOY = REPOSITORY / "deploy"
LISTENER = "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(300)"
Called = subprocess.CompletedProcess[str]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """The folder of a cluster; what is left of it is ended after the test."""
    cluster = tmp_path / "cluster"
    cluster.mkdir()
    yield cluster
    call(cluster, "down")


def call(folder: Path, script: str, *, cwd: Path | None = None) -> Called:
    """Runs a few lines of a cluster's script."""
    never = "never() { echo something is lacking; }"
    lines = f'set -euo pipefail; folder=$1 python=$2; . "{DEPLOY}/processes.sh"; {never}; {script}'
    command = ["bash", "-c", lines, "bash", str(folder), sys.executable]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, timeout=60)


def pid(folder: Path, name: str) -> int:
    """What the cluster takes for the number of a process."""
    return int((folder / f"{name}.pid").read_text())


def is_alive(number: int) -> bool:
    """Whether a process of that number runs."""
    return psutil.pid_exists(number) and psutil.Process(number).status() != psutil.STATUS_ZOMBIE


@contextmanager
def stranger(folder: Path, name: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process, first of its group, whose number is in the file of `name`, as after a reboot."""
    process = subprocess.Popen(["sleep", "300"], start_new_session=True)
    try:
        (folder / f"{name}.pid").write_text(f"{process.pid}\n")
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def taken(port: int) -> Iterator[None]:
    """Somebody else listens on a port of this machine."""
    with socket.create_server(("127.0.0.1", port)):
        yield


def test_down_ends_what_was_started_with_its_children(folder: Path) -> None:
    assert call(folder, "start pool bash -c 'sleep 300 & wait'").returncode == 0
    until(lambda: psutil.Process(pid(folder, "pool")).children(), "the child runs")
    started = [psutil.Process(pid(folder, "pool")), *psutil.Process(pid(folder, "pool")).children()]
    call(folder, "down")
    assert [process for process in started if is_alive(process.pid)] == []
    assert list(folder.glob("*.pid")) == []


def test_down_ends_the_children_of_a_process_that_was_killed(folder: Path) -> None:
    call(folder, "start pool bash -c 'sleep 300 & wait'")
    first = psutil.Process(pid(folder, "pool"))
    until(first.children, "the child runs")
    (child,) = first.children()
    os.kill(first.pid, signal.SIGKILL)
    call(folder, "down")
    assert not is_alive(child.pid)


def test_down_leaves_alone_whoever_has_the_number_now(folder: Path) -> None:
    with stranger(folder, "pool") as other:
        assert call(folder, "down").returncode == 0
        assert other.poll() is None
    assert list(folder.glob("*.pid")) == []


def test_a_stranger_with_the_number_does_not_keep_a_process_from_being_started(folder: Path) -> None:
    with stranger(folder, "pool") as other:
        assert call(folder, "start pool sleep 300").returncode == 0
        assert pid(folder, "pool") != other.pid
        assert call(folder, "is_running pool").returncode == 0


def test_what_runs_is_not_started_again(folder: Path) -> None:
    call(folder, "start pool sleep 300")
    first = pid(folder, "pool")
    call(folder, "start pool sleep 300")
    assert pid(folder, "pool") == first


def test_a_process_that_has_ended_is_named_with_what_it_said_and_the_rest_is_ended(folder: Path) -> None:
    up = call(
        folder, "start jobmanager sleep 300; start pool sh -c 'echo no port; exit 1'; await never jobmanager pool"
    )
    assert up.returncode == 1
    assert up.stderr == (f"local_cluster.sh: pool has ended (no port): see {folder}/pool.* and call up again\n")
    assert list(folder.glob("*.pid")) == []
    assert call(folder, "is_running jobmanager").returncode == 1


def test_a_process_that_ended_without_a_word_is_named_too(folder: Path) -> None:
    up = call(folder, "start pool false; await never pool")
    assert (up.returncode, up.stderr.count("\n")) == (1, 1)
    assert "pool has ended" in up.stderr


def test_what_ran_before_goes_on_where_the_rest_does_not_come_up(folder: Path) -> None:
    call(folder, "start jobmanager sleep 300")
    first = pid(folder, "jobmanager")
    up = call(folder, "start jobmanager sleep 300; start pool false; await never jobmanager pool")
    assert up.returncode == 1
    assert is_alive(first)
    assert pid(folder, "jobmanager") == first


def test_a_port_answers_from_ours_only_where_we_listen(folder: Path) -> None:
    port = free_port()
    with taken(port):
        call(folder, "start pool sleep 300")
        assert call(folder, f"listens pool {port}").returncode != 0
    call(folder, f'down; start pool "$python" -c "{LISTENER}" {port}')
    until(lambda: call(folder, f"listens pool {port}").returncode == 0, "our own port is seen")


def test_a_port_is_free_for_the_process_that_has_it(folder: Path) -> None:
    port = free_port()
    call(folder, f'start pool "$python" -c "{LISTENER}" {port}')
    until(lambda: call(folder, f"listens pool {port}").returncode == 0, "it listens")
    assert call(folder, f"need_port pool 127.0.0.1 {port} POOL_PORT").returncode == 0
    assert call(folder, f"need_port other 127.0.0.1 {port} OTHER_PORT").returncode == 1


def test_another_address_of_this_machine_may_have_the_same_port(folder: Path) -> None:
    port = free_port()
    with taken(port):
        assert call(folder, f"need_port pool 127.0.1.1 {port} POOL_PORT").returncode == 0


@pytest.mark.parametrize(
    ("script", "variable", "name"),
    [
        ("flink", "FLINK_PORT", "jobmanager"),
        ("flink", "FLINK_RPC_PORT", "jobmanager"),
        ("spark", "SPARK_PORT", "master"),
        ("spark", "SPARK_UI_PORT", "master"),
        ("spark", "WORKER_POOL_PORT", "worker-pool-1"),
    ],
)
def test_a_taken_port_is_one_line_that_names_it_and_nothing_is_started(
    folder: Path, script: str, variable: str, name: str
) -> None:
    if shutil.which("java") is None:
        missing("java is not installed")
    others = ("FLINK_PORT", "FLINK_RPC_PORT", "SPARK_PORT", "SPARK_UI_PORT", "WORKER_POOL_PORT")
    port = free_port()
    with taken(port):
        # a port that is free here may be another test's by the time it is looked at
        for _ in range(5):
            environment = {
                **os.environ,
                **{other: str(free_port()) for other in others},
                "PYTHON": sys.executable,
                "PYTHONPATH": str(REPOSITORY),
                f"{script.upper()}_FOLDER": str(folder),
                variable: str(port),
            }
            up = subprocess.run(
                [DEPLOY / script / "local_cluster.sh", "up"],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
            if f":{port}," in up.stderr:
                break
    assert up.returncode == 1
    assert up.stdout == ""
    assert up.stderr.startswith("local_cluster.sh: ")
    assert up.stderr.endswith(f":{port}, where {name} is to listen, is taken: end what listens there, "
                              f"or set {variable} to another port\n")  # fmt: skip
    assert list(folder.glob("*.pid")) == []


def test_a_folder_of_the_callers_is_not_imported_in_place_of_ours(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "__init__.py").write_text("raise SystemExit('the wrong one')\n")
    assert call(folder, '"$python" -c "import json"', cwd=tmp_path).returncode == 0
