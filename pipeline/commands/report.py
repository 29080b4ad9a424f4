"""`s3ferry report RUN`: the table of a run again, from the ledger."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

from model.outcome import Exit
from options.ledger_command import ReportCommand
from pipeline.commands.dsn import named_dsn
from pipeline.report import render_table
from pipeline.stored_summary import stored_summary

if TYPE_CHECKING:
    from ledger.connect import Connection
    from pipeline.report import Summary


def execute(command: ReportCommand) -> int:
    """Prints the report. Raises InvalidInput where there is no such run or no ledger is named, RunBroken."""
    from ledger.retry import repeat  # noqa: PLC0415 (loads psycopg)

    summary = repeat(named_dsn(), f"report {command.run_id}", lambda conn: _summary(conn, command.run_id))
    as_json = command.format == "json"
    sys.stdout.write(summary.to_json() if as_json else render_table(summary, shutil.get_terminal_size().columns))
    return Exit.OK


def _summary(conn: Connection, run_id: int) -> Summary:
    from ledger.accounting import summary_counts  # noqa: PLC0415 (loads psycopg)
    from ledger.runs import run_status  # noqa: PLC0415
    from model.outcome import Count  # noqa: PLC0415

    run = run_status(conn, run_id)
    return stored_summary(run, [Count(*count) for count in summary_counts(conn, run_id)])
