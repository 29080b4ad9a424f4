"""The lease of a job: one row, a fencing number that only grows, and who may take it over.

Whoever writes under a lease locks its row FOR KEY SHARE in the same transaction; whoever takes it over
locks it FOR UPDATE. So a take-over waits for writes under way and every later one sees another fence,
while renewals (which change no key) neither wait for writes nor hold them up (PostgreSQL manual,
«Explicit Locking», row-level locks).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from psycopg.rows import TupleRow

from ledger.connect import STATEMENT_TIMEOUT_S, Connection
from ledger.process import Presence, ProcessIdentity, identity_from_json, presence
from model.errors import LeaseHeld, LeaseLost

START_LOCK = 0x7333_6665_7272_7902
"""Key of the advisory lock of whoever starts a run, or changes the schema under runs: one at a time."""


@dataclass(frozen=True, slots=True)
class RunRef:
    """A run and the fence it writes under; goes to workers with the job."""

    job: str
    run_id: int
    fence: int


@dataclass(frozen=True, slots=True)
class Renewal:
    """What a renewal learned: why the run is to stop, or None; and whether the run was released meanwhile."""

    stop_requested: str | None
    released: bool


@dataclass(frozen=True, slots=True)
class Rival:
    """A lease of the same job or of an overlapping destination. `live`: it has not expired."""

    job: str
    run_id: int
    fence: int
    token: str
    holder: ProcessIdentity
    destination: str
    renewed_at: datetime
    expires_at: datetime | None
    live: bool
    workers: tuple[ProcessIdentity, ...]
    """Workers of its run heard of within the lease's TTL."""


_SELECT = (
    "SELECT job, run_id, fence, token, holder, destination_endpoint, destination_bucket, destination_prefix,"
    " renewed_at, expires_at, coalesce(expires_at > clock_timestamp(), false) FROM leases"
)


class Claim(Enum):
    """How rivals stand in the way of a new run; see `judge`."""

    FREE = "free"
    LINGERING = "lingering"
    HELD = "held"


@contextmanager
def fenced(
    conn: Connection,
    ref: RunRef,
    statement_timeout_s: float = STATEMENT_TIMEOUT_S,
    *,
    after_release: bool = False,
) -> Iterator[Connection]:
    """A transaction that can only commit while `ref` holds its lease; raises LeaseLost otherwise.

    An expired lease nobody took over is still this run's. A released one is not, except `after_release`: for what
    ends a run and may have to be said again. The time-outs of `connect.transaction` hold, but none is longer than
    a third of the lease's TTL: who waits longer for a statement cannot renew in time.
    """
    with conn.transaction():
        row = conn.execute(
            "SELECT released, set_config('statement_timeout', (1000 * seconds)::bigint || 'ms', true),"
            " set_config('lock_timeout', (500 * seconds)::bigint || 'ms', true)"
            " FROM (SELECT expires_at IS NULL AS released, CASE WHEN expires_at - renewed_at >= interval '1 second'"
            " THEN least(%(most)s, extract(epoch FROM expires_at - renewed_at) / 3) ELSE %(most)s END AS seconds"
            " FROM leases WHERE job = %(job)s AND run_id = %(run)s AND fence = %(fence)s FOR KEY SHARE) AS held",
            {"most": statement_timeout_s, "job": ref.job, "run": ref.run_id, "fence": ref.fence},
        ).fetchone()
        if row is None:
            raise _lost(ref)
        if row[0] and not after_release:
            raise LeaseLost(ended_line(ref))
        yield conn


def renew(conn: Connection, ref: RunRef, ttl_s: float) -> Renewal:
    """Makes the lease last `ttl_s` seconds from now, by the server's clock; repeatable.

    A released lease stays released. Raises LeaseLost when another run has taken over.
    """
    row = conn.execute(
        "UPDATE leases SET renewed_at = clock_timestamp(),"
        " expires_at = CASE WHEN expires_at IS NOT NULL THEN clock_timestamp() + make_interval(secs => %s) END"
        " WHERE job = %s AND run_id = %s AND fence = %s"
        " RETURNING (SELECT stop_requested FROM runs WHERE runs.run_id = leases.run_id), expires_at IS NULL",
        (ttl_s, ref.job, ref.run_id, ref.fence),
    ).fetchone()
    if row is None:
        raise _lost(ref)
    return Renewal(*row)


def release(conn: Connection, ref: RunRef) -> None:
    """Frees the job and its destination for the next run; repeatable, and nothing at all once fenced off.

    Waits for what is being written under the lease; nothing is afterwards.
    """
    mine = (ref.job, ref.run_id, ref.fence)
    with conn.transaction():
        conn.execute("SELECT FROM leases WHERE job = %s AND run_id = %s AND fence = %s FOR UPDATE", mine)
        conn.execute("UPDATE leases SET expires_at = NULL WHERE job = %s AND run_id = %s AND fence = %s", mine)


def lock_rivals(conn: Connection, job: str, endpoint: str, bucket: str, prefix: str) -> list[Rival]:
    """The leases in the way of `job` writing below `prefix`, locked for the rest of the transaction.

    Two prefixes overlap when one starts with the other. The job's own lease is among them, released or
    not; released ones of other jobs are not.
    """
    rows = conn.execute(
        f"{_SELECT} WHERE job = %(job)s OR (expires_at IS NOT NULL AND destination_endpoint = %(endpoint)s"
        " AND destination_bucket = %(bucket)s"
        " AND (starts_with(destination_prefix, %(prefix)s) OR starts_with(%(prefix)s, destination_prefix)))"
        " ORDER BY job FOR UPDATE",
        {"job": job, "endpoint": endpoint, "bucket": bucket, "prefix": prefix},
    ).fetchall()
    return [_rival(conn, row) for row in rows]


def lock_all(conn: Connection) -> list[Rival]:
    """Every lease that was not released, locked for the rest of the transaction."""
    rows = conn.execute(f"{_SELECT} WHERE expires_at IS NOT NULL ORDER BY job FOR UPDATE").fetchall()
    return [_rival(conn, row) for row in rows]


def fence_off(conn: Connection, dead: Sequence[Rival], job: str | None = None) -> None:
    """Ends the runs of `dead` leases as `abandoned`; nothing more is written under them. `job` takes its own over."""
    conn.execute(
        "UPDATE runs SET outcome = 'abandoned', finished_at = clock_timestamp()"
        " WHERE run_id = ANY(%s) AND outcome = 'running'",
        ([rival.run_id for rival in dead],),
    )
    # A dead run of another job must not wake up and write below the same prefix.
    conn.execute(
        "UPDATE leases SET fence = fence + 1, expires_at = NULL WHERE job = ANY(%s)",
        ([rival.job for rival in dead if rival.job != job],),
    )


def judge(rivals: Sequence[Rival], me: ProcessIdentity) -> tuple[Claim, Rival | None]:
    """Whether a new run may start: (Claim.FREE, None), or what stands in the way and the rival to name.

    A live lease is free all the same when its holder, on this host, is gone, and no worker of its run is
    left. LINGERING: its last workers on this host have yet to follow the holder.
    """
    lingering = None
    for rival in rivals:
        if not rival.live:
            continue
        if presence(rival.holder, me) is not Presence.GONE:
            return Claim.HELD, rival
        seen = {presence(worker, me) for worker in rival.workers}
        if Presence.UNKNOWN in seen:
            return Claim.HELD, rival
        if Presence.ALIVE in seen:
            lingering = rival
    return (Claim.LINGERING, lingering) if lingering else (Claim.FREE, None)


def held(job: str, rival: Rival) -> LeaseHeld:
    """The line that says who holds what, since when, and what can be done."""
    what = f"job {job}" if rival.job == job else f"destination {rival.destination} (of job {rival.job})"
    return LeaseHeld(f"{what} is held by {named(rival)}: wait for it, or end it with `s3ferry stop {rival.run_id}`")


def named(rival: Rival) -> str:
    """Which run it is, where, and until when it holds its lease."""
    return (
        f"run {rival.run_id} on {rival.holder.host}, pid {rival.holder.pid}, "
        f"last renewed {_clock(rival.renewed_at)}, until {_clock(rival.expires_at)} unless renewed"
    )


def _rival(conn: Connection, row: TupleRow) -> Rival:
    job, run_id, fence, token, holder, endpoint, bucket, prefix, renewed_at, expires_at, live = row
    workers = conn.execute(
        "SELECT process FROM workers WHERE run_id = %s AND last_seen > clock_timestamp() - (%s::timestamptz - %s)",
        (run_id, expires_at, renewed_at),
    ).fetchall()
    return Rival(
        job=job,
        run_id=run_id,
        fence=fence,
        token=token,
        holder=identity_from_json(holder),
        destination=f"s3://{bucket}/{prefix} at {endpoint}",
        renewed_at=renewed_at,
        expires_at=expires_at,
        live=live,
        workers=tuple(identity_from_json(process) for (process,) in workers),
    )


def ended_line(ref: RunRef) -> str:
    """What is said to whoever goes on under a lease that was released."""
    return f"run {ref.run_id} of job {ref.job} has ended: nothing more is written under it"


def _lost(ref: RunRef) -> LeaseLost:
    return LeaseLost(
        f"run {ref.run_id} of job {ref.job} lost its lease to another run: nothing more is written under it"
    )


def _clock(moment: datetime | None) -> str:
    return moment.astimezone().isoformat(sep=" ", timespec="seconds") if moment else "now"
