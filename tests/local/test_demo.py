"""The demonstration as a whole, on fewer objects: the real job against the embedded servers."""

from __future__ import annotations

import fcntl
import socket
from pathlib import Path

import pytest

from local.demo import Demonstration, demonstrate, main
from local.embedded import forget
from local.workload import WorkObject, awkward, with_metadata

FEW = [*awkward(), *with_metadata(), WorkObject("plain", 100_000)]


@pytest.mark.parametrize("format", ["csv", "parquet", "orc"])
def test_everything_is_verified_and_a_second_call_skips_it(
    format: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    wanted = Demonstration(format, tmp_path, ("--workers=1",))
    assert demonstrate(wanted, FEW) == 0
    first = capfd.readouterr().out
    assert f"{len(FEW)} VERIFIED" in first
    assert "sha256" in first
    assert demonstrate(wanted, FEW) == 0
    assert "SKIPPED" in capfd.readouterr().out


def test_nothing_is_left_running(tmp_path: Path) -> None:
    assert demonstrate(Demonstration("csv", tmp_path, ("--no_such_flag=1",)), FEW[:1]) == 2
    assert not (tmp_path / "postgres" / "postmaster.pid").exists()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int((tmp_path / "s3" / "port").read_text()))) != 0


def test_fresh_forgets_what_was_kept_and_nothing_else(tmp_path: Path) -> None:
    for name in ("s3", "postgres", "mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "kept").touch()
    forget(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_two_demonstrations_in_one_folder_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main([f"--data={tmp_path}", "--fresh"]) == 2
    assert f"a demonstration is running in {tmp_path} already" in capsys.readouterr().err
