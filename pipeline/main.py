"""Entry point of `s3ferry` and `python -m pipeline.main`: finds the command, turns errors into exit codes."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from model.errors import InvalidInput, LeaseHeld, S3ferryError
from model.outcome import Exit
from model.version import VERSION
from options.errors import UsageError
from options.redaction import redactor
from options.run import log_level_of
from pipeline.cli import HELP_FLAGS, find, load, overview, wants_help
from pipeline.logs import printable, set_up_logging

_LOGGER = logging.getLogger("s3ferry")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; never raises but for SystemExit of a library."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    redact = redactor(os.environ)
    level = log_level_of(arguments[1:])
    try:
        return _dispatch(arguments, level, redact)
    except BaseException as error:
        if isinstance(error, SystemExit | GeneratorExit):
            raise
        sys.stderr.write(redact(f"s3ferry: {printable(' '.join(_explain(error).split()))}") + "\n")
        if not isinstance(error, UsageError):
            _LOGGER.debug("traceback", exc_info=error)
        return _exit_of(error)


def _dispatch(arguments: list[str], level: str, redact: Callable[[str], str]) -> int:
    if not arguments:
        raise UsageError(None, "a command is missing; see s3ferry --help")
    name, rest = arguments[0], arguments[1:]
    if name in HELP_FLAGS:
        _say(overview())
        return Exit.OK
    if name == "--version":
        _say(f"s3ferry {VERSION}\n")
        return Exit.OK
    command = find(name)
    if wants_help(rest):
        _say(load(command.usage)())
        return Exit.OK
    set_up_logging(level, redact)
    # Read before the command is loaded: a wrong flag is answered at once.
    given = load(command.parse)(rest)
    return int(load(command.execute)(given))


def _say(text: str) -> None:
    """Print what was asked for; whoever has read enough of it may close the pipe."""
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(text)
        sys.stdout.flush()


def _exit_of(error: BaseException) -> Exit:
    if isinstance(error, UsageError | InvalidInput):
        return Exit.USAGE
    if isinstance(error, LeaseHeld):
        return Exit.LEASE_HELD
    return Exit.INTERRUPTED if isinstance(error, KeyboardInterrupt) else Exit.BROKEN


def _explain(error: BaseException) -> str:
    if isinstance(error, UsageError | S3ferryError):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted; run again to finish the rest"
    return f"unexpected {type(error).__name__}: {error}; --log_level=DEBUG shows where"


def console() -> NoReturn:
    """`main` as a program. Ends at once with what is durable: taking Beam's modules down would take half a second."""
    # until a run listens: process 1 of a container is not ended by a signal's default action (pid_namespaces(7))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    code = main()
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # nobody reads it any more
            code = code or Exit.BROKEN
    os._exit(code)


if __name__ == "__main__":
    console()
