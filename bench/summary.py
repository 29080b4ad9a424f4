"""`python -m bench.summary`: puts the newest results of bench/results/ into docs/performance.md.

Only what stands between the two marks of that page is replaced. Results at another scale than 1 do not count.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.null_report import large_table, place_name, places, small_table
from bench.parts_report import inventory_table, ledger_table
from bench.report import WITHOUT, medians, name_of, ratio, rounds_of, table, tools_of
from bench.sets import NAMES
from bench.tools import S3FERRY

_ROOT = Path(__file__).parent.parent
RESULTS = _ROOT / "bench/results"
PAGE = _ROOT / "docs/performance.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
_FROM_PAGE = "../bench/results"


def newest(folder: Path) -> dict[str, dict[str, Any]]:
    """The newest full result of each set and kind, by the name in its file."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("*.json")):
        result = json.loads(path.read_text())
        if result.get("scale", 1.0) == 1.0:
            found[_what(result)] = result
    return found


def _what(result: Mapping[str, Any]) -> str:
    return str(result.get("set") or result.get("name") or result["kind"])


def _about(result: Mapping[str, Any], plots: Sequence[str] = ("",)) -> str:
    """When and on what, with links to report and plots."""
    machine, name = result["machine"], name_of(result, _what(result))
    shown = "".join(f"\n![plot]({_FROM_PAGE}/{name}{suffix}.svg)\n" for suffix in plots)
    return (
        f"{result['date']}, {machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, s3ferry "
        f"{result['versions']['s3ferry']}: [full report]({_FROM_PAGE}/{name}.md)\n{shown}"
    )


def _peers(result: Mapping[str, Any]) -> str:
    rounds = rounds_of(result)
    rows = []
    for name in tools_of(result):
        if not any(name in runs for runs in rounds):
            continue
        found = medians(rounds, name)
        against = [ratio(rounds, field, name, WITHOUT) for field in ("wall_s", "cpu_s")]
        ours = name.startswith(S3FERRY)
        rows.append(
            [
                name,
                f"{found['wall_s']:.2f}",
                f"{found['cpu_s']:.2f}",
                f"{1000 * found['cpu_s'] / result['objects']:.3f}",
                f"{found['peak_rss_bytes'] / 2**20:.0f}",
                *("" if ours or value is None else f"{value:.2f}" for value in against),
                "" if ours else ("yes" if result["verifies"][name] else "no"),
            ]
        )
    columns = [
        "tool",
        "wall s",
        "client CPU s",
        "CPU ms/object",
        "peak RSS MiB",
        "wall, x ours",
        "CPU, x ours",
        "checks",
    ]
    title = f"### {result['set']}: {result['objects']:,} objects, {result['bytes'] / 1e6:,.0f} MB"
    return f"{title}\n\n{table(columns, rows)}\n{_about(result)}"


def _null(result: Mapping[str, Any]) -> str:
    small = "\n".join(f"#### {place_name(place)}\n\n{small_table(result, place)}" for place in places(result))
    large = f"#### Large objects\n\n{large_table(result)}"
    flags = f" ({' '.join(result['flags'])})" if result["flags"] else ""
    return f"### {result['name']}{flags}\n\n{small}\n{large}\n{_about(result, ('', '-cpu'))}"


def figures(found: Mapping[str, dict[str, Any]]) -> str:
    """The generated part of the page."""
    sections = ["## Against peers, MinIO to MinIO\n"]
    sections += [_peers(found[name]) for name in NAMES if name in found]
    sections.append("## Against a bare loop, null server\n")
    sections += [_null(result) for result in found.values() if result["kind"] == "null"]
    if "ledger" in found:
        sections.append(f"## The ledger's sink\n\n{ledger_table(found['ledger'])}\n{_about(found['ledger'], ())}")
    if "inventory" in found:
        result = found["inventory"]
        sections.append(f"## Scale of the inventory\n\n{inventory_table(result)}\n{_about(result)}")
    return "\n".join(sections)


def main() -> None:
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{figures(newest(RESULTS))}\n{END}{after}")


if __name__ == "__main__":
    main()
