"""`python -m bench.ledger_scale`: a ledger of many rows: what they take, how fast a run is closed, and how fast the
next one passes over objects that have not changed. PostgreSQL makes the rows itself. Writes bench/results/.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from sys import executable
from typing import Any, TypeVar

from bench.compare import RESULTS, default_work
from bench.job import config_for, local_manifest, start_job
from bench.machine import machine, today, versions
from bench.measure import measure
from bench.parts_report import scale_text
from bench.report import write
from bench.rows import inventory
from bench.servers import Postgres, postgres
from ledger.connect import Connection, connect
from ledger.digest import seal
from ledger.leases import RunRef, release
from ledger.reconciliation import reconcile
from ledger.retry import repeat
from ledger.runs import finish_run
from model.outcome import Outcome

T = TypeVar("T")

_JOB = "scale"
_BATCH = 500_000
_TABLES = ("objects", "attempts_1")
# the rows of bench.rows, as copies of small objects leave them
_ROWS = """
SELECT 'bench', format('photos/2025/%%s/album %%s/IMG_%%s.jpg', lpad((n %% 12 + 1)::text, 2, '0'),
           lpad((n / 1000)::text, 6, '0'), lpad(n::text, 8, '0')) AS key,
       CASE WHEN n %% 100000 = 1 THEN 500000000 WHEN n %% 100 = 1 THEN 10000000 ELSE 100000 + n %% 1000 END AS size,
       CASE WHEN n %% 100000 = 1 THEN 'large' WHEN n %% 100 = 1 THEN 'medium' ELSE 'small' END::size_class AS class,
       lpad(to_hex(n), 32, '0') AS etag, n
  FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n
"""
_COLUMNS = (
    "source_bucket, source_key, destination_bucket, destination_key, size, size_class, source_etag, destination_etag,"
    " md5, sha256, crc64nvme, status, source_evidence, destination_evidence, attempts, started_at, finished_at,"
    " file_number, row_number"
)
_VALUES = (
    "bucket, key, bucket, key, size, class, etag, etag, etag, etag || etag, 'rosUhgp5mIg=', 'VERIFIED'::object_status,"
    " 'etag_md5'::source_evidence, 'signed_body'::destination_evidence, 1, clock_timestamp(), clock_timestamp(), 0, n"
)


def fill(conn: Connection, ref: RunRef, count: int) -> None:
    """`count` rows in `objects` and in the run's partition of `attempts`, and the counts that belong to them."""
    for first in range(0, count, _BATCH):
        made = {"first": first, "last": min(first + _BATCH, count) - 1, "run": ref.run_id, "job": ref.job}
        rows = f"({_ROWS}) AS made (bucket, key, size, class, etag, n)"
        conn.execute(f"INSERT INTO attempts_1 (run_id, {_COLUMNS}) SELECT %(run)s, {_VALUES} FROM {rows}", made)  # noqa: S608
        conn.execute(
            f"INSERT INTO objects (job, run_id, {_COLUMNS}) SELECT %(job)s, %(run)s, {_VALUES} FROM {rows}",  # noqa: S608
            made,
        )
    conn.execute(
        "INSERT INTO manifest_files (run_id, slice, file_number, file_key, size, rows, object_bytes)"
        " SELECT 1, 0, 0, 'generated', 0, count(*), sum(size) FROM attempts_1"
    )
    conn.execute(
        "INSERT INTO manifest_counts (run_id, slice, file_number, size_class, status, objects, object_bytes)"
        " SELECT 1, 0, 0, size_class::text, status, count(*), sum(size) FROM attempts_1 GROUP BY 4, 5"
    )


def sizes(conn: Connection) -> dict[str, dict[str, int]]:
    """Bytes of rows and of indexes of each table."""
    found = {}
    for table in _TABLES:
        [(rows, indexes)] = conn.execute("SELECT pg_table_size(%s), pg_indexes_size(%s)", (table, table)).fetchall()
        found[table] = {"rows": rows, "indexes": indexes}
    return found


def timed(call: Callable[[], T]) -> tuple[T, float]:
    began = time.monotonic()
    return call(), time.monotonic() - began


def measured(ledger: Postgres, manifest: Path, count: int, workers: int, log: Path) -> dict[str, Any]:
    """A ledger of `count` rows, from the first to the run after it."""
    with ledger.database() as dsn:
        config = config_for(str(manifest), workers, [f"--job={_JOB}"])
        ref = start_job(dsn, config, local_manifest(str(manifest))).run
        with connect(dsn, "bench") as conn:
            conn.execute("SET statement_timeout = 0")
            _, filling_s = timed(lambda: fill(conn, ref, count))
            _, vacuum_s = timed(lambda: conn.execute("VACUUM (ANALYZE)"))
            found = sizes(conn)
        gaps, reconcile_s = timed(lambda: repeat(dsn, "bench", lambda conn: reconcile(conn, ref)))
        if gaps:
            raise RuntimeError(f"the accounts do not balance: {gaps}")
        with connect(dsn, "bench") as conn:
            finish_run(conn, ref, Outcome.SUCCEEDED, 0, {})
            release(conn, ref)
        _, digest_s = timed(lambda: repeat(dsn, "bench", lambda conn: seal(conn, ref.run_id)))
        command = [executable, "-m", "bench.routing", str(manifest), str(workers), f"--job={_JOB}"]
        usage = measure(command, {"LEDGER_DSN": dsn}, log)
        if usage.exit_code != 0:
            raise RuntimeError(f"exit code {usage.exit_code}: {log.read_text(errors='replace')[-2000:]}")
        said = json.loads(log.read_text().splitlines()[-1])
        if (said["rows"], said["routed"]) != (count, 0):
            raise RuntimeError(f"{said['rows']} rows, of which {said['routed']} were not passed over")
    return {
        "rows": count,
        "bytes": found,
        "filling_s": filling_s,
        "vacuum_s": vacuum_s,
        "reconcile_s": reconcile_s,
        "digest_s": digest_s,
        "planning_s": said["planning_s"],
        "skipping_s": said["routing_s"],
        "peak_main_rss_bytes": usage.peak_main_rss_bytes,
        "peak_other_rss_bytes": usage.peak_other_rss_bytes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.ledger_scale", allow_abbrev=False, description=__doc__)
    parser.add_argument(
        "--counts", type=lambda text: [int(n) for n in text.split(",")], default=[1_000_000, 10_000_000]
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--work", type=Path, default=default_work())
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    work = options.work.resolve()
    runs = []
    with postgres(work / "postgres") as ledger:
        for count in options.counts:
            manifest = inventory(work / "inventory", "Parquet", count)
            runs.append(measured(ledger, manifest, count, options.workers, work / "routing.log"))
            print(json.dumps(runs[-1]), flush=True)
    result = {
        "kind": "ledger-scale",
        "date": today(),
        "rounds": 1,
        "workers": options.workers,
        "machine": machine(),
        "versions": versions(),
        "runs": runs,
    }
    write(result, options.results, "ledger-scale", scale_text(result), {})


if __name__ == "__main__":
    main()
