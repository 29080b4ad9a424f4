"""One heartbeat of one worker: renews the lease and leaves the worker's counters, in one transaction."""

from __future__ import annotations

from collections.abc import Mapping

from psycopg.types.json import Jsonb

from ledger.connect import Connection, transaction
from ledger.leases import Renewal, RunRef, renew
from ledger.process import ProcessIdentity


def beat(
    conn: Connection,
    ref: RunRef,
    ttl_s: float,
    worker_id: str,
    process: ProcessIdentity,
    counters: Mapping[str, int],
) -> Renewal:
    """Renews the lease for `ttl_s` seconds and replaces the worker's row; repeatable. Raises LeaseLost."""
    with transaction(conn):
        conn.execute(
            "INSERT INTO workers (run_id, worker_id, host, pid, process, last_seen, counters)"
            " VALUES (%s, %s, %s, %s, %s, clock_timestamp(), %s)"
            " ON CONFLICT (run_id, worker_id) DO UPDATE SET host = excluded.host, pid = excluded.pid,"
            " process = excluded.process, last_seen = excluded.last_seen, counters = excluded.counters",
            (ref.run_id, worker_id, process.host, process.pid, Jsonb(process.as_json()), Jsonb(dict(counters))),
        )
        # Last, because all workers of the run update this one row.
        return renew(conn, ref, ttl_s)
