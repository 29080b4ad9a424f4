"""`python -m bench.null`: s3ferry and the bare loop against the null server, where no server hides the client.

HTTP and TLS, without and with latency, from few to many objects in flight; large objects; hashing by itself.
Start-up is taken off: the CPU and memory of the same command over a few objects, in the same round. s3ferry runs
with its ledger, the loop has none. See docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import null_report
from bench.compare import RESULTS, default_work
from bench.hashing import hashing_s_per_gib
from bench.machine import machine, today, versions
from bench.measure import cpu_of, measure
from bench.servers import Postgres, Server, built_nullserver, nullserver, postgres
from bench.tools import Job, s3ferry_call
from local.inventory import write_inventory

SOURCE, DESTINATION, INVENTORY = "source", "destination", "inv"
FEW = 8
LARGE_BYTES = 500_000_000
_MOST_IN_FLIGHT_BY_LATENCY = 4
_WHEN = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Case:
    """One run of one tool. `in_flight` is of all workers together; 0 leaves it to the tool."""

    tool: str
    count: int
    size: int
    in_flight: int
    workers: int


class CaseFailed(Exception):
    """A run that did not do its work; what it measured does not count."""


@dataclass(slots=True)
class Bench:
    """What all runs of one call share."""

    binary: Path
    ledger: Postgres
    work: Path
    flags: Sequence[str]
    inventories: dict[tuple[int, int], tuple[str, list[tuple[str, bytes]]]] = field(default_factory=dict)

    def run(self, server: Server, case: Case) -> dict[str, Any]:
        """Runs one case; its row, with what the tool says of itself."""
        folder = self.work / "null-run"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        before = cpu_of(server.pid)
        row = self._loop(server, case, folder) if case.tool == "loop" else self._s3ferry(server, case, folder)
        if row["exit_code"] != 0:
            raise CaseFailed(f"{case}: exit code {row['exit_code']}: {(folder / 'log').read_text()[-2000:]}")
        return {**asdict(case), **row, "server_cpu_s": cpu_of(server.pid) - before}

    def _loop(self, server: Server, case: Case, folder: Path) -> dict[str, Any]:
        command = [sys.executable, "-m", "bench.loop", f"--endpoint={server.url}", f"--count={case.count}"]
        command += [f"--size={case.size}", f"--in_flight={case.in_flight}", f"--processes={case.workers}"]
        if server.ca_bundle:
            command.append(f"--ca_bundle={server.ca_bundle}")
        usage = measure(command, {}, folder / "log")
        said = json.loads((folder / "log").read_text()) if usage.exit_code == 0 else {"objects_per_s": 0.0}
        return {**asdict(usage), "cpu_s": usage.cpu_s, "objects_per_s": said["objects_per_s"]}

    def _s3ferry(self, server: Server, case: Case, folder: Path) -> dict[str, Any]:
        manifest = self._put_inventory(server, case.count, case.size)
        flags = [f"--workers={case.workers}", *self.flags]
        if case.in_flight:
            flags.append(f"--max_in_flight={max(1, case.in_flight // case.workers)}")
        with self.ledger.database() as dsn:
            job = Job(server, server, SOURCE, DESTINATION, case.size, manifest, dsn, folder)
            call = s3ferry_call(job, flags)
            before = cpu_of(self.ledger.pid)
            usage = measure(call.command, call.environment, folder / "log")
            spent = cpu_of(self.ledger.pid) - before
            copying_s = _copying_s(dsn) if usage.exit_code == 0 else 0.0
        said = json.loads(job.summary.read_text()) if job.summary.exists() else {}
        if usage.exit_code == 0 and said["statuses"].keys() != {"VERIFIED"}:
            raise CaseFailed(f"{case}: not all is VERIFIED: {said['statuses']}")
        return {
            **asdict(usage),
            "cpu_s": usage.cpu_s,
            "objects_per_s": case.count / copying_s if copying_s else 0.0,
            "start_up_s": said.get("start_up_seconds"),
            "copying_s": copying_s,
            "postgresql_cpu_s": spent,
        }

    def _put_inventory(self, server: Server, count: int, size: int) -> str:
        """Puts the inventory of `count` objects where the server keeps it; the manifest's URL."""
        client = server.client()
        if (count, size) not in self.inventories:
            self.inventories[count, size] = inventory_of(client, f"null-{count}-{size}", {size: count})
        manifest, files = self.inventories[count, size]
        for key, body in files:
            client.put_object(Bucket=INVENTORY, Key=key, Body=body)
        return f"s3://{INVENTORY}/{manifest}"


def _copying_s(dsn: str) -> float:
    """Seconds from the first GET to the last answer, as the ledger has them: what the loop measures of itself."""
    import psycopg  # noqa: PLC0415 - heavy

    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT max(finished_at) - min(started_at) FROM attempts").fetchone()
    return float(row[0].total_seconds()) if row and row[0] else 0.0


def inventory_of(client: Any, config_id: str, counts: Mapping[int, int]) -> tuple[str, list[tuple[str, bytes]]]:
    """The manifest's key, and the files of an inventory of objects that null servers have: how many of which size."""
    files: list[tuple[str, bytes]] = []

    def keep(key: str, body: bytes | Path) -> None:
        files.append((key, body.read_bytes() if isinstance(body, Path) else body))

    def rows() -> Iterator[dict[str, Any]]:
        for size, count in counts.items():
            etag = client.head_object(Bucket=SOURCE, Key=f"null/0@{size}")["ETag"].strip('"')
            for n in range(count):
                yield {"key": f"null/{n:07}@{size}", "size": size, "e_tag": etag, "last_modified_date": _WHEN}

    manifest = write_inventory(
        rows(),
        format="CSV",
        put=keep,
        source_bucket=SOURCE,
        inventory_bucket=INVENTORY,
        prefix="",
        config_id=config_id,
        when=_WHEN,
    )
    return manifest, files


def count_for(objects: int, in_flight: int, latency_ms: int, seconds: float) -> int:
    """How many objects make a run of about `seconds` where latency decides, at most `objects`.

    An object is two requests; whatever the latency, each place in flight gets a few objects.
    """
    if latency_ms == 0:
        return objects
    by_latency = int(in_flight * seconds / (2 * latency_ms / 1000))
    return min(objects, max(by_latency, _MOST_IN_FLIGHT_BY_LATENCY * in_flight))


def small_cases(options: argparse.Namespace, latency_ms: int, number: int) -> list[Case]:
    """The cases of one server and round: start-up of both tools, then pairs that alternate."""
    tools = ["s3ferry", "loop"] if number % 2 == 0 else ["loop", "s3ferry"]
    cases = []
    for workers in options.workers:
        cases += [Case(tool, FEW, options.size, FEW * workers, workers) for tool in tools]
        for in_flight in options.in_flight:
            count = count_for(options.objects, in_flight, latency_ms, options.seconds)
            cases += [Case(tool, count, options.size, in_flight, workers) for tool in tools]
    return cases


def large_cases(options: argparse.Namespace) -> list[Case]:
    """Large objects at s3ferry's own concurrency, on the most workers asked for."""
    return [Case("s3ferry", options.large, LARGE_BYTES, 0, max(options.workers))] if options.large else []


def measure_all(bench: Bench, options: argparse.Namespace) -> tuple[list[dict[str, Any]], list[str]]:
    """All rounds: the runs that did their work, and a line for each that did not."""
    runs, failures = [], []
    for number in range(options.rounds):
        for scheme in options.schemes:
            for latency_ms in options.latencies:
                where = {"round": number, "scheme": scheme, "latency_ms": latency_ms}
                settings = {"tls": scheme == "tls", "latency_ms": latency_ms, "size": options.size}
                with nullserver(bench.binary, bench.work / "null", **settings) as server:
                    cases = small_cases(options, latency_ms, number)
                    cases += large_cases(options) if latency_ms == 0 else []
                    for case in cases:
                        try:
                            row = {**where, **bench.run(server, case)}
                        except CaseFailed as error:
                            failures.append(f"{where}: {error}")
                            print(failures[-1], flush=True)
                            continue
                        runs.append(row)
                        print(_line(row), flush=True)
    return runs, failures


def _line(row: dict[str, Any]) -> str:
    return (
        f"round {row['round'] + 1}: {row['scheme']} {row['latency_ms']} ms, {row['tool']}, {row['count']} objects, "
        f"{row['in_flight']} in flight, {row['workers']} workers: {row['objects_per_s']:.0f} objects/s, "
        f"CPU {row['cpu_s']:.2f} s"
    )


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",") if number]


def parser() -> argparse.ArgumentParser:
    """The options of bench/null.sh."""
    made = argparse.ArgumentParser(prog="bench/null.sh", allow_abbrev=False, description=__doc__)
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument("--objects", type=int, default=20_000, help="of one run, where latency does not decide")
    made.add_argument("--size", type=int, default=100_000, help="bytes of a small object")
    made.add_argument("--large", type=int, default=4, help="objects of 500 MB; 0 leaves them out")
    made.add_argument("--in_flight", type=_numbers, default=[16, 64, 400, 1600], help="of all workers together")
    made.add_argument("--latencies", type=_numbers, default=[0, 50], help="milliseconds per request")
    made.add_argument("--workers", type=_numbers, default=[2], help="worker processes, of s3ferry and of the loop")
    made.add_argument("--schemes", type=lambda text: text.split(","), default=["http", "tls"], help="of http,tls")
    made.add_argument("--seconds", type=float, default=30.0, help="length of a run where latency decides")
    made.add_argument("--flags", type=shlex.split, default=[], help="further flags of s3ferry")
    made.add_argument("--name", default="null", help="of the result's files")
    made.add_argument("--work", type=Path, default=default_work())
    made.add_argument("--results", type=Path, default=RESULTS)
    return made


def main() -> int:
    options = parser().parse_args()
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    with postgres(work / "postgres") as ledger:
        runs, failures = measure_all(Bench(built_nullserver(work), ledger, work, options.flags), options)
    result = {
        "kind": "null",
        "name": options.name,
        "date": today(),
        "rounds": options.rounds,
        "size": options.size,
        "large_bytes": LARGE_BYTES,
        "few": FEW,
        "flags": options.flags,
        "machine": machine(),
        "versions": versions(),
        "hashing_s_per_gib": hashing_s_per_gib(),
        "runs": runs,
        "failures": [line.splitlines()[0] for line in failures],
    }
    print(f"written to {null_report.write_null(result, options.results)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
