"""`s3ferry stop RUN` and `s3ferry status RUN`: one run, by its number in the ledger."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from options.errors import UsageError
from options.flags import FlagParser, add_flags
from options.redaction import shown
from options.run import LOG_LEVEL
from pipeline.commands.dsn import named_dsn
from pipeline.logs import printable

if TYPE_CHECKING:
    from ledger.runs import RunStatus

_WHERE = "The ledger is found through LEDGER_DSN or the PG* variables. A run's number is in its log and summary."
LARGEST_RUN = 2**63 - 1


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
        "usage: s3ferry status RUN [--log_level=LEVEL]\n\n"
        "Prints how a run stands, one `name: value` a line.\n"
        f"{_WHERE}\n"
    )


def parse(argv: Sequence[str]) -> int:
    """The run's number. Raises UsageError for anything else."""
    parser = FlagParser("s3ferry")
    add_flags(parser, "run", (LOG_LEVEL,))
    rest = parser.read_known(argv)[1]
    if not rest:
        raise UsageError(None, "the run is missing; write its number, as in: s3ferry status 12")
    number = rest[-1]
    if len(rest) > 1 or not (number.isascii() and number.isdigit() and int(number) <= LARGEST_RUN):
        raise UsageError(None, f"{shown(number)} is no run's number; write one number, as in: s3ferry status 12")
    return int(number)


def stop(run_id: int) -> int:
    """Asks the run to stop. Raises InvalidInput where it is not running or no ledger is named, RunBroken."""
    from ledger.retry import repeat  # noqa: PLC0415 (loads psycopg)
    from ledger.runs import request_stop  # noqa: PLC0415

    repeat(named_dsn(), f"stop {run_id}", lambda connection: request_stop(connection, run_id, "s3ferry stop"))
    sys.stdout.write(f"run {run_id} was asked to stop\n")
    return 0


def status(run_id: int) -> int:
    """Prints how the run stands. Raises InvalidInput where there is none or no ledger is named, RunBroken."""
    from ledger.retry import repeat  # noqa: PLC0415 (loads psycopg)
    from ledger.runs import run_status  # noqa: PLC0415

    found = repeat(named_dsn(), f"status {run_id}", lambda connection: run_status(connection, run_id))
    sys.stdout.write("".join(f"{name}: {printable(value)}\n" for name, value in describe(found) if value))
    return 0


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
    ]


def _time(moment: datetime | None) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if moment else ""
