"""`python -m bench.ledger`: rows per second into the ledger, by its session alone and through WriteLedger.

Through WriteLedger means a graph on FnApiRunner in which records are made and written, as behind CopyObjects; the
same graph without WriteLedger tells how much of the time is making them. Start-up (a graph over a few rows) is taken
off. An embedded PostgreSQL runs beside it. Writes bench/results/ and prints the JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import time
from pathlib import Path
from typing import Any

from bench.compare import RESULTS, default_work
from bench.job import config_for, local_manifest, start_job
from bench.machine import machine, today, versions
from bench.measure import cpu_of
from bench.parts_report import ledger_text
from bench.report import write
from bench.rows import inventory, records
from bench.servers import Postgres, postgres
from ledger.session import LedgerSession
from pipeline.nursery import Nursery
from pipeline.runners import preset_of, run_graph
from transforms.context import JobContext
from transforms.worker import close_worker
from transforms.write_ledger import WriteLedger

_BATCH = 64
"""Records in one element, about what the engine hands over at once."""
_FEW = 640


def through_session(job: JobContext, dsn: str, rows: int) -> float:
    """Seconds in which a session takes `rows` and has them durable."""
    options = job.config.ledger
    batches = [records(first, _BATCH) for first in range(0, rows, _BATCH)]
    with LedgerSession(
        dsn,
        job.run,
        flush_rows=options.flush_rows,
        flush_bytes=options.flush_bytes,
        flush_interval_s=options.flush_interval_s,
        lease_ttl_s=options.lease_ttl_s,
        worker_id="bench",
        on_stop=lambda reason: None,
        on_lease_lost=lambda: None,
    ) as session:
        began = time.monotonic()
        tickets = [session.write(batch) for batch in batches]
        session.flush()
        for ticket in tickets:
            ticket.wait()
        return time.monotonic() - began


def through_graph(job: JobContext, rows: int, nursery: Nursery | None, *, write: bool) -> float:
    """Seconds of a graph that makes `rows` and writes them, or drops them."""
    import apache_beam as beam  # noqa: PLC0415 - heavy

    def build(pipeline: Any) -> None:
        made = (
            pipeline
            | beam.Create(list(range(0, rows, _BATCH)), reshuffle=False)
            | beam.Reshuffle()
            | "Make" >> beam.Map(records, _BATCH)
        )
        if write:
            made | "WriteLedger" >> WriteLedger(job)  # type: ignore[unused-ignore]
        else:
            made | "Drop" >> beam.Filter(lambda batch: not batch)

    began = time.monotonic()
    run_graph(preset_of(job.config), nursery.command if nursery else None, build)
    close_worker()
    return time.monotonic() - began


def measured(ledger: Postgres, manifest: str, rows: int, workers: int) -> dict[str, Any]:
    """One line of the result: a way into the ledger, rows per second. `workers` 0 is the session alone."""
    with ledger.database() as dsn, contextlib.ExitStack() as stack:
        # the nursery's workers have this process's environment
        os.environ["LEDGER_DSN"] = dsn
        nursery = stack.enter_context(Nursery()) if workers > 1 else None
        config = config_for(manifest, max(1, workers))

        def job() -> JobContext:
            return start_job(dsn, config, local_manifest(manifest))

        spent, making_s = cpu_of(ledger.pid), 0.0
        if workers == 0:
            seconds = through_session(job(), dsn, rows)
        else:
            idle_s = through_graph(job(), _FEW, nursery, write=True)
            seconds = through_graph(job(), rows, nursery, write=True) - idle_s
            making_s = through_graph(job(), rows, nursery, write=False)
            making_s -= through_graph(job(), _FEW, nursery, write=False)
        return {
            "way": f"WriteLedger, {workers} workers" if workers else "session alone",
            "rows": rows,
            "seconds": seconds,
            "rows_per_s": rows / seconds,
            "making_s": making_s,
            "postgresql_cpu_s": cpu_of(ledger.pid) - spent,
        }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.ledger", allow_abbrev=False, description=__doc__)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2, help="the most worker processes; 0, 1 and this are measured")
    parser.add_argument("--work", type=Path, default=default_work())
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)
    work = options.work.resolve()
    manifest = str(inventory(work / "inventory", "CSV", 1))
    runs = []
    with postgres(work / "postgres") as ledger:
        for number in range(options.rounds):
            for workers in dict.fromkeys((0, 1, options.workers)):
                runs.append({"round": number, **measured(ledger, manifest, options.rows, workers)})
                print(json.dumps(runs[-1]), flush=True)
    result = {
        "kind": "ledger",
        "date": today(),
        "rounds": options.rounds,
        "machine": machine(),
        "versions": versions(),
        "runs": runs,
    }
    write(result, options.results, "ledger", ledger_text(result), {})


if __name__ == "__main__":
    main()
