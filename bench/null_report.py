"""What bench/null.py found, as files: throughput, CPU and memory next to the bare loop's, per round and as medians."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

from bench import svg
from bench.report import header, table, write

Row = Mapping[str, Any]
Place = tuple[str, int, int]
"""Scheme, latency in milliseconds, workers."""

SMALL_DIGESTS = ("md5", "sha256", "crc64nvme")
_ENOUGH = 5_000
"""Objects below which start-up is too large a part of the CPU to be taken off."""
LARGE_DIGESTS = ("sha256", "crc64nvme")


def select(result: Mapping[str, Any], **wanted: Any) -> list[Row]:
    """The runs whose fields have the wanted values."""
    return [run for run in result["runs"] if all(run[name] == value for name, value in wanted.items())]


def start_up(result: Mapping[str, Any], run: Row, field: str) -> float:
    """`field` of the run over a few objects that belongs to `run`: at its latency, or where that failed, at any."""
    same = {name: run[name] for name in ("round", "scheme", "tool", "workers")}
    few = select(result, **same, count=result["few"])
    here = [idle for idle in few if idle["latency_ms"] == run["latency_ms"]]
    return mean(float(idle[field]) for idle in here or few)


def cpu_ms(result: Mapping[str, Any], run: Row) -> float:
    """CPU per object without start-up, in milliseconds."""
    spent = float(run["cpu_s"]) - start_up(result, run, "cpu_s")
    return 1000 * spent / (int(run["count"]) - int(result["few"]))


def mib_in_flight(result: Mapping[str, Any], run: Row) -> float:
    """What each object in flight adds to the peak RSS of all processes, in MiB."""
    added = float(run["peak_rss_bytes"]) - start_up(result, run, "peak_rss_bytes")
    return added / int(run["in_flight"]) / 2**20


def paired(result: Mapping[str, Any], place: Place, in_flight: int) -> list[tuple[Row, Row]]:
    """s3ferry and the loop of each round."""
    scheme, latency_ms, workers = place
    where = {"scheme": scheme, "latency_ms": latency_ms, "workers": workers, "in_flight": in_flight}
    where["size"] = result["size"]
    runs = [run for run in select(result, **where) if run["count"] != result["few"]]
    by_round: dict[int, dict[str, Row]] = {}
    for run in runs:
        by_round.setdefault(run["round"], {})[run["tool"]] = run
    return [(both["s3ferry"], both["loop"]) for both in by_round.values() if len(both) == 2]


def places(result: Mapping[str, Any]) -> list[Place]:
    """Where small objects were copied, in the order of the runs."""
    small = select(result, size=result["size"])
    return list(dict.fromkeys((run["scheme"], run["latency_ms"], run["workers"]) for run in small))


def in_flights(result: Mapping[str, Any], place: Place) -> list[int]:
    """The numbers in flight that were measured at one place."""
    scheme, latency_ms, workers = place
    runs = select(result, scheme=scheme, latency_ms=latency_ms, workers=workers, size=result["size"])
    return sorted({run["in_flight"] for run in runs if run["count"] != result["few"]})


def place_name(place: Place) -> str:
    """As a heading."""
    scheme, latency_ms, workers = place
    return f"{scheme.upper()}, {latency_ms} ms latency, {workers} workers"


def small_table(result: Mapping[str, Any], place: Place) -> str:
    """Small objects at one place: a row for each number in flight."""
    rows = []
    for in_flight in in_flights(result, place):
        pairs = paired(result, place, in_flight)
        if not pairs:
            continue
        speeds = [[run["objects_per_s"] for run in side] for side in zip(*pairs, strict=True)]
        costs = [[cpu_ms(result, run) for run in side] for side in zip(*pairs, strict=True)]
        enough = pairs[0][0]["count"] >= _ENOUGH
        rows.append(
            [
                str(in_flight),
                f"{pairs[0][0]['count']:,}",
                *(f"{median(side):.0f}" for side in speeds),
                f"{median(a / b for a, b in zip(*speeds, strict=True)):.2f}",
                *(f"{median(side):.3f}" if enough else "" for side in costs),
                f"{median(a - b for a, b in zip(*costs, strict=True)):.3f}" if enough else "",
                *(f"{median(mib_in_flight(result, run) for run in side):.2f}" for side in zip(*pairs, strict=True)),
            ]
        )
    columns = ["in flight", "objects", "s3ferry objects/s", "loop objects/s", "s3ferry / loop", "s3ferry CPU ms/object"]
    columns += ["loop CPU ms/object", "difference", "s3ferry MiB per object in flight", "loop MiB"]
    return table(columns, rows)


def large_table(result: Mapping[str, Any]) -> str:
    """Large objects, at every scheme."""
    rows = []
    hashing = sum(result["hashing_s_per_gib"][name] for name in LARGE_DIGESTS)
    for scheme in dict.fromkeys(run["scheme"] for run in result["runs"]):
        runs = select(result, scheme=scheme, size=result["large_bytes"])
        if not runs:
            continue
        gib = runs[0]["count"] * result["large_bytes"] / 2**30
        costs = [(run["cpu_s"] - start_up(result, run, "cpu_s")) / gib for run in runs]
        speeds = [gib * 2**30 / 1e6 / run["copying_s"] for run in runs]
        rows.append([scheme.upper(), f"{median(speeds):.0f}", f"{median(costs):.2f}", f"{median(costs) - hashing:.2f}"])
    columns = ["server", "MB/s", "CPU s/GiB", f"above hashing ({' + '.join(LARGE_DIGESTS)})"]
    return table(columns, rows) if rows else "Not measured.\n"


def null_text(result: Mapping[str, Any]) -> str:
    """The report."""
    hashing = result["hashing_s_per_gib"]
    one = sum(hashing[name] for name in SMALL_DIGESTS) * result["size"] / 2**30 * 1000
    idle = [run for run in result["runs"] if run["count"] == result["few"] and run["tool"] == "s3ferry"]
    flags = f" Flags of s3ferry: {' '.join(result['flags'])}." if result["flags"] else ""
    sections = [f"## {place_name(place)}\n\n{small_table(result, place)}" for place in places(result)]
    return "\n".join(
        [
            header(result, f"Null server, objects of {result['size']:,} bytes"),
            f"Medians of {result['rounds']} rounds; s3ferry with its ledger and default evidence, next to a bare loop "
            f"that has neither. objects/s from the first GET to the last answer; CPU of the whole process tree, "
            f"PostgreSQL apart, start-up taken off (left out where there are too few objects for that).{flags}\n",
            f"s3ferry's start-up ({result['few']} objects, the whole command): "
            f"{median(run['wall_s'] for run in idle):.2f} s, CPU {median(run['cpu_s'] for run in idle):.2f} s.",
            f"Hashing one object ({' + '.join(SMALL_DIGESTS)}) by itself: {one:.3f} ms. CPU s/GiB: "
            + ", ".join(f"{name} {seconds:.2f}" for name, seconds in hashing.items())
            + ".\n",
            *(f"Left out: {line}\n" for line in result["failures"]),
            *sections,
            f"## Large objects of {result['large_bytes']:,} bytes\n\n{large_table(result)}",
        ]
    )


def _plot(result: Mapping[str, Any], title: str, value: Callable[[Row], float]) -> str:
    charts: dict[str, dict[str, Sequence[tuple[float, float]]]] = {}
    for place in places(result):
        points: dict[str, list[tuple[float, float]]] = {"s3ferry": [], "bare loop": []}
        for in_flight in in_flights(result, place):
            sides = list(zip(*paired(result, place, in_flight), strict=True))
            if not sides:
                continue
            for name, side in zip(points, sides, strict=True):
                points[name].append((in_flight, median(value(run) for run in side)))
        charts[place_name(place)] = dict(points)
    return svg.lines(f"{title} ({result['date']})", charts, "objects in flight")


def write_null(result: Mapping[str, Any], folder: Path) -> str:
    """Writes the result; the name of the report."""
    plots = {
        "": _plot(result, "objects per second", lambda run: float(run["objects_per_s"])),
        "-cpu": _plot(result, "CPU ms per object, start-up taken off", lambda run: cpu_ms(result, run)),
    }
    return write(result, folder, result["name"], null_text(result), plots).name
