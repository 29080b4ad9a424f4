"""Reports of the benchmarks of single parts: the ledger's sink, and planning and routing an inventory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

from bench import svg
from bench.report import header, table

_MIB = 1 << 20


def ledger_table(result: Mapping[str, Any]) -> str:
    """Each way into the ledger, medians over rounds."""
    rows = []
    for way in dict.fromkeys(run["way"] for run in result["runs"]):
        runs = [run for run in result["runs"] if run["way"] == way]
        found = {name: median(run[name] for run in runs) for name in runs[0] if name != "way"}
        rows.append(
            [
                way,
                f"{found['rows']:,.0f}",
                f"{found['seconds']:.2f}",
                f"{found['rows_per_s']:,.0f}",
                f"{found['making_s']:.2f}" if found["making_s"] else "",
                f"{found['postgresql_cpu_s']:.2f}",
            ]
        )
    columns = ["way", "rows", "seconds", "rows/s", "of which making the rows, s", "PostgreSQL CPU s"]
    return table(columns, rows)


def ledger_text(result: Mapping[str, Any]) -> str:
    """The report."""
    about = f"Medians of {result['rounds']} rounds; start-up is taken off."
    return f"{header(result, 'Rows into the ledger')}\n{about}\n\n{ledger_table(result)}"


def scale_text(result: Mapping[str, Any]) -> str:
    """The report of a ledger of many rows."""
    rows = []
    for run in result["runs"]:
        millions = run["rows"] / 1e6
        used = [run["bytes"][name][part] / _MIB / millions for name in run["bytes"] for part in ("rows", "indexes")]
        rows.append(
            [
                f"{run['rows']:,}",
                *(f"{size:,.0f}" for size in used),
                f"{run['reconcile_s']:.1f}",
                f"{run['digest_s']:.1f}",
                f"{run['skipping_s']:.1f}",
                f"{run['rows'] / run['skipping_s']:,.0f}",
                f"{run['peak_main_rss_bytes'] / _MIB:,.0f}",
                f"{run['peak_other_rss_bytes'] / _MIB:,.0f}",
            ]
        )
    columns = [
        "rows",
        *("objects: rows, MiB per million", "indexes", "attempts of a run: rows, MiB per million", "indexes"),
        *("reconciling s", "digest s", "passing over s", "rows/s", "driver RSS MiB", "largest worker RSS MiB"),
    ]
    about = f"One round, {result['workers']} workers; every row was VERIFIED by the run before and is SKIPPED."
    return f"{header(result, 'A ledger of many rows')}\n{about}\n\n{table(columns, rows)}"


def _medians(result: Mapping[str, Any], format: str, count: int) -> dict[str, float]:
    runs = [run for run in result["runs"] if (run["format"], run["rows"]) == (format, count)]
    return {name: median(run[name] for run in runs) for name, value in runs[0].items() if not isinstance(value, str)}


def _places(result: Mapping[str, Any]) -> list[tuple[str, int]]:
    return list(dict.fromkeys((run["format"], run["rows"]) for run in result["runs"]))


def inventory_table(result: Mapping[str, Any]) -> str:
    """Each format and number of rows, medians over rounds."""
    rows = []
    for format, count in _places(result):
        found = _medians(result, format, count)
        rows.append(
            [
                format,
                f"{count:,}",
                f"{found['slices']:.0f}",
                f"{found['planning_s']:.1f}",
                f"{found['routing_s']:.1f}",
                f"{count / (found['planning_s'] + found['routing_s']):,.0f}",
                f"{1e6 * found['cpu_s'] / count:.1f}",
                f"{found['peak_main_rss_bytes'] / _MIB:.0f}",
                f"{found['peak_other_rss_bytes'] / _MIB:.0f}",
                f"{found['peak_pss_bytes'] / _MIB:.0f}",
            ]
        )
    columns = ["format", "rows", "slices", "planning s", "routing s", "rows/s", "CPU us/row (start-up included)"]
    columns += ["driver RSS MiB", "largest worker RSS MiB", "all PSS MiB"]
    return table(columns, rows)


def inventory_text(result: Mapping[str, Any]) -> str:
    """The report."""
    return (
        f"{header(result, 'Planning and routing an inventory')}\nMedians of {result['rounds']} rounds, "
        f"{result['workers']} workers. Planning spools, verifies and counts; routing reads, selects, asks the ledger, "
        f"partitions and shuffles.\n\n{inventory_table(result)}"
    )


def inventory_plot(result: Mapping[str, Any]) -> str:
    """Rate and memory against the number of rows."""

    def curves(value: Callable[[int, dict[str, float]], float]) -> dict[str, list[tuple[float, float]]]:
        made: dict[str, list[tuple[float, float]]] = {}
        for format, count in _places(result):
            made.setdefault(format, []).append((count, value(count, _medians(result, format, count))))
        return made

    charts = {
        "rows/s": curves(lambda count, found: count / (found["planning_s"] + found["routing_s"])),
        "driver, peak RSS MiB": curves(lambda _, found: found["peak_main_rss_bytes"] / _MIB),
        "largest worker, peak RSS MiB": curves(lambda _, found: found["peak_other_rss_bytes"] / _MIB),
    }
    return svg.lines(f"Planning and routing ({result['date']})", charts, "rows")
