"""`parse_ledger` and `parse_report`: the arguments of two commands about the ledger, each as one frozen object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from options import values
from options.errors import UsageError
from options.flags import Flag, FlagParser, add_flags, choice_flag, switch
from options.redaction import shown
from options.run import LOG_LEVEL

RECORD_FORMATS = ("avro", "parquet")
REPORT_FORMATS = ("table", "json")

EXPORT_FLAGS = (
    Flag("to", "local folder the files go to, in a folder of the run's own", values.local_folder, metavar="FOLDER"),
    choice_flag("format", RECORD_FORMATS[0], "format of the records", values.one_of(*RECORD_FORMATS), RECORD_FORMATS),
)
DROP_FLAGS = (switch("yes", "drop it; without this the history is only named"),)
REPORT_FLAGS = (
    choice_flag(
        "format",
        REPORT_FORMATS[0],
        "how the report is printed; json: as --summary writes it",
        values.one_of(*REPORT_FORMATS),
        REPORT_FORMATS,
    ),
)
_REMEDY = "write s3ferry ledger migrate, or check, seal, export or drop and the number of a run"
_OF_RUNS = ("check", "seal", "export", "drop")


@dataclass(frozen=True, slots=True)
class LedgerCommand:
    """One `s3ferry ledger ACTION`. `run_id` is set for all but migrate, `to` for export, `yes` may be for drop."""

    action: str
    run_id: int = 0
    to: str = ""
    format: str = RECORD_FORMATS[0]
    yes: bool = False


@dataclass(frozen=True, slots=True)
class ReportCommand:
    """One `s3ferry report`."""

    run_id: int
    format: str = REPORT_FORMATS[0]


def ledger_help() -> str:
    """The help of `s3ferry ledger`."""
    return "\n".join(
        [
            "usage: s3ferry ledger migrate",
            "       s3ferry ledger check RUN",
            "       s3ferry ledger seal RUN",
            "       s3ferry ledger export RUN --to=FOLDER [--format=avro|parquet]",
            "       s3ferry ledger drop RUN [--yes]",
            "",
            "migrate  makes the ledger's tables, or brings them up to this version; may be repeated",
            "check    says whether the run's records are still those of its end; exit code 1 where they are not",
            "seal     stores the digest of a run that has ended without one, because the ledger failed just then",
            "export   writes the run's records, SHA256SUMS, dead letters and manifests to a local folder; repeating",
            "         writes the same files",
            "drop     drops the run's history (its rows in attempts, uploads no object is of any more) with --yes; the",
            "         run, counts, digest and what is known of each object stay; the ledger's owner alone can",
            "",
            "All take --log_level=LEVEL. The ledger is found through LEDGER_DSN or the PG* variables.",
            "",
        ]
    )


def report_help() -> str:
    """The help of `s3ferry report`."""
    return (
        "usage: s3ferry report RUN [--format=table|json] [--log_level=LEVEL]\n\n"
        "Prints the table of a run again, from the ledger.\n"
        "The ledger is found through LEDGER_DSN or the PG* variables. s3ferry status lists the newest runs.\n"
    )


def parse_ledger(argv: Sequence[str]) -> LedgerCommand:
    """What `s3ferry ledger` is asked for. Raises UsageError. Pure."""
    parser = FlagParser("s3ferry ledger")
    add_flags(parser, "export", EXPORT_FLAGS)
    add_flags(parser, "drop", DROP_FLAGS)
    add_flags(parser, "run", (LOG_LEVEL,))
    given, rest = parser.read_known(argv)
    if not rest:
        raise UsageError(None, f"ledger: an action is missing; {_REMEDY}")
    action, places = rest[0], rest[1:]
    if action not in ("migrate", *_OF_RUNS) or len(places) > (action != "migrate"):
        raise UsageError(None, f"ledger: {shown(rest[-1])} is not known; {_REMEDY}")
    if action != "export" and (given.to is not None or given.format != RECORD_FORMATS[0]):
        flag = "--format" if given.to is None else "--to"
        raise UsageError(flag, f"ledger {action} writes no files; leave it out, or write s3ferry ledger export RUN")
    if given.yes and action != "drop":
        raise UsageError("--yes", f"ledger {action} drops nothing; leave it out, or write s3ferry ledger drop RUN")
    if action == "migrate":
        return LedgerCommand(action)
    if not places:
        raise UsageError(None, f"ledger {action}: the run is missing; {_REMEDY}")
    run_id = _run_number(f"ledger {action}", places[0])
    if action == "export" and given.to is None:
        raise UsageError("--to", "a folder is missing; write --to=FOLDER")
    return LedgerCommand(action, run_id, given.to or "", given.format, given.yes)


def parse_report(argv: Sequence[str]) -> ReportCommand:
    """What `s3ferry report` is asked for. Raises UsageError. Pure."""
    parser = FlagParser("s3ferry report")
    add_flags(parser, "report", REPORT_FLAGS)
    add_flags(parser, "run", (LOG_LEVEL,))
    given, rest = parser.read_known(argv)
    if len(rest) != 1:
        wrong = f"{shown(rest[-1])} is not known" if rest else "the run is missing"
        raise UsageError(None, f"report: {wrong}; write one number, as in: s3ferry report 12")
    return ReportCommand(_run_number("report", rest[0]), given.format)


def _run_number(command: str, text: str) -> int:
    try:
        return values.run_number(text)
    except ValueError as error:
        raise UsageError(None, f"{command}: {error}") from None
