"""Whether the ledger's records of a closed run are still what they were when it was closed."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from ledger.connect import Connection
from ledger.digest import ENCODINGS, RecordsDigest, records_digest, stored_digest
from ledger.exports import has_history, snapshot
from ledger.leases import RunRef
from ledger.reconciliation import reconcile
from ledger.rows import COLUMNS
from ledger.runs import partition, run_status
from model.errors import InvalidInput
from model.outcome import Gap, Outcome

EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Check:
    """What was compared. `stored` is None for a run that was never closed, `found` where its history was dropped.

    `gaps` are rows counted against rows held. `others` are destination keys whose row of `objects`, last written by
    this run, is not the run's own record: the first few, and how many there are.
    """

    stored: RecordsDigest | None
    found: RecordsDigest | None
    gaps: tuple[Gap, ...] = ()
    others: int = 0
    examples: tuple[str, ...] = ()

    @property
    def same(self) -> bool:
        """Whether the records are those of the run's end, and `objects` says the same."""
        return self.stored is not None and self.stored == self.found and not self.others


def check_run(conn: Connection, run_id: int) -> Check:
    """Compares the run's records with its digest, its counts and `objects`. Repeatable.

    Raises InvalidInput where there is no such run, it is still going, or this package does not know its encoding.
    """
    with snapshot(conn):
        run = run_status(conn, run_id)
        if run.outcome is Outcome.RUNNING:
            raise InvalidInput(f"run {run_id} is still going: its records are compared when it has ended")
        stored = stored_digest(conn, run_id)
        if stored is not None and stored.encoding not in ENCODINGS:
            raise InvalidInput(f"run {run_id} has a digest in encoding {stored.encoding}: install a newer s3ferry")
        if stored is None or not has_history(conn, run_id):
            return Check(stored, None)
        found = records_digest(conn, run_id, stored.encoding)
        gaps = () if found == stored else tuple(reconcile(conn, RunRef(run.job, run_id, 0)))
        others, examples = _others(conn, run.job, run_id)
        return Check(stored, found, gaps, others, examples)


def _others(conn: Connection, job: str, run_id: int) -> tuple[int, tuple[str, ...]]:
    def columns(table: str) -> sql.Composed:
        return sql.SQL(", ").join(sql.Identifier(table, name) for name in COLUMNS)

    row = conn.execute(
        sql.SQL(
            "SELECT count(*), (array_agg(shown.destination_key ORDER BY shown.destination_key))[1:{examples}]"
            " FROM objects AS shown LEFT JOIN {partition} AS record"
            " ON record.run_id = shown.run_id AND record.destination_key = shown.destination_key"
            " WHERE shown.job = {job} AND shown.run_id = {run} AND ({shown}) IS DISTINCT FROM ({record})"
        ).format(
            examples=sql.Literal(EXAMPLES),
            partition=partition(run_id),
            job=sql.Literal(job),
            run=sql.Literal(run_id),
            shown=columns("shown"),
            record=columns("record"),
        )
    ).fetchone()
    return (row[0], tuple(row[1] or ())) if row else (0, ())
