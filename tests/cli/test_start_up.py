"""Help, version and wrong flags answer at once: nothing heavy is loaded for them."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
HEAVY = (
    "apache_beam",
    "boto3",
    "botocore",
    "pyarrow",
    "psycopg",
    "pyreqwest",
    "aiohttp",
    "awscrt",
    "moto",
    "rich",
    "fastavro",
)

PROGRAM = """
import sys
from pipeline.main import main
code = main(sys.argv[1:])
print("loaded:", [name for name in {heavy!r} if name in sys.modules])
sys.exit(code)
"""


ANSWERS = [
    (["--help"], 0),
    (["--version"], 0),
    (["run", "--help"], 0),
    ([], 2),
    (["rnu"], 2),
    (["ledger", "--help"], 0),
    (["ledger"], 2),
    (["stop", "--help"], 0),
    (["status", "last"], 2),
    (["run"], 2),
    (["run", "--part_size=1"], 2),
    (["run", "--manifest=m.json", "--destination=s3://dst", "--runner=FlinkRunner"], 2),
]


@pytest.mark.parametrize(("argv", "code"), ANSWERS, ids=[" ".join(argv) for argv, _ in ANSWERS])
def test_an_answer_without_work_loads_nothing_heavy(argv: list[str], code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(heavy=HEAVY), *argv],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == code, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded: []"
