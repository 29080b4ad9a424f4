"""`s3ferry stop RUN` and `s3ferry status [RUN]`: one run by its number in the ledger, or the newest ones."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from model.outcome import Exit, Outcome
from model.status import DEAD
from options.errors import UsageError
from options.flags import FlagParser, add_flags, switch
from options.redaction import shown
from options.run import LOG_LEVEL
from options.values import run_number
from pipeline.commands.dsn import named_dsn
from pipeline.logs import printable
from pipeline.report import as_text, human_count, human_seconds

if TYPE_CHECKING:
    from ledger.runs import RunStatus

_WHERE = "The ledger is found through LEDGER_DSN or the PG* variables. A run's number is in its log and summary."
WAIT = switch("wait", "wait until the run has ended, and end with its exit code")
MOST_LISTED = 20
_LOOK_EVERY_S = 1.0
LIST_WIDTH = 132


class StatusCommand(NamedTuple):
    """What `s3ferry status` is asked for: a run's number, or None for the newest runs."""

    run_id: int | None
    wait: bool


def stop_usage() -> str:
    """The help of `s3ferry stop`."""
    return (
        "usage: s3ferry stop RUN [--log_level=LEVEL]\n\n"
        "Asks a run to finish what is under way, record it and end with exit code 5. Returns at once; may be\n"
        "repeated.\n"
        f"{_WHERE}\n"
    )


def status_usage() -> str:
    """The help of `s3ferry status`."""
    return (
        "usage: s3ferry status [--wait] [RUN] [--log_level=LEVEL]\n\n"
        "Prints how a run stands, one `name: value` a line; without a number, a table of the newest runs, at most\n"
        f"{MOST_LISTED}. --wait waits until the run has ended, and ends with its exit code (3 if it was abandoned).\n"
        f"{_WHERE}\n"
    )


def parse(argv: Sequence[str]) -> int:
    """The run's number. Raises UsageError for anything else."""
    parser = FlagParser("s3ferry")
    add_flags(parser, "run", (LOG_LEVEL,))
    number = _number(parser.read_known(argv)[1])
    if number is None:
        raise UsageError(None, "the run is missing; write its number, as in: s3ferry status 12")
    return number


def parse_status(argv: Sequence[str]) -> StatusCommand:
    """What to show. Raises UsageError where the arguments are neither a run's number nor nothing."""
    parser = FlagParser("s3ferry")
    add_flags(parser, "run", (WAIT, LOG_LEVEL))
    given, rest = parser.read_known(argv)
    number = _number(rest)
    if given.wait and number is None:
        raise UsageError("--wait", "the run is missing; write its number, as in: s3ferry status --wait 12")
    return StatusCommand(number, given.wait)


def _number(rest: Sequence[str]) -> int | None:
    if not rest:
        return None
    try:
        number = run_number(rest[-1])
    except ValueError:
        number = None
    if len(rest) > 1 or number is None:
        raise UsageError(None, f"{shown(rest[-1])} is no run's number; write one number, as in: s3ferry status 12")
    return number


def stop(run_id: int) -> int:
    """Asks the run to stop. Raises InvalidInput where it is not running or no ledger is named, RunBroken."""
    from ledger.retry import repeat  # noqa: PLC0415 (loads psycopg)
    from ledger.runs import request_stop  # noqa: PLC0415

    repeat(named_dsn(), f"stop {run_id}", lambda connection: request_stop(connection, run_id, "s3ferry stop"))
    sys.stdout.write(f"run {run_id} was asked to stop\n")
    return 0


def status(command: StatusCommand) -> int:
    """Prints how the run stands (with `--wait` once it has ended, and returns its exit code), or lists the newest runs.

    Raises InvalidInput where there is no such run or no ledger is named, RunBroken.
    """
    from ledger.retry import repeat  # noqa: PLC0415 (loads psycopg)
    from ledger.runs import newest_runs, run_status  # noqa: PLC0415

    run_id = command.run_id
    if run_id is None:
        newest = repeat(named_dsn(), "status", lambda connection: newest_runs(connection, MOST_LISTED))
        sys.stdout.write(render_runs(newest, shutil.get_terminal_size().columns))
        return 0
    while True:
        found = repeat(named_dsn(), f"status {run_id}", lambda connection: run_status(connection, run_id))
        if not command.wait or found.outcome is not Outcome.RUNNING:
            break
        time.sleep(_LOOK_EVERY_S)
    sys.stdout.write("".join(f"{name}: {printable(value)}\n" for name, value in describe(found) if value))
    if not command.wait:
        return 0
    # a run that nobody holds any more has broken, and nobody was left to say so
    return Exit.BROKEN if found.exit_code is None else found.exit_code


def render_runs(runs: Sequence[RunStatus], width: int) -> str:
    """The runs as a table for a terminal of `width` columns; it takes up to 132, so that jobs keep their names."""
    from rich import box  # noqa: PLC0415 (not needed for start-up)
    from rich.table import Table  # noqa: PLC0415

    if not runs:
        return "the ledger has no runs yet\n"
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("run", justify="right", no_wrap=True)
    table.add_column("job", overflow="ellipsis", no_wrap=True)
    table.add_column("outcome", no_wrap=True)
    table.add_column("started", no_wrap=True)
    for name in ("took", "rows", "not well"):
        table.add_column(name, justify="right", no_wrap=True)
    for run in runs:
        taken = human_seconds((run.finished_at - run.started_at).total_seconds()) if run.finished_at else ""
        rows, dead = rows_and_dead(run)
        table.add_row(str(run.run_id), printable(run.job), str(run.outcome), _time(run.started_at), taken, rows, dead)
    return as_text(table, max(width, LIST_WIDTH))


def rows_and_dead(run: RunStatus) -> tuple[str, str]:
    """Rows of the run, and those of them that did not end well; empty where its driver told nothing of it."""
    statuses = (run.summary or {}).get("statuses")
    if not isinstance(statuses, dict):
        return "", ""
    objects = {status: int(entry["objects"]) for status, entry in statuses.items()}
    dead = sum(number for status, number in objects.items() if status in DEAD)
    return human_count(sum(objects.values())), human_count(dead)


def describe(run: RunStatus) -> list[tuple[str, str]]:
    """Names and values of one run, empty values for what is not known (yet). Times are UTC."""
    return [
        ("run", str(run.run_id)),
        ("kind", str(run.kind)),
        ("job", run.job),
        ("outcome", str(run.outcome)),
        ("exit code", "" if run.exit_code is None else str(run.exit_code)),
        ("manifest", run.manifest),
        ("version", run.package_version),
        ("held by", f"process {run.holder.pid} on {run.holder.host}"),
        ("started", _time(run.started_at)),
        ("finished", _time(run.finished_at)),
        ("lease expires", _time(run.lease_expires_at)),
        ("stop requested", run.stop_requested or ""),
        ("error", run.error or ""),
        ("records", "" if run.records is None else str(run.records)),
        ("SHA-256 over the records", run.records_digest or ""),
    ]


def _time(moment: datetime | None) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if moment else ""
