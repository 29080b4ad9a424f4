"""Results as files: the raw JSON, a table in Markdown and a plot. Medians over rounds, ratios within a round."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench import svg
from bench.tools import S3FERRY, START_UP

WITHOUT = f"{S3FERRY}, start-up taken off"
Row = Mapping[str, Any]


def name_of(result: Mapping[str, Any], what: str) -> str:
    """The file name of a result, without suffix: date and what; a scaled one never takes a full one's place."""
    scale = "" if result.get("scale", 1.0) == 1.0 else f"-scale-{result['scale']:g}"
    return f"{result['date']}-{what}{scale}"


def write(result: Mapping[str, Any], folder: Path, what: str, text: str, plots: Mapping[str, str]) -> Path:
    """Writes JSON, Markdown and `plots` (suffix of the name -> SVG); the path of the Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    name = name_of(result, what)
    (folder / f"{name}.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    shown = []
    for suffix, plot in plots.items():
        file = f"{name}{suffix}.svg"
        (folder / file).write_text(plot)
        shown.append(f"![plot]({file})\n")
    path = folder / f"{name}.md"
    path.write_text("\n".join([text, *shown]))
    return path


def header(result: Mapping[str, Any], title: str) -> str:
    """The first lines of every report: what, when, on what machine, with which versions."""
    machine = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return (
        f"# {title}\n\n{result['date']} · {machine['processor']}, {machine['cores']} cores, "
        f"{machine['memory_gib']} GiB · {machine['system']}, Python {machine['python']}\n\n{versions}\n"
    )


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" + "---:|" * (len(columns) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def rounds_of(result: Mapping[str, Any]) -> list[dict[str, Row]]:
    """Tool -> its run, of each round; with the row of s3ferry less its start-up, where there is one.

    Its wall time is what the summary calls start-up; its CPU that of the same command over a few objects.
    """
    rounds: list[dict[str, Row]] = [{} for _ in range(result["rounds"])]
    for run in result["runs"]:
        rounds[run["round"]][run["tool"]] = run
    for runs in rounds:
        ours, idle = runs.get(S3FERRY), runs.get(START_UP)
        if ours and idle and ours["start_up_s"] is not None:
            runs[WITHOUT] = {
                **ours,
                "wall_s": ours["wall_s"] - ours["start_up_s"],
                "cpu_s": max(0.0, ours["cpu_s"] - idle["cpu_s"]),
                "postgresql_cpu_s": max(0.0, ours["postgresql_cpu_s"] - idle["postgresql_cpu_s"]),
            }
    return rounds


def medians(rounds: Sequence[Mapping[str, Row]], tool: str) -> dict[str, float]:
    """Of every number a tool's runs hold."""
    runs = [runs[tool] for runs in rounds if tool in runs]
    names = [name for name, value in runs[0].items() if isinstance(value, int | float)]
    return {name: median(run[name] for run in runs if run[name] is not None) for name in names}


def ratio(rounds: Sequence[Mapping[str, Row]], field: str, tool: str, base: str) -> float | None:
    """The median over rounds of tool / base."""
    pairs = [(runs[tool][field], runs[base][field]) for runs in rounds if tool in runs and base in runs]
    found = [one / other for one, other in pairs if other > 0]
    return median(found) if found else None


def tools_of(result: Mapping[str, Any]) -> list[str]:
    """In the order of the evidence table, s3ferry's row without start-up behind its own."""
    names = list(result["evidence"])
    return [names[0], WITHOUT, *names[1:]]


def peers_text(result: Mapping[str, Any]) -> str:
    """The report of one set."""
    rounds = rounds_of(result)
    names = [name for name in tools_of(result) if any(name in runs for runs in rounds)]
    count, size = result["objects"], result["bytes"]
    idle = medians(rounds, START_UP)

    def figures(name: str) -> list[str]:
        found = medians(rounds, name)
        return [
            name,
            f"{found['wall_s']:.2f}",
            f"{count / found['wall_s']:.0f}" if count / found["wall_s"] >= 10 else f"{count / found['wall_s']:.2f}",
            f"{size / found['wall_s'] / 1e6:.1f}",
            f"{found['cpu_s']:.2f}",
            f"{1000 * found['cpu_s'] / count:.3f}",
            f"{found['cpu_s'] / (size / 2**30):.2f}",
            f"{found['peak_rss_bytes'] / 2**20:.0f}",
            f"{found['peak_pss_bytes'] / 2**20:.0f}",
            f"{found['server_cpu_s']:.1f}",
            f"{found['postgresql_cpu_s']:.2f}" if name in (S3FERRY, WITHOUT) else "",
            _outcome([runs[name] for runs in rounds if name in runs]),
        ]

    def ratios(name: str) -> list[str]:
        pairs = [(field, base) for field in ("wall_s", "cpu_s") for base in (S3FERRY, WITHOUT)]
        return [name, *(_ratio(ratio(rounds, field, name, base)) for field, base in pairs)]

    columns = [
        *("tool", "wall s", "objects/s", "MB/s", "client CPU s", "CPU ms/object", "CPU s/GiB"),
        *("peak RSS MiB", "peak PSS MiB", "servers' CPU s", "PostgreSQL CPU s", "outcome"),
    ]
    others = [name for name in names if name not in (S3FERRY, WITHOUT)]
    evidence = [[name, result["evidence"][name]] for name in names if name in result["evidence"]]
    return "\n".join(
        [
            header(result, f"{result['set']}: {count:,} objects, {size / 1e6:,.0f} MB, MinIO to MinIO"),
            f"Medians of {result['rounds']} rounds. Client CPU and memory are of the tool's whole process tree.",
            f"s3ferry's start-up ({result['few']} objects, the whole command): {idle['wall_s']:.2f} s, "
            f"CPU {idle['cpu_s']:.2f} s.\n",
            table(columns, [figures(name) for name in names]),
            "Median ratios within a round: the other's figure in multiples of s3ferry's (above 1: s3ferry is ahead).\n",
            table(
                ["tool", "wall", "wall, start-up off", "client CPU", "CPU, start-up off"], [ratios(n) for n in others]
            ),
            "What can be shown afterwards for one object:\n",
            "| tool | evidence |\n|---|---|\n" + "\n".join(f"| {a} | {b} |" for a, b in evidence) + "\n",
        ]
    )


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _outcome(runs: Sequence[Row]) -> str:
    """«ok», or what went wrong: exit codes and differences to the source."""
    words = [f"exit {run['exit_code']}" for run in runs if run["exit_code"]]
    words += [line for run in runs for line in run["differences"]]
    return "; ".join(dict.fromkeys(words)) or "ok"


def peers_plot(result: Mapping[str, Any]) -> str:
    """Wall and CPU seconds of every tool."""
    rounds = rounds_of(result)
    names = [name for name in tools_of(result) if any(name in runs for runs in rounds)]

    def panel(title: str, value: Callable[[dict[str, float]], float]) -> svg.Panel:
        return svg.Panel(title, [(name, value(medians(rounds, name)), name.startswith(S3FERRY)) for name in names])

    return svg.bars(
        f"{result['set']}: {result['objects']:,} objects, {result['bytes'] / 1e6:,.0f} MB ({result['date']})",
        [panel("wall, seconds", lambda m: m["wall_s"]), panel("client CPU, seconds", lambda m: m["cpu_s"])],
    )


def write_peers(result: Mapping[str, Any], folder: Path) -> str:
    """Writes a set's result; the name of the report."""
    return write(result, folder, result["set"], peers_text(result), {"": peers_plot(result)}).name
