"""`python -m bench.compare`: s3ferry against its peers, MinIO to MinIO, on the same work in turn.

In each round every tool copies the same set into a server that starts empty; the order alternates, and ratios
are taken within a round, so that a machine whose speed drifts does little harm. See docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import report
from bench.machine import machine, today, versions
from bench.measure import cpu_of, measure
from bench.servers import Postgres, Server, empty_minio, minio, postgres, warm
from bench.sets import NAMES, PreparedSet, differences, few_objects, objects_of, prepare
from bench.tools import PROGRAMS, START_UP, Job, Tool, binary, s3ferry_call, tools

BUCKET = "destination"
RESULTS = Path(__file__).parent / "results"


def default_work() -> Path:
    """Where data and servers are kept between calls."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "s3ferry" / "bench"


@dataclass(frozen=True, slots=True)
class Bench:
    """What all runs of one call share."""

    source: Server
    ledger: Postgres
    work: Path

    def run(self, tool: Tool, work: PreparedSet) -> dict[str, Any]:
        """One run of one tool into an empty server: its row of the results."""
        folder = self.work / "run"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with empty_minio(binary("minio"), self.work / "destination") as destination, self.ledger.database() as dsn:
            destination.client().create_bucket(Bucket=BUCKET)
            job = Job(self.source, destination, work.bucket, BUCKET, work.largest, work.manifest, dsn, folder)
            servers = {"source": self.source.pid, "destination": destination.pid, "postgresql": self.ledger.pid}
            before = {name: cpu_of(pid) for name, pid in servers.items()}
            call = tool.call(job)
            usage = measure(call.command, call.environment, folder / "log")
            spent = {name: cpu_of(pid) - before[name] for name, pid in servers.items()}
            found = differences(self.source, destination, work, BUCKET)
        if usage.exit_code != 0:
            _say(f"    exit code {usage.exit_code}; the end of what it printed:\n{_tail(folder / 'log')}")
        return {
            "tool": tool.name,
            **asdict(usage),
            "cpu_s": usage.cpu_s,
            "server_cpu_s": spent["source"] + spent["destination"],
            "postgresql_cpu_s": spent["postgresql"],
            "differences": found,
            "start_up_s": _start_up(job.summary),
        }


def _start_up(summary: Path) -> float | None:
    return float(json.loads(summary.read_text())["start_up_seconds"]) if summary.exists() else None


def _tail(log: Path) -> str:
    return "\n".join(f"    {line[:200]}" for line in log.read_text(errors="replace").splitlines()[-4:])


def _say(line: str) -> None:
    print(line, flush=True)


def ordered(entries: Sequence[Tool], number: int) -> list[Tool]:
    """The order of round `number`: every other one backwards, so that nobody is always first."""
    return list(entries) if number % 2 == 0 else list(reversed(entries))


def compare(bench: Bench, name: str, scale: float, rounds: int, entries: Sequence[Tool]) -> dict[str, Any]:
    """All rounds of one set: the result as it is written."""
    _say(f"{name}: making the data")
    work = prepare(bench.source, name, objects_of(name, scale))
    few = prepare(bench.source, "few", few_objects())
    warm(bench.work / "source" / "data" / work.bucket)
    start_up = Tool(START_UP, s3ferry_call, "", True)
    runs: list[dict[str, Any]] = []
    for number in range(rounds):
        for tool in ordered([start_up, *entries], number):
            row = bench.run(tool, few if tool is start_up else work)
            runs.append({"round": number, **row})
            _say(f"  round {number + 1}: {tool.name}: {row['wall_s']:.1f} s, CPU {row['cpu_s']:.1f} s")
            for line in row["differences"]:
                _say(f"    {line}")
    return {
        "kind": "peers",
        "set": name,
        "date": today(),
        "scale": scale,
        "objects": len(work.objects),
        "bytes": work.total_bytes,
        "few": len(few.objects),
        "rounds": rounds,
        "machine": machine(),
        "versions": versions(),
        "evidence": {tool.name: tool.evidence for tool in entries},
        "verifies": {tool.name: tool.verifies for tool in entries},
        "runs": runs,
    }


def _variants(given: Sequence[str]) -> Mapping[str, Sequence[str]]:
    found = {}
    for text in given:
        name, equals, flags = text.partition("=")
        if not equals:
            raise SystemExit(f"--variant={text}: give NAME=FLAGS, for example 'one worker=--workers=1'")
        found[name] = shlex.split(flags)
    return found


def _names(allowed: Sequence[str]) -> Any:
    def parse(text: str) -> list[str]:
        names = [name for name in text.split(",") if name]
        for name in names:
            if name not in allowed:
                raise argparse.ArgumentTypeError(f"{name} is unknown: choose from {', '.join(allowed)}")
        return names

    return parse


def parser() -> argparse.ArgumentParser:
    """The options of bench/run.sh."""
    made = argparse.ArgumentParser(prog="bench/run.sh", allow_abbrev=False, description=__doc__)
    made.add_argument("--sets", type=_names(NAMES), default=list(NAMES), help=f"of {','.join(NAMES)}; all by default")
    made.add_argument("--peers", type=_names(PROGRAMS), default=list(PROGRAMS), help=f"of {','.join(PROGRAMS)}")
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument("--scale", type=float, default=1.0, help="of the number of objects; 1 is the full set")
    made.add_argument("--variant", action="append", default=[], metavar="NAME=FLAGS", help="s3ferry again, with flags")
    made.add_argument("--work", type=Path, default=default_work(), help="folder of data and servers, kept")
    made.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    return made


def main() -> int:
    options = parser().parse_args()
    entries, missing = tools(options.peers, _variants(options.variant))
    for name in missing:
        _say(f"{name} is not installed and is left out")
    if not binary("minio").exists():
        _say("bench: MinIO is not installed: run tests/install_tools.sh minio")
        return 2
    work = options.work.resolve()
    with minio(binary("minio"), work / "source") as source, postgres(work / "postgres") as ledger:
        for name in options.sets:
            result = compare(Bench(source, ledger, work), name, options.scale, options.rounds, entries)
            _say(f"{name}: written to {report.write_peers(result, options.results)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
