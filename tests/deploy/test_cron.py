"""The line of deploy/cron: cron's form, flags that s3ferry takes, and output, which cron mails, when a run failed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from options.parse import parse_run
from tests.deploy.manifests import REPOSITORY

TAB = REPOSITORY / "deploy/cron/s3ferry"


def command() -> str:
    """What cron hands to the shell: all behind the five fields and the user, up to a bare percent sign."""
    (line,) = [line for line in TAB.read_text().splitlines() if re.match(r"[\d*]", line)]
    *_, user, rest = line.split(maxsplit=6)
    assert user == "ferry"
    return re.split(r"(?<!\\)%", rest)[0].replace("\\%", "%")


def run_line(home: Path, code: int) -> subprocess.CompletedProcess[str]:
    """Runs the line with a program in s3ferry's place that says what it was given and ends with `code`."""
    program = home / "s3ferry"
    program.write_text(
        f'#!/bin/sh\necho "dsn $LEDGER_DSN"\nprintf "%s\\n" "$@" >$HOME/given\necho trouble >&2\nexit {code}\n'
    )
    program.chmod(0o755)
    (home / "s3ferry.env").write_text("LEDGER_DSN='host=db user=ferry'\n")
    line = command().replace("/etc/s3ferry/s3ferry.env", str(home / "s3ferry.env"))
    env = {"HOME": str(home), "PATH": f"{home}:{os.environ['PATH']}"}
    return subprocess.run(["/bin/sh", "-c", line], env=env, capture_output=True, text=True, check=False)


def test_the_flags_are_ones_that_s3ferry_takes(tmp_path: Path) -> None:
    run_line(tmp_path, 0)
    name, *flags = (tmp_path / "given").read_text().splitlines()
    assert name == "run"
    assert parse_run(flags).run.max_failures == "1%"


def test_a_run_that_succeeds_prints_nothing_to_mail_and_keeps_its_log(tmp_path: Path) -> None:
    ended = run_line(tmp_path, 0)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert (tmp_path / "s3ferry-photos.log").read_text() == "dsn host=db user=ferry\ntrouble\n"


@pytest.mark.parametrize("code", [1, 2, 3, 4, 5])
def test_a_run_that_does_not_prints_its_code_and_the_end_of_its_log(tmp_path: Path, code: int) -> None:
    ended = run_line(tmp_path, code)
    assert ended.stdout.splitlines() == [f"s3ferry ended with {code}", "dsn host=db user=ferry", "trouble"]


def test_the_file_has_the_form_of_cron_d() -> None:
    for line in TAB.read_text().splitlines():
        assert re.match(r"#|[A-Z_]+=|(\S+ ){5}ferry \S", line), line
        assert len(shlex.split(line, comments=True)) > 0 or line.startswith("#")
    assert TAB.read_text().endswith("\n"), "cron passes over a last line without an end"
    assert "." not in TAB.name
