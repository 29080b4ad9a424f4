"""`python -m local.demo`: the whole job on this machine alone, against an embedded S3 and an embedded PostgreSQL.

It makes the mixed scenario at 1/1000 with awkward keys, writes a real inventory of it, runs the job as a
user would, and shows one row of the ledger. Its data are kept: a second call finds everything verified.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.child import exit_on_signals, run_child
from local.folders import data_folder
from local.postgres import running_postgres
from local.s3_process import running_s3
from local.stock import DESTINATION, stock
from local.workload import WorkObject, demonstration
from model.errors import InvalidInput, S3ferryError

REGION = "us-east-1"
ACCESS_KEY, SECRET_KEY = "embedded-access-key", "embedded-secret-key"
JOB = "demo"


@dataclass(frozen=True, slots=True)
class Demonstration:
    """What to run: inventory format, folder of the data, and further flags of `s3ferry run`."""

    format: str
    folder: Path
    flags: tuple[str, ...]


def main(argv: list[str] | None = None) -> int:
    """Runs the demonstration; the job's exit code, 2 when one is running already, 3 when the servers do not start."""
    arguments, flags = _parser().parse_known_args(argv)
    folder = arguments.data.expanduser().resolve()
    with exit_on_signals():
        try:
            with _alone(folder):
                if arguments.fresh:
                    forget(folder)
                return demonstrate(Demonstration(arguments.format, folder, tuple(flags)), demonstration())
        except S3ferryError as error:
            print(f"s3ferry: {error}", file=sys.stderr)
            return 2 if isinstance(error, InvalidInput) else 3


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two servers on one folder would overwrite each other's index."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InvalidInput(
                f"a demonstration is running in {folder} already: wait, or name another --data"
            ) from None
        yield


def forget(folder: Path) -> None:
    """Removes what demonstrations left in `folder`, and nothing else. May be repeated."""
    for name in ("s3", "postgres"):
        shutil.rmtree(folder / name, ignore_errors=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run_local.sh",
        allow_abbrev=False,
        description="Runs the whole job on this machine against embedded servers. "
        "Other flags are passed on to `s3ferry run` (see `s3ferry run --help`).",
    )
    parser.add_argument("--fresh", action="store_true", help="forget what earlier demonstrations left")
    parser.add_argument(
        "--format", choices=("csv", "parquet", "orc"), default="csv", help="format of the inventory (default: csv)"
    )
    parser.add_argument(
        "--data", type=Path, default=data_folder() / "demo", metavar="DIR", help="folder that keeps the data"
    )
    return parser


def demonstrate(wanted: Demonstration, objects: Sequence[WorkObject]) -> int:
    """Starts both servers, makes `objects` and their inventory, runs the job and stops everything; its exit code."""
    with ExitStack() as stack:
        _say(f"Data are kept in {wanted.folder} (--fresh starts over).")
        url = stack.enter_context(running_s3(wanted.folder / "s3"))
        dsn = stack.enter_context(running_postgres(wanted.folder / "postgres"))
        _say(f"Embedded S3 at {url}; the ledger is the embedded PostgreSQL in {wanted.folder / 'postgres'}.")
        client = _client(url)
        manifest = stock(client, client, wanted.format, objects)
        command = [sys.executable, "-m", "pipeline.main", "run", *_run_flags(url, manifest), *wanted.flags]
        _say(f"s3ferry {' '.join(command[3:])}")
        started = time.monotonic()
        code = run_child(command, {**os.environ, **_credentials(), "LEDGER_DSN": dsn})
        _say(f"\nThe job took {time.monotonic() - started:.1f} s and ended with exit code {code}.")
        _show_ledger_row(dsn)
    return code


def _say(line: str) -> None:
    print(line, flush=True)


def _client(url: str) -> Any:
    import boto3  # noqa: PLC0415
    from botocore.config import Config  # noqa: PLC0415

    return boto3.client(
        "s3",
        endpoint_url=url,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        region_name=REGION,
        config=Config(
            s3={"addressing_style": "path"}, max_pool_connections=16, request_checksum_calculation="when_required"
        ),
    )


def _run_flags(url: str, manifest: str) -> list[str]:
    return [
        f"--manifest={manifest}",
        f"--destination=s3://{DESTINATION}",
        f"--source_endpoint_url={url}",
        f"--destination_endpoint_url={url}",
        f"--job={JOB}",
    ]


def _credentials() -> dict[str, str]:
    return {
        f"{side}_AWS_{name}": value
        for side in ("SOURCE", "DESTINATION")
        for name, value in (("ACCESS_KEY_ID", ACCESS_KEY), ("SECRET_ACCESS_KEY", SECRET_KEY), ("REGION", REGION))
    }


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
        _say("The ledger has no row of this job yet.")
        return
    _say("One row of the ledger (table objects):")
    width = max(map(len, row))
    for name, value in row.items():
        _say(f"  {name:<{width}}  {'' if value is None else value}")


if __name__ == "__main__":
    sys.exit(main())
