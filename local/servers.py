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

from local.embedded import Stocked, add_flags, in_folder, running_stocked, say
from local.workload import WorkObject, demonstration


def main(argv: list[str] | None = None) -> int:
    """Serves until it is told to stop: 0; 2 when the folder is in use already, 3 when the servers do not start."""
    arguments = parser().parse_args(argv)
    return in_folder(arguments, lambda folder: serve(folder, arguments.format, demonstration()))


def serve(folder: Path, format: str, objects: Sequence[WorkObject]) -> int:
    """Keeps both servers running, with `objects` in the source, until a signal comes (see `exit_on_signals`): 0."""
    with (
        suppress(SystemExit),
        running_stocked(folder, format, objects) as stocked,
        _told(folder / "environment", stocked) as file,
    ):
        say(f'In another shell:\n  . {shlex.quote(str(file))}\n  s3ferry run "${{COPY[@]}}"\nCtrl-C ends the servers.')
        while True:
            signal.pause()
    return 0


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
    add_flags(flags, "servers")
    return flags


if __name__ == "__main__":
    sys.exit(main())
