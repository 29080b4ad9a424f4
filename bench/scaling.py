"""`python -m bench.scaling`: s3ferry on a standalone Flink cluster, TaskManagers of one slot, against the null server.

Every request takes the same time there, so that throughput is bound by what is in flight: a worker process for each
slot, each with the same number of objects in flight. Two questions: how many objects per second at parallelism 1, 2,
4, 8, and when the small objects of a run are done, with and without large ones in it. See docs/clusters.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.compare import RESULTS, default_work
from bench.machine import machine, today, versions
from bench.measure import MachineBusy, measure
from bench.null import INVENTORY, SOURCE, CaseFailed, inventory_of
from bench.scaling_report import write_scaling
from bench.servers import Server, built_nullserver, free_port, nullserver, postgres
from bench.tools import Job, s3ferry_call

_SCRIPT = Path(__file__).parent.parent / "deploy" / "flink" / "local_cluster.sh"
SLOTS = 1
_TASK_MANAGER_MEMORY = "1024m"
MIXED = 2
"""The parallelism at which small and large objects are mixed."""
_REQUESTS = 2
_SMALL = 10_000
_LARGE = 100_000_000
_TIMES = """
SELECT EXTRACT(epoch FROM max(attempts.finished_at) - min(attempts.started_at))::float8,
       EXTRACT(epoch FROM max(attempts.finished_at) - min(runs.started_at))::float8,
       EXTRACT(epoch FROM max(attempts.finished_at))::float8
  FROM attempts JOIN runs USING (run_id)
 WHERE run_id = %s AND size_class = 'small' AND attempts.status = 'VERIFIED'
"""


@dataclass(frozen=True, slots=True)
class Case:
    """One run: how wide, and how many small and large objects."""

    kind: str
    parallelism: int
    small: int
    large: int = 0


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster whose workers know one ledger; `flags` make a run use it."""

    dsn: str
    flags: tuple[str, ...]


@contextmanager
def flink(folder: Path, task_managers: int, dsn: str, environment: Mapping[str, str]) -> Iterator[Cluster]:
    """deploy/flink/local_cluster.sh, on free ports."""
    port, pool_port = free_port(), free_port()
    settings = {
        **os.environ,
        **environment,
        "LEDGER_DSN": dsn,
        "FLINK_FOLDER": str(folder),
        "FLINK_PORT": str(port),
        "FLINK_RPC_PORT": str(free_port()),
        "WORKER_POOL_PORT": str(pool_port),
        "TASK_MANAGERS": str(task_managers),
        "SLOTS": str(SLOTS),
        "TASK_MANAGER_MEMORY": _TASK_MANAGER_MEMORY,
        "PYTHON": sys.executable,
    }
    try:
        subprocess.run([_SCRIPT, "up"], env=settings, check=True)
        yield Cluster(
            dsn,
            (
                "--runner=FlinkRunner",
                f"--flink_master=localhost:{port}",
                f"--environment_config=worker-pool:{pool_port}",
            ),
        )
    finally:
        subprocess.run([_SCRIPT, "down"], env=settings, check=False)


@dataclass(frozen=True, slots=True)
class Bench:
    """What all runs share."""

    server: Server
    cluster: Cluster
    work: Path
    in_flight: int

    def run(self, case: Case, number: int) -> dict[str, Any]:
        """Runs one case; what it took. Raises CaseFailed unless every object ended VERIFIED."""
        folder = self.work / "scaling-run"
        folder.mkdir(parents=True, exist_ok=True)
        manifest = self._put_inventory(case)
        job = Job(self.server, self.server, SOURCE, f"destination-{number}", _LARGE, manifest, self.cluster.dsn, folder)
        job.summary.unlink(missing_ok=True)
        flags = (*self.cluster.flags, f"--max_in_flight={self.in_flight}", f"--parallelism={case.parallelism}")
        call = s3ferry_call(job, flags)
        with MachineBusy() as machine_busy:
            usage = measure(call.command, call.environment, folder / "log")
        if usage.exit_code != 0:
            raise CaseFailed(f"{case}: exit code {usage.exit_code}: {(folder / 'log').read_text()[-2000:]}")
        said = json.loads(job.summary.read_text())
        ended = {status: sums["objects"] for status, sums in said["statuses"].items()}
        if ended != {"VERIFIED": case.small + case.large}:
            raise CaseFailed(f"{case}: not all is VERIFIED: {ended}")
        copying_s, small_done_s, copied_at = _times(self.cluster.dsn, said["run_id"])
        return {
            "kind": case.kind,
            "parallelism": case.parallelism,
            "small": case.small,
            "large": case.large,
            "objects_per_s": case.small / copying_s,
            "small_copying_s": copying_s,
            "small_done_s": small_done_s,
            "seconds": usage.wall_s,
            "machine_busy_percent": machine_busy.between(copied_at - copying_s, copied_at),
        }

    def _put_inventory(self, case: Case) -> str:
        client = self.server.client()
        name = f"scaling-{case.small}-{case.large}"
        manifest, files = inventory_of(client, name, {_SMALL: case.small, _LARGE: case.large})
        for key, body in files:
            client.put_object(Bucket=INVENTORY, Key=key, Body=body)
        return f"s3://{INVENTORY}/{manifest}"


def _times(dsn: str, run_id: int) -> tuple[float, float, float]:
    """Of the run's small objects: seconds from the first GET to the last answer, and from the run's start to it; and
    when that came, in seconds since the epoch."""
    import psycopg  # noqa: PLC0415 - heavy

    with psycopg.connect(dsn) as connection:
        [(copying_s, done_s, done_at)] = connection.execute(_TIMES, (run_id,)).fetchall()
    return copying_s, done_s, done_at


def cases(options: argparse.Namespace) -> list[Case]:
    """The runs of one round."""
    a_slot = int(options.in_flight * options.seconds * 1000 / (_REQUESTS * options.latency_ms))
    alone = a_slot * MIXED
    return [
        *(Case("scaling", parallelism, a_slot * parallelism) for parallelism in options.parallelism),
        Case("alone", MIXED, alone),
        Case("mixed", MIXED, alone, options.large),
    ]


def measure_all(bench: Bench, options: argparse.Namespace) -> list[dict[str, Any]]:
    """All rounds; the order of cases turns with each."""
    runs: list[dict[str, Any]] = []
    number = 0
    for turn in range(options.rounds):
        for case in cases(options)[:: 1 if turn % 2 == 0 else -1]:
            number += 1
            runs.append({"round": turn, **bench.run(case, number)})
            print(json.dumps(runs[-1]), flush=True)
    return runs


def parser() -> argparse.ArgumentParser:
    """The options of bench/scaling.sh."""
    made = argparse.ArgumentParser(prog="bench/scaling.sh", allow_abbrev=False, description=__doc__)
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument("--parallelism", type=lambda text: [int(n) for n in text.split(",")], default=[1, 2, 4, 8])
    made.add_argument("--latency_ms", type=int, default=50, help="of each request")
    made.add_argument("--in_flight", type=int, default=8, help="small objects, of each worker process")
    made.add_argument("--seconds", type=float, default=20.0, help="about how long the copies of one run take")
    made.add_argument("--large", type=int, default=20, help="objects of 100 MB in the mixed run")
    made.add_argument("--work", type=Path, default=default_work())
    made.add_argument("--results", type=Path, default=RESULTS)
    return made


def main() -> None:
    options = parser().parse_args()
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        ledger = stack.enter_context(postgres(work / "postgres"))
        dsn = stack.enter_context(ledger.database())
        settings = {"tls": False, "latency_ms": options.latency_ms, "size": _SMALL}
        server = stack.enter_context(nullserver(built_nullserver(work), work / "null", **settings))
        credentials = s3ferry_call(Job(server, server, SOURCE, "none", 0, "none", dsn, work)).environment
        cluster = stack.enter_context(flink(work / "flink", max(options.parallelism), dsn, credentials))
        runs = measure_all(Bench(server, cluster, work, options.in_flight), options)
    result = {
        "kind": "scaling",
        "date": today(),
        "rounds": options.rounds,
        "latency_ms": options.latency_ms,
        "in_flight": options.in_flight,
        "small_bytes": _SMALL,
        "large_bytes": _LARGE,
        "machine": machine(),
        "versions": versions(),
        "runs": runs,
    }
    print(f"written to {write_scaling(result, options.results)}")


if __name__ == "__main__":
    main()
