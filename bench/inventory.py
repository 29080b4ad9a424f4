"""`python -m bench.inventory`: rows per second and memory for planning and routing inventories of growing size.

Each inventory is generated once and kept. What runs is s3ferry up to the point where copying would start, in slices,
with worker processes (bench/routing.py), in a process tree of its own. Writes bench/results/.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from sys import executable
from typing import Any

from bench.compare import RESULTS, default_work
from bench.machine import machine, today, versions
from bench.measure import measure
from bench.parts_report import inventory_plot, inventory_text
from bench.report import write
from bench.rows import inventory
from bench.servers import Postgres, postgres

COUNTS = (10_000, 100_000, 1_000_000, 5_000_000)
FORMATS = ("CSV", "Parquet")


def measured(ledger: Postgres, manifest: Path, workers: int, flags: Sequence[str], log: Path) -> dict[str, Any]:
    """One run: what bench.routing says and what its processes used."""
    command = [executable, "-m", "bench.routing", str(manifest), str(workers), *flags]
    with ledger.database() as dsn:
        usage = measure(command, {"LEDGER_DSN": dsn}, log)
    if usage.exit_code != 0:
        raise RuntimeError(f"{manifest}: exit code {usage.exit_code}: {log.read_text(errors='replace')[-2000:]}")
    said = json.loads(log.read_text().splitlines()[-1])
    if said["routed"] != said["rows"]:
        raise RuntimeError(f"{manifest}: {said['rows']} rows, {said['routed']} routed")
    return {**said, **asdict(usage), "cpu_s": usage.cpu_s}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.inventory", allow_abbrev=False, description=__doc__)
    parser.add_argument("--counts", type=lambda text: [int(n) for n in text.split(",")], default=list(COUNTS))
    parser.add_argument("--formats", type=lambda text: text.split(","), default=list(FORMATS))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--flags", type=str.split, default=[], help="further flags of s3ferry, as --slice_rows=N")
    parser.add_argument("--work", type=Path, default=default_work())
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    work = options.work.resolve()
    runs = []
    with postgres(work / "postgres") as ledger:
        for number in range(options.rounds):
            for count in options.counts:
                for format in options.formats:
                    manifest = inventory(work / "inventory", format, count)
                    found = measured(ledger, manifest, options.workers, options.flags, work / "routing.log")
                    runs.append({"round": number, "format": format, **found})
                    print(json.dumps(runs[-1]), flush=True)
    result = {
        "kind": "inventory",
        "date": today(),
        "rounds": options.rounds,
        "workers": options.workers,
        "machine": machine(),
        "versions": versions(),
        "runs": runs,
    }
    write(result, options.results, "inventory", inventory_text(result), {"": inventory_plot(result)})


if __name__ == "__main__":
    main()
