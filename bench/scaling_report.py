"""What bench/scaling.py found, as files: throughput by parallelism, and small objects beside large ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench import svg
from bench.report import header, table, write

Row = Mapping[str, Any]


def of_kind(result: Mapping[str, Any], kind: str) -> dict[int, list[Row]]:
    """The runs of this kind, by parallelism."""
    found: dict[int, list[Row]] = {}
    for run in result["runs"]:
        if run["kind"] == kind:
            found.setdefault(run["parallelism"], []).append(run)
    return dict(sorted(found.items()))


def middle(runs: Sequence[Row], field: str) -> float:
    """The median over rounds."""
    return float(median(run[field] for run in runs))


def by_round(runs: Sequence[Row], others: Sequence[Row], field: str) -> float:
    """The median of the ratios within a round."""
    whole = {other["round"]: other[field] for other in others}
    return float(median(run[field] / whole[run["round"]] for run in runs))


def scaling_table(result: Mapping[str, Any]) -> str:
    """Each parallelism, with its ratio to the one before."""
    rows, before = [], None
    for parallelism, runs in of_kind(result, "scaling").items():
        rows.append(
            [
                str(parallelism),
                f"{runs[0]['small']:,}",
                f"{middle(runs, 'objects_per_s'):,.0f}",
                "" if before is None else f"{by_round(runs, before, 'objects_per_s'):.2f}",
                f"{middle(runs, 'machine_busy_percent'):.0f} %",
                f"{middle(runs, 'seconds'):.0f}",
            ]
        )
        before = runs
    return table(["parallelism", "objects", "objects/s", "times the one before", "machine busy", "whole run s"], rows)


def mixed_table(result: Mapping[str, Any]) -> str:
    """Small objects alone, and with large ones in the same run."""
    rows, alone = [], None
    for kind, name in (("alone", "small objects alone"), ("mixed", "with large objects")):
        for runs in of_kind(result, kind).values():
            rows.append(
                [
                    name,
                    f"{runs[0]['small']:,} + {runs[0]['large']}",
                    f"{middle(runs, 'small_copying_s'):.1f}",
                    "" if alone is None else f"{by_round(runs, alone, 'small_copying_s'):.2f}",
                    f"{middle(runs, 'small_done_s'):.1f}",
                    "" if alone is None else f"{by_round(runs, alone, 'small_done_s'):.2f}",
                    f"{middle(runs, 'seconds'):.0f}",
                ]
            )
            alone = alone or runs
    columns = ["run", "objects", "small ones copied in s", "ratio", "small ones done after s", "ratio", "whole run s"]
    return table(columns, rows)


def scaling_text(result: Mapping[str, Any]) -> str:
    """The report."""
    about = (
        f"Medians of {result['rounds']} rounds, ratios within a round. TaskManagers of one slot, a worker "
        f"process for each, {result['in_flight']} objects in flight in each; the server answers each request "
        f"after {result['latency_ms']} ms. Small objects have {result['small_bytes']:,} bytes, large ones "
        f"{result['large_bytes']:,}. Objects/s from the first GET to the last answer; the whole run includes its "
        "start, the submission and Flink's own stages. How busy the machine is, servers and all, is said of the time "
        "in which small objects are copied."
    )
    title = header(result, "Parallelism on Flink")
    return f"{title}\n{about}\n\n{scaling_table(result)}\n\n{mixed_table(result)}\n"


def write_scaling(result: Mapping[str, Any], folder: Path) -> Path:
    """Writes the result; the path of the Markdown."""
    runs = of_kind(result, "scaling")
    first = next(iter(runs))
    base = middle(runs[first], "objects_per_s") / first
    curves = {
        "objects/s": {
            "measured": [(width, middle(found, "objects_per_s")) for width, found in runs.items()],
            "in proportion": [(width, base * width) for width in runs],
        }
    }
    plot = svg.lines(f"Parallelism on Flink ({result['date']})", curves, "parallelism")
    return write(result, folder, "scaling", scaling_text(result), {"": plot})
