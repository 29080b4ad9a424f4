"""Whether the ledger's records of a closed run are still what they were when it was closed."""

from __future__ import annotations

from dataclasses import dataclass

from ledger.agreement import disagreement
from ledger.connect import Connection
from ledger.digest import ENCODINGS, RecordsDigest, records_digest, stored_digest
from ledger.exports import has_history, snapshot
from ledger.leases import RunRef
from ledger.reconciliation import reconcile
from ledger.runs import run_status
from model.errors import InvalidInput
from model.outcome import Gap, Outcome

_CLOSED = frozenset(Outcome) - {Outcome.RUNNING, Outcome.ABANDONED}
"""How runs stand that closed themselves: nothing more is written under them."""


@dataclass(frozen=True, slots=True)
class Check:
    """What was compared. `stored` is None for a run that was never closed, `found` where its history was dropped.

    `gaps` are rows counted against rows held. `others` is how many destination keys of the run have a row of `objects`
    that is not what the records say, or none; `examples` are the first few. `sealable`: the run has ended, and only its
    digest is missing.
    """

    stored: RecordsDigest | None
    found: RecordsDigest | None
    gaps: tuple[Gap, ...] = ()
    others: int = 0
    examples: tuple[str, ...] = ()
    sealable: bool = False

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
        there = has_history(conn, run_id)
        if stored is None or not there:
            return Check(stored, None, sealable=stored is None and there and run.outcome in _CLOSED)
        found = records_digest(conn, run_id, stored.encoding)
        gaps = () if found == stored else tuple(reconcile(conn, RunRef(run.job, run_id, 0)))
        return Check(stored, found, gaps, *disagreement(conn, run))


def require_sealable(conn: Connection, run_id: int) -> None:
    """Raises InvalidInput unless the run was closed, has its records and no digest of them."""
    run = run_status(conn, run_id)
    if run.records_digest is not None:
        raise InvalidInput(f"run {run_id} is sealed: `s3ferry ledger check {run_id}` compares its records")
    if run.outcome not in _CLOSED:
        raise InvalidInput(f"run {run_id} is {run.outcome}: only a run that has closed itself is sealed")
    if not has_history(conn, run_id):
        raise InvalidInput(f"the history of run {run_id} was dropped: there are no records to seal")
