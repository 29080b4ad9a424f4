"""`python -m local.servers`: an embedded S3 and an embedded PostgreSQL to try runs against, until Ctrl-C.

They hold the objects of the demonstration and their inventory. What a run needs is in a file for the shell: the
environment, also of a cluster's workers, and the flags as the array COPY.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from local.child import exit_on_signals
from local.embedded import Stocked, alone, forget, running_stocked, say
from local.folders import data_folder
from local.workload import WorkObject, demonstration
from model.errors import InvalidInput, S3ferryError


def main(argv: list[str] | None = None) -> int:
    """Serves until it is told to stop: 0; 2 when the folder is in use already, 3 when the servers do not start."""
    arguments = parser().parse_args(argv)
    folder = arguments.data.expanduser().resolve()
    with exit_on_signals():
        try:
            with alone(folder):
                if arguments.fresh:
                    forget(folder)
                serve(folder, arguments.format, demonstration())
        except S3ferryError as error:
            print(f"s3ferry: {error}", file=sys.stderr)
            return 2 if isinstance(error, InvalidInput) else 3
    return 0


def serve(folder: Path, format: str, objects: Sequence[WorkObject]) -> None:
    """Keeps both servers running, with `objects` in the source, until a signal comes (see `exit_on_signals`)."""
    with (
        suppress(SystemExit),
        running_stocked(folder, format, objects) as stocked,
        _told(folder / "environment", stocked) as file,
    ):
        say(f'In another shell:\n  . {shlex.quote(str(file))}\n  s3ferry run "${{COPY[@]}}"\nCtrl-C ends the servers.')
        while True:
            signal.pause()


@contextmanager
def _told(file: Path, stocked: Stocked) -> Iterator[Path]:
    """`file` says, to bash or zsh, what a run needs."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in stocked.environment.items()]
    file.write_text("\n".join([*lines, f"COPY=({shlex.join(stocked.flags)})", ""]))
    try:
        yield file
    finally:
        file.unlink()


def parser() -> argparse.ArgumentParser:
    """The flags of `python -m local.servers`."""
    flags = argparse.ArgumentParser(
        prog="python -m local.servers",
        allow_abbrev=False,
        description="Keeps an embedded S3 and an embedded PostgreSQL running, with objects and their inventory.",
    )
    flags.add_argument("--fresh", action="store_true", help="forget what an earlier call left")
    flags.add_argument(
        "--format", choices=("csv", "parquet", "orc"), default="csv", help="format of the inventory (default: csv)"
    )
    flags.add_argument(
        "--data", type=Path, default=data_folder() / "servers", metavar="DIR", help="folder that keeps the data"
    )
    return flags


if __name__ == "__main__":
    sys.exit(main())
