"""An embedded S3 and an embedded PostgreSQL, stocked with objects and their inventory: all that a run needs."""

from __future__ import annotations

import argparse
import fcntl
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.child import exit_on_signals
from local.folders import data_folder
from local.postgres import running_postgres
from local.s3_process import running_s3
from local.stock import DESTINATION, stock
from local.workload import WorkObject
from model.errors import InvalidInput, S3ferryError

REGION = "us-east-1"
ACCESS_KEY, SECRET_KEY = "embedded-access-key", "embedded-secret-key"
JOB = "demo"


@dataclass(frozen=True, slots=True)
class Stocked:
    """Both servers at work: the URL of the S3, the DSN of the ledger, and the manifest of what is in the source."""

    url: str
    dsn: str
    manifest: str

    @property
    def flags(self) -> list[str]:
        """The flags of a run that copies all of it."""
        return [
            f"--manifest={self.manifest}",
            f"--destination=s3://{DESTINATION}",
            f"--source_endpoint_url={self.url}",
            f"--destination_endpoint_url={self.url}",
            f"--job={JOB}",
        ]

    @property
    def environment(self) -> Mapping[str, str]:
        """What a run and its workers need in their environment."""
        return {
            "LEDGER_DSN": self.dsn,
            **{
                f"{side}_AWS_{name}": value
                for side in ("SOURCE", "DESTINATION")
                for name, value in (
                    ("ACCESS_KEY_ID", ACCESS_KEY),
                    ("SECRET_ACCESS_KEY", SECRET_KEY),
                    ("REGION", REGION),
                )
            },
        }


@contextmanager
def running_stocked(folder: Path, format: str, objects: Sequence[WorkObject]) -> Iterator[Stocked]:
    """Both servers with their data in `folder`, `objects` in the source; stopped and saved at the end.

    One process at a time: see `alone`. Raises RunBroken when one does not start.
    """
    say(f"Data are kept in {folder} (--fresh starts over).")
    with running_s3(folder / "s3") as url, running_postgres(folder / "postgres") as dsn:
        say(f"Embedded S3 at {url}; the ledger is the embedded PostgreSQL in {folder / 'postgres'}.")
        client = _client(url)
        yield Stocked(url, dsn, stock(client, client, format, objects))


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Makes `folder`, and keeps others out: two servers on one folder would overwrite each other's index."""
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
    """Removes what the servers left in `folder`, and nothing else. May be repeated."""
    for name in ("s3", "postgres"):
        shutil.rmtree(folder / name, ignore_errors=True)


def in_folder(arguments: argparse.Namespace, work: Callable[[Path], int]) -> int:
    """`work` on the folder of the data, alone there; its exit code, 2 when another is there, 3 without servers."""
    folder = arguments.data.expanduser().resolve()
    with exit_on_signals():
        try:
            with alone(folder):
                if arguments.fresh:
                    forget(folder)
                return work(folder)
        except S3ferryError as error:
            print(f"s3ferry: {error}", file=sys.stderr)
            return 2 if isinstance(error, InvalidInput) else 3


def add_flags(parser: argparse.ArgumentParser, name: str) -> None:
    """The flags of whoever serves the objects: --fresh, --format, and --data with `name` in the user's data folder."""
    parser.add_argument("--fresh", action="store_true", help="forget what earlier calls left")
    parser.add_argument(
        "--format", choices=("csv", "parquet", "orc"), default="csv", help="format of the inventory (default: csv)"
    )
    parser.add_argument(
        "--data", type=Path, default=data_folder() / name, metavar="DIR", help="folder that keeps the data"
    )


def say(line: str) -> None:
    """Prints a line at once, in order with what child processes print."""
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
