"""The life of a run in the ledger: start, stop request, end, and how it stands."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from psycopg import sql
from psycopg.errors import UndefinedColumn, UndefinedTable
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb

from ledger.connect import Connection, transaction
from ledger.leases import START_LOCK, Claim, Rival, RunRef, fence_off, fenced, held, judge, lock_rivals
from ledger.process import ProcessIdentity, identity_from_json, this_process
from ledger.retry import RETRY_FOR_S, repeat
from ledger.schema import require_current
from ledger.uploads import forget_uploads
from model.errors import InvalidInput, LeaseHeld, RunBroken
from model.outcome import Outcome, RunKind

_LOG = logging.getLogger(__name__)
_LINGER_S = 5.0
_LINGER_POLL_S = 0.25
_HELD_POLL_S = 1.0
_FORGETTING_S = 600.0

_STATUS = (
    "SELECT run_id, runs.job,"
    " CASE WHEN outcome = 'running' AND coalesce(expires_at < clock_timestamp(), true)"
    " THEN 'abandoned' ELSE outcome END,"
    " exit_code, manifest, package_version, runs.holder, started_at, finished_at, stop_requested, error, summary,"
    " expires_at, options, records, records_digest, kind FROM runs LEFT JOIN leases USING (run_id)"
)


@dataclass(frozen=True, slots=True)
class RunStart:
    """What a new run writes down about itself. `options` must hold no secret.

    `destination_endpoint` is any text that names the endpoint (its URL, or "aws"); case and a trailing
    slash do not matter. `lease_ttl_s` and `lease_wait_s` (how long to wait for a live rival) are in seconds.
    """

    job: str
    manifest: str
    manifest_checksum: str | None
    package_version: str
    options: Mapping[str, object]
    destination_endpoint: str
    destination_bucket: str
    destination_prefix: str
    lease_ttl_s: float = 60.0
    lease_wait_s: float = 0.0
    kind: RunKind = RunKind.RUN


@dataclass(frozen=True, slots=True)
class RunStatus:
    """One row of `runs`. A run that is neither finished nor held by a live lease reads ABANDONED."""

    run_id: int
    job: str
    outcome: Outcome
    exit_code: int | None
    manifest: str
    package_version: str
    holder: ProcessIdentity
    started_at: datetime
    finished_at: datetime | None
    stop_requested: str | None
    error: str | None
    summary: Mapping[str, object] | None
    lease_expires_at: datetime | None
    options: Mapping[str, object]
    records: int | None
    records_digest: str | None
    """How many records the run had when it was closed, and the SHA-256 over them (`ledger.digest`)."""
    kind: RunKind


def start_run(
    dsn: str, start: RunStart, *, holder: ProcessIdentity | None = None, retry_for_s: float = RETRY_FOR_S
) -> RunRef:
    """Takes the job's lease, in one transaction with the run's row and its partition of `attempts`.

    Takes over an expired lease, or one whose process on this host is gone (waiting up to 5 s for its last
    workers to follow); the run that held it becomes `abandoned` and its fence is spent. Raises LeaseHeld,
    naming the holder, when a live run has this job or an overlapping destination and still has it after
    `start.lease_wait_s`. A repetition after a lost connection finds its own lease by a token.
    """
    me = holder or this_process()
    token = uuid.uuid4().hex
    began = time.monotonic()
    waiting = False
    while True:
        try:
            answer = repeat(dsn, f"start {start.job}", lambda conn: _try_start(conn, start, me, token), retry_for_s)
            if isinstance(answer, RunRef):
                return answer
            refusal, patience_s, pause_s = held(start.job, answer), max(_LINGER_S, start.lease_wait_s), _LINGER_POLL_S
        except LeaseHeld as error:
            refusal, patience_s, pause_s = error, start.lease_wait_s, _HELD_POLL_S
            if patience_s and not waiting:
                _LOG.warning("%s; waiting %g s for it", error.message, patience_s)
                waiting = True
        if time.monotonic() - began >= patience_s:
            raise refusal
        time.sleep(pause_s)


def request_stop(conn: Connection, run_id: int, reason: str) -> None:
    """Asks a running run to stop; its workers learn of it with their next heartbeat. The first reason stays.

    Raises InvalidInput when there is no such run, or it has ended.
    """
    row = conn.execute(
        "UPDATE runs SET stop_requested = coalesce(stop_requested, %s) WHERE run_id = %s AND outcome = 'running'"
        " RETURNING run_id",
        (reason, run_id),
    ).fetchone()
    if row is None:
        raise InvalidInput(f"run {run_id} is not running: `s3ferry status` lists the runs")


def finish_run(
    conn: Connection,
    ref: RunRef,
    outcome: Outcome,
    exit_code: int,
    summary: Mapping[str, object],
    error: str | None = None,
) -> None:
    """Writes how the run ended; repeatable (the last call's words stay, the first call's time).

    The lease stays until `release`. Raises LeaseLost once another run has taken over.
    """
    with fenced(conn, ref, after_release=True):
        conn.execute(
            "UPDATE runs SET outcome = %s, exit_code = %s, summary = %s, error = %s,"
            " finished_at = coalesce(finished_at, clock_timestamp()) WHERE run_id = %s",
            (outcome.value, exit_code, Jsonb(dict(summary)), error, ref.run_id),
        )


def has_run(conn: Connection, ref: RunRef, started_at: datetime | None) -> bool:
    """Whether this ledger is the one in which `ref` began at `started_at` (None: at any time). Repeatable."""
    try:
        row = conn.execute(
            "SELECT 1 FROM runs WHERE run_id = %s AND job = %s AND fence = %s"
            " AND started_at = coalesce(%s, started_at)",
            (ref.run_id, ref.job, ref.fence, started_at),
        ).fetchone()
    except (UndefinedTable, UndefinedColumn):
        return False
    return row is not None


def note_error(conn: Connection, ref: RunRef, error: str) -> None:
    """Writes what has gone wrong in a run that is still going; how it ends says `finish_run`. Repeatable."""
    conn.execute(
        "UPDATE runs SET error = %s WHERE run_id = %s AND job = %s AND fence = %s AND outcome = 'running'",
        (error, ref.run_id, ref.job, ref.fence),
    )


def drop_history(conn: Connection, run_id: int) -> None:
    """Drops a run's partitions of `attempts`, `destination_rows` and `claims`, and its closed uploads but for those of
    objects as they stand now. Repeatable.

    Its row in `runs`, its counts and `objects` stay.
    Raises InvalidInput for a run that is still going. Waits at most 10 s for readers of `attempts`.
    """
    with transaction(conn):
        running = conn.execute(
            "SELECT 1 FROM runs JOIN leases USING (job, run_id)"
            " WHERE run_id = %s AND outcome = 'running' AND expires_at > clock_timestamp()",
            (run_id,),
        ).fetchone()
        if running:
            raise InvalidInput(f"run {run_id} is still going: stop it first, with `s3ferry stop {run_id}`")
    # the partitions last: a history that is gone is not dropped again
    with transaction(conn, _FORGETTING_S):
        forget_uploads(conn, run_id)
    apart = (sql.Identifier(f"{table}_{int(run_id)}") for table in ("destination_rows", "claims"))
    with transaction(conn):
        for name in (partition(run_id), *apart):
            conn.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(name))


def run_status(conn: Connection, run_id: int) -> RunStatus:
    """How run `run_id` stands. Raises InvalidInput when there is no such run."""
    row = conn.execute(f"{_STATUS} WHERE run_id = %s", (run_id,)).fetchone()
    if row is None:
        raise InvalidInput(f"the ledger has no run {run_id}: `s3ferry status` lists the runs")
    return _status(row)


def newest_runs(conn: Connection, most: int) -> list[RunStatus]:
    """How the newest runs of all jobs stand, the newest first; at most `most`. Repeatable."""
    return [_status(row) for row in conn.execute(f"{_STATUS} ORDER BY run_id DESC LIMIT %s", (most,))]


def _status(row: TupleRow) -> RunStatus:
    return RunStatus(
        run_id=row[0],
        job=row[1],
        outcome=Outcome(row[2]),
        exit_code=row[3],
        manifest=row[4],
        package_version=row[5],
        holder=identity_from_json(row[6]),
        started_at=row[7],
        finished_at=row[8],
        stop_requested=row[9],
        error=row[10],
        summary=row[11],
        lease_expires_at=row[12],
        options=row[13],
        records=row[14],
        records_digest=row[15],
        kind=RunKind(row[16]),
    )


def partition(run_id: int) -> sql.Identifier:
    """The name of the partition of `attempts` that belongs to `run_id`."""
    return sql.Identifier(f"attempts_{int(run_id)}")


def _try_start(conn: Connection, start: RunStart, me: ProcessIdentity, token: str) -> RunRef | Rival:
    """The new run, or the rival whose last workers must go first."""
    endpoint = start.destination_endpoint.lower().rstrip("/")
    with transaction(conn):
        # Two jobs with overlapping destinations must not start side by side, nor one beside a migration.
        conn.execute("SELECT pg_advisory_xact_lock(%s)", (START_LOCK,))
        require_current(conn)
        rivals = lock_rivals(conn, start.job, endpoint, start.destination_bucket, start.destination_prefix)
        for rival in rivals:
            if rival.token == token:
                return RunRef(start.job, rival.run_id, rival.fence)
        claim, obstacle = judge(rivals, me)
        if obstacle is not None:
            if claim is Claim.LINGERING:
                return obstacle
            raise held(start.job, obstacle)
        fence_off(conn, rivals, start.job)
        fence = 1 + next((rival.fence for rival in rivals if rival.job == start.job), 0)
        run_id = _insert_run(conn, start, me, fence)
        conn.execute(
            "INSERT INTO leases VALUES (%(job)s, %(run)s, %(fence)s, %(token)s, %(holder)s, %(endpoint)s, %(bucket)s,"
            " %(prefix)s, clock_timestamp(), clock_timestamp() + make_interval(secs => %(ttl)s))"
            " ON CONFLICT (job) DO UPDATE SET run_id = excluded.run_id, fence = excluded.fence, token = excluded.token,"
            " holder = excluded.holder, destination_endpoint = excluded.destination_endpoint,"
            " destination_bucket = excluded.destination_bucket, destination_prefix = excluded.destination_prefix,"
            " renewed_at = excluded.renewed_at, expires_at = excluded.expires_at",
            {
                "job": start.job,
                "run": run_id,
                "fence": fence,
                "token": token,
                "holder": Jsonb(me.as_json()),
                "endpoint": endpoint,
                "bucket": start.destination_bucket,
                "prefix": start.destination_prefix,
                "ttl": start.lease_ttl_s,
            },
        )
        conn.execute("SELECT add_attempts_partition(%s)", (run_id,))
    return RunRef(start.job, run_id, fence)


def _insert_run(conn: Connection, start: RunStart, me: ProcessIdentity, fence: int) -> int:
    row = conn.execute(
        "INSERT INTO runs (job, fence, manifest, manifest_checksum, package_version, options, holder, kind)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s) RETURNING run_id",
        (
            start.job,
            fence,
            start.manifest,
            start.manifest_checksum,
            start.package_version,
            Jsonb(dict(start.options)),
            Jsonb(me.as_json()),
            start.kind.value,
        ),
    ).fetchone()
    if row is None:
        raise RunBroken("the ledger gave the new run no id: a rule or trigger on table runs is in the way")
    return int(row[0])
