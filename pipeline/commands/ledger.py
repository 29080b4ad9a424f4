"""`s3ferry ledger`: brings the ledger's tables up to date; checks a run's records, seals, exports, drops them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from model.outcome import Exit
from options.ledger_command import LedgerCommand
from pipeline.commands.dsn import named_dsn
from pipeline.logs import printable
from pipeline.report import human_bytes, human_count

if TYPE_CHECKING:
    from ledger.check import Check
    from pipeline.export.run_files import Exported


def execute(command: LedgerCommand) -> int:
    """Carries the action out and returns the exit code: 1 where records are not those of the run's end.

    Raises InvalidInput where no ledger is named or there is no such run, RunBroken. May be repeated.
    """
    actions = {"migrate": _migrate, "check": _check, "seal": _seal, "export": _export, "drop": _drop}
    return actions[command.action](command)


def _migrate(_command: LedgerCommand) -> int:
    from ledger.schema import migrate  # noqa: PLC0415 (loads psycopg)

    sys.stdout.write(f"the ledger is at version {migrate(named_dsn())}\n")
    return Exit.OK


def _check(command: LedgerCommand) -> int:
    from ledger.check import check_run  # noqa: PLC0415 (loads psycopg)
    from ledger.retry import repeat  # noqa: PLC0415

    run_id = command.run_id
    found = repeat(named_dsn(), f"check {run_id}", lambda conn: check_run(conn, run_id))
    sys.stdout.write("".join(f"{printable(line)}\n" for line in findings(run_id, found)))
    return Exit.OK if found.same else Exit.FAILURES


def _seal(command: LedgerCommand) -> int:
    from ledger.check import require_sealable  # noqa: PLC0415 (loads psycopg)
    from ledger.digest import seal_late  # noqa: PLC0415
    from ledger.retry import repeat  # noqa: PLC0415

    run_id, dsn = command.run_id, named_dsn()
    repeat(dsn, f"seal {run_id}", lambda conn: require_sealable(conn, run_id))
    digest = repeat(dsn, f"seal {run_id}", lambda conn: seal_late(conn, run_id))
    records = human_count(digest.records)
    sys.stdout.write(f"run {run_id} is sealed as it stands now: {records} records with SHA-256 {digest.sha256}\n")
    return Exit.OK


def findings(run_id: int, check: Check) -> list[str]:
    """What a check found, one line each."""
    stored, found = check.stored, check.found
    if stored is None:
        line = f"run {run_id} has no digest: it was never closed, so nothing says what its records were"
        return [line if not check.sealable else f"run {run_id} has no digest: s3ferry ledger seal {run_id} stores one"]
    then = f"{human_count(stored.records)} records with SHA-256 {stored.sha256}"
    if found is None:
        return [f"run {run_id} had {then}; its history was dropped, so there is nothing to compare"]
    lines = []
    if found == stored:
        lines.append(f"the records of run {run_id} are those of its end: {then}")
    else:
        lines.append(f"the records of run {run_id} are not those of its end: {then}")
        lines.append(f"now there are {human_count(found.records)} with SHA-256 {found.sha256}{_difference(check)}")
        lines += [str(gap) for gap in check.gaps]
    if check.others:
        names = ", ".join(check.examples) + (", ..." if check.others > len(check.examples) else "")
        lines.append(f"table objects differs from them for {human_count(check.others)} objects: {names}")
    return lines


def _difference(check: Check) -> str:
    if check.stored is None or check.found is None:
        return ""
    more = check.found.records - check.stored.records
    if not more:
        return ": as many, so at least one was changed"
    return f": {human_count(abs(more))} {'more' if more > 0 else 'fewer'}"


def _export(command: LedgerCommand) -> int:
    from pipeline.export.run_files import export_all, require_folder  # noqa: PLC0415 (loads psycopg)

    require_folder("--to", command.to)
    exported = export_all(named_dsn(), command.run_id, command.to, command.format)
    sys.stdout.write("".join(f"{line}\n" for line in contents(exported)))
    if exported.stored is None or exported.stored == exported.found:
        return Exit.OK
    sys.stderr.write(
        f"s3ferry: the records of run {command.run_id} are not those of its end;"
        f" s3ferry ledger check {command.run_id} says more\n"
    )
    return Exit.FAILURES


def _drop(command: LedgerCommand) -> int:
    from ledger.exports import has_history  # noqa: PLC0415 (loads psycopg)
    from ledger.retry import repeat  # noqa: PLC0415
    from ledger.runs import drop_history, run_status  # noqa: PLC0415

    run_id, dsn = command.run_id, named_dsn()
    run = repeat(dsn, f"drop {run_id}", lambda conn: run_status(conn, run_id))
    if not repeat(dsn, f"drop {run_id}", lambda conn: has_history(conn, run_id)):
        sys.stdout.write(f"run {run_id} has no history any more\n")
        return Exit.OK
    records = "records" if run.records is None else f"{human_count(run.records)} records"
    if not command.yes:
        sys.stdout.write(f"run {run_id} has a history of {records}; --yes drops it, s3ferry ledger export keeps it\n")
        return Exit.OK
    repeat(dsn, f"drop {run_id}", lambda conn: drop_history(conn, run_id))
    sys.stdout.write(f"the history of run {run_id} is dropped: {records}\n")
    return Exit.OK


def contents(exported: Exported) -> list[str]:
    """The files of an export, one line each, and the digest over the records."""
    lines = [
        f"{exported.folder / name}: {human_count(info.rows)} rows, {human_bytes(info.bytes)}"
        for name, info in exported.files.items()
    ]
    if exported.found is not None:
        same = "as at the end of the run" if exported.stored == exported.found else "not as at the end of the run"
        told = same if exported.stored is not None else "the run, never closed, has none to compare"
        lines.append(f"SHA-256 over the records: {exported.found.sha256}, {told}")
    return lines
