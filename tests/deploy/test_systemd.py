"""The units of deploy/systemd are what systemd takes, and what they run is what s3ferry takes."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from model.outcome import Exit
from model.routing import MIB
from options.parse import parse_run
from storage.memory import WORKER_BASE_BYTES
from tests.deploy.manifests import DRIVER_BYTES, REPOSITORY, bodies_bytes
from tests.fixtures.tools import missing
from transforms.context import transfer_limits

UNITS = REPOSITORY / "deploy/systemd"
PROGRAM = "/opt/s3ferry/bin/s3ferry"


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """`systemd-analyze`, which needs no systemd to run. Without it the test is skipped; with CI=true it fails."""
    program = shutil.which("systemd-analyze")
    if program is None:
        missing("systemd-analyze is not installed: it comes with Debian's package systemd")
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units as they are installed, with a program that exists."""
    for unit in UNITS.iterdir():
        (tmp_path / unit.name).write_text(unit.read_text().replace(PROGRAM, "/bin/true"))
    return tmp_path


def settings() -> dict[str, str]:
    """The service's settings by name, the last of each; continued lines joined."""
    text = (UNITS / "s3ferry.service").read_text().replace("\\\n", " ")
    return dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))


def flags() -> list[str]:
    """The arguments of ExecStart with systemd's specifiers filled in."""
    program, command, *rest = shlex.split(settings()["ExecStart"])
    assert (program, command) == (PROGRAM, "run")
    return [flag.replace("%%", "%").replace("%S", "/var/lib") for flag in rest]


@pytest.mark.parametrize("unit", ["s3ferry.service", "s3ferry.timer"])
def test_systemd_takes_the_units(installed: Path, unit: str) -> None:
    said = analyze("verify", installed / unit)
    assert (said.returncode, said.stdout + said.stderr) == (0, "")


@pytest.mark.parametrize("wrong", ["RestrictRealtme=yes", "Restart=perhaps", "TimeoutStopSec=soon"])
def test_systemd_says_so_of_a_broken_unit(installed: Path, wrong: str) -> None:
    unit = installed / "s3ferry.service"
    unit.write_text(unit.read_text().replace("[Service]\n", f"[Service]\n{wrong}\n"))
    assert "s3ferry.service:" in analyze("verify", unit).stderr


def test_the_service_is_confined(installed: Path) -> None:
    said = analyze("security", "--offline=true", "--threshold=20", installed / "s3ferry.service")
    assert said.returncode == 0, said.stdout


def test_the_flags_are_ones_that_s3ferry_takes() -> None:
    job = parse_run(flags())
    assert job.inventory.manifests == ("s3://acme-inventory/photos/daily/latest",)
    assert job.run.max_failures == "1%"
    assert job.run.summary == f"/var/lib/{settings()['StateDirectory']}/summary.json"


def test_each_exit_code_has_its_consequence() -> None:
    stopped = {int(code) for code in settings()["SuccessExitStatus"].split()}
    given_up = {int(code) for code in settings()["RestartPreventExitStatus"].split()}
    tried_again = set(Exit) - {Exit.OK} - stopped - given_up
    assert stopped == {Exit.INTERRUPTED}
    assert given_up == {Exit.FAILURES, Exit.USAGE, Exit.LEASE_HELD}
    assert tried_again == {Exit.BROKEN}


def test_memory_is_enough_for_driver_and_workers() -> None:
    job = parse_run(flags())
    limits = transfer_limits(job, job.run.workers)
    most = int(settings()["MemoryMax"].removesuffix("G")) * 1024 * MIB

    # the limit of a unit is not that of the root of the cgroups, which is where a container finds its own
    assert job.copy.memory_budget_bytes == limits.memory_budget_bytes >= bodies_bytes(limits)
    assert DRIVER_BYTES + job.run.workers * (WORKER_BASE_BYTES + limits.memory_budget_bytes) <= most
