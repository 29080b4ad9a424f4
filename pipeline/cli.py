"""The commands of s3ferry: a table of names, and how one of them is found, read and carried out."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from options.errors import UsageError
from options.redaction import shown

HELP_FLAGS = frozenset({"-h", "--help", "help"})


@dataclass(frozen=True, slots=True)
class Command:
    """One command. The places are `module:function`, loaded only when the command is used.

    `usage()` gives the help, `parse(argv)` what `execute` takes, `execute(...)` the exit code.
    """

    help: str
    usage: str
    parse: str
    execute: str


COMMANDS = {
    "run": Command(
        "copy what an inventory names, verify it and record it in the ledger",
        usage="options.parse:run_help",
        parse="options.parse:parse_run",
        execute="pipeline.commands.run:execute",
    ),
    "verify": Command(
        "check that a destination holds what an inventory names, and record it; copies nothing",
        usage="options.parse:verify_help",
        parse="options.parse:parse_verify",
        execute="pipeline.commands.run:execute",
    ),
    "status": Command(
        "show how a run stands, or list the newest runs",
        usage="pipeline.commands.runs:status_usage",
        parse="pipeline.commands.runs:parse_status",
        execute="pipeline.commands.runs:status",
    ),
    "stop": Command(
        "ask a run to finish what is under way and end",
        usage="pipeline.commands.runs:stop_usage",
        parse="pipeline.commands.runs:parse",
        execute="pipeline.commands.runs:stop",
    ),
    "report": Command(
        "print the table of a run again, from the ledger",
        usage="options.ledger_command:report_help",
        parse="options.ledger_command:parse_report",
        execute="pipeline.commands.report:execute",
    ),
    "sweep": Command(
        "abort multipart uploads that were begun at a destination and never ended",
        usage="options.sweep:sweep_help",
        parse="options.sweep:parse_sweep",
        execute="pipeline.commands.sweep:execute",
    ),
    "ledger": Command(
        "bring the ledger's tables up to date, check or export a run's records",
        usage="options.ledger_command:ledger_help",
        parse="options.ledger_command:parse_ledger",
        execute="pipeline.commands.ledger:execute",
    ),
}


def load(place: str) -> Callable[..., Any]:
    """The function at `module:function`."""
    module, _, name = place.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


def overview() -> str:
    """The help of s3ferry itself: what it is and which commands it has."""
    width = max(len(name) for name in COMMANDS)
    lines = [f"  {name:<{width}}  {command.help}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: s3ferry COMMAND [--flag=value ...]",
            "",
            "Verified bulk copy from S3 to S3, from an S3 Inventory to a ledger in PostgreSQL.",
            "",
            "commands:",
            *lines,
            "",
            "s3ferry COMMAND --help lists the flags of a command; s3ferry --version prints the version.",
            "The ledger is found through LEDGER_DSN or the PG* variables.",
            "",
        ]
    )


def find(name: str) -> Command:
    """The command of this name. Raises UsageError with the list of commands."""
    command = COMMANDS.get(name)
    if command is not None:
        return command
    close = get_close_matches(name, COMMANDS, n=1)
    guess = f"did you mean {close[0]}? " if close else ""
    raise UsageError(None, f"{shown(name)} is no command; {guess}the commands are {', '.join(COMMANDS)}")


def wants_help(argv: Sequence[str]) -> bool:
    """Whether the arguments of a command ask for its help."""
    return bool(argv) and (argv[0] == "help" or not HELP_FLAGS.isdisjoint(a for a in argv if a.startswith("-")))
