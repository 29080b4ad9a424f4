"""The servers to try runs against: what they say is enough for a run, and Ctrl-C leaves nothing."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from local.servers import main
from tests.fixtures.servers import START_S
from tests.integration.ferry import until

FEW = """
import sys
from pathlib import Path
from local import servers
from local.workload import WorkObject

servers.demonstration = lambda: [WorkObject("plain", 100_000), WorkObject("with space", 0)]
sys.exit(servers.main(sys.argv[1:]))
"""


@contextmanager
def serving(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """`python -m local.servers`, with fewer objects, once it has said what a run needs."""
    command = [sys.executable, "-c", FEW, f"--data={folder}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        until(lambda: "COPY=" in _told(folder) or process.poll() is not None, "the servers are there", START_S)
        yield process
    finally:
        process.terminate()
        process.communicate()


def _told(folder: Path) -> str:
    file = folder / "environment"
    return file.read_text() if file.exists() else ""


def test_what_they_say_is_all_that_a_run_needs(tmp_path: Path) -> None:
    script = '. "$1"; exec "$2" -m pipeline.main run "${COPY[@]}" --workers=1'
    with serving(tmp_path):
        command = ["bash", "-c", script, "bash", tmp_path / "environment", sys.executable]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "2 rows accounted for: 2 VERIFIED" in run.stdout


def test_ctrl_c_ends_both_servers_and_nothing_is_said_any_more(tmp_path: Path) -> None:
    with serving(tmp_path) as process:
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert not (tmp_path / "environment").exists()
    assert not (tmp_path / "postgres" / "postmaster.pid").exists()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int((tmp_path / "s3" / "port").read_text()))) != 0


def test_a_second_call_in_one_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(tmp_path):
        assert main([f"--data={tmp_path}"]) == 2
    assert f"a demonstration is running in {tmp_path} already" in capsys.readouterr().err
