"""`python -m local.demo`: the whole job on this machine alone, against an embedded S3 and an embedded PostgreSQL.

It makes the mixed scenario at 1/1000 with awkward keys, writes a real inventory of it, runs the job as a
user would, and shows one row of the ledger. Its data are kept: a second call finds everything verified.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from local.child import run_child
from local.embedded import JOB, add_flags, in_folder, running_stocked, say
from local.workload import WorkObject, demonstration


@dataclass(frozen=True, slots=True)
class Demonstration:
    """What to run: inventory format, folder of the data, and further flags of `s3ferry run`."""

    format: str
    folder: Path
    flags: tuple[str, ...]


def main(argv: list[str] | None = None) -> int:
    """Runs the demonstration; the job's exit code, 2 when one is running already, 3 when the servers do not start."""
    arguments, flags = _parser().parse_known_args(argv)

    def work(folder: Path) -> int:
        return demonstrate(Demonstration(arguments.format, folder, tuple(flags)), demonstration())

    return in_folder(arguments, work)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run_local.sh",
        allow_abbrev=False,
        description="Runs the whole job on this machine against embedded servers. "
        "Other flags are passed on to `s3ferry run` (see `s3ferry run --help`).",
    )
    add_flags(parser, "demo")
    return parser


def demonstrate(wanted: Demonstration, objects: Sequence[WorkObject]) -> int:
    """Starts both servers, makes `objects` and their inventory, runs the job and stops everything; its exit code."""
    with running_stocked(wanted.folder, wanted.format, objects) as stocked:
        command = [sys.executable, "-m", "pipeline.main", "run", *stocked.flags, *wanted.flags]
        say(f"s3ferry {' '.join(command[3:])}")
        started = time.monotonic()
        code = run_child(command, {**os.environ, **stocked.environment})
        say(f"\nThe job took {time.monotonic() - started:.1f} s and ended with exit code {code}.")
        _show_ledger_row(stocked.dsn)
    return code


def _show_ledger_row(dsn: str) -> None:
    """Prints the ledger's row of the largest object that has a SHA-256, one column a line."""
    import psycopg  # noqa: PLC0415
    from psycopg.rows import dict_row  # noqa: PLC0415

    query = "SELECT * FROM objects WHERE job = %s ORDER BY sha256 IS NULL, size DESC, destination_key LIMIT 1"
    try:
        with psycopg.connect(dsn, row_factory=dict_row) as connection:
            row = connection.execute(query, (JOB,)).fetchone()
    except psycopg.errors.UndefinedTable:
        row = None
    if row is None:
        say("The ledger has no row of this job yet.")
        return
    say("One row of the ledger (table objects):")
    width = max(map(len, row))
    for name, value in row.items():
        say(f"  {name:<{width}}  {'' if value is None else value}")


if __name__ == "__main__":
    sys.exit(main())
