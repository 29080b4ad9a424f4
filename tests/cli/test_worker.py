import re
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (INFO|WARNING) +(copied key\\n[1-4]|refused password=\*\*\*)")


def test_lines_of_worker_processes_come_through_the_driver_only() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from tests.cli.logging_job import main; main()"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )

    lines = done.stderr.splitlines()
    assert [line for line in lines if not LINE.fullmatch(line)] == []
    assert len(lines) == 8
