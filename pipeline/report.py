"""What a run says when it ends: summary, table, last sentence, exit code. Pure but for `publish_summary`."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from model.outcome import SOURCE_WARNINGS, Count, Exit, Gap, Outcome, RunKind
from model.status import SizeClass, Status
from pipeline.whole_file import whole_file

if TYPE_CHECKING:
    from rich.table import Table

COPIED = frozenset({Status.VERIFIED, Status.COPIED})
"""Statuses of objects whose bytes this run brought to the destination."""

WARNINGS = SOURCE_WARNINGS | {Status.ARCHIVED, Status.BAD_ROW, Status.COPIED}
LEAST_WIDTH = 72
UNSIZED = "unsized"
"""The class, in table and JSON, of rows that never got one (excluded rows, bad rows)."""

_CLASS_ORDER = (*(str(size_class) for size_class in SizeClass), UNSIZED)
_STATUS_ORDER = tuple(Status)


@dataclass(frozen=True, slots=True)
class Summary:
    """One run as its user sees it, `run_id` as in the ledger. Times in seconds, sizes in bytes.

    `rows` are rows read from the inventory. `seconds` is the whole run, `start_up_seconds` the part of it
    before the first object was asked for. `error` is one line when the run broke. `exit_code` is None while
    the run has no end.
    """

    run_id: int
    job: str
    manifest: str
    destination: str
    runner: str
    outcome: str
    exit_code: int | None
    seconds: float
    start_up_seconds: float
    rows: int
    counts: tuple[Count, ...] = ()
    gaps: tuple[Gap, ...] = ()
    gap_queries: tuple[str, ...] = ()
    """SQL that shows the gaps in the ledger."""
    bad_files: int = 0
    """Inventory files left out by --skip_bad_files; their rows are not counted anywhere."""
    error: str | None = None
    records_digest: str | None = None
    """SHA-256 over the run's records (docs/export.md); None before it is computed."""
    retry_manifest: str | None = None
    restore_manifest: str | None = None
    extra_manifest: str | None = None
    """Paths of what `--export` wrote; None where there was nothing to write."""
    kind: str = RunKind.RUN
    unadopted_objects: int | None = None
    """A verification's: objects that are the same, but not those the ledger holds VERIFIED."""
    extra_objects: int | None = None
    """A verification's: objects of the destination's inventory that are not in the source's."""

    @property
    def copied_objects(self) -> int:
        return sum(count.objects for count in self.counts if count.status in COPIED)

    @property
    def copied_bytes(self) -> int:
        return sum(count.object_bytes for count in self.counts if count.status in COPIED)

    @property
    def objects_per_s(self) -> float:
        """Objects copied per second of the time after start-up."""
        return _per_second(self.copied_objects, self.seconds - self.start_up_seconds)

    @property
    def bytes_per_s(self) -> float:
        """Bytes copied per second of the time after start-up."""
        return _per_second(self.copied_bytes, self.seconds - self.start_up_seconds)

    @property
    def status_totals(self) -> dict[Status, tuple[int, int]]:
        """(objects, bytes) of each status that occurs, in the ledger's order."""
        totals: dict[Status, tuple[int, int]] = {}
        for status in _STATUS_ORDER:
            of_status = [count for count in self.counts if count.status is status]
            if sum(count.objects for count in of_status):
                totals[status] = (sum(c.objects for c in of_status), sum(c.object_bytes for c in of_status))
        return totals

    def to_json(self) -> str:
        """The summary as JSON, with the keys that docs/command-line.md lists. Ends with a newline."""
        return json.dumps(self.as_dict(), indent=2, ensure_ascii=False) + "\n"

    def as_dict(self) -> dict[str, Any]:
        by_class: dict[str, dict[str, dict[str, int]]] = {}
        for name, status, objects, object_bytes in _merged(self.counts):
            by_class.setdefault(name, {})[status] = {"objects": objects, "bytes": object_bytes}
        return {
            "run_id": self.run_id,
            "job": self.job,
            "kind": str(self.kind),
            "manifest": self.manifest,
            "destination": self.destination,
            "runner": self.runner,
            "outcome": self.outcome,
            "exit_code": self.exit_code,
            "seconds": round(self.seconds, 3),
            "start_up_seconds": round(self.start_up_seconds, 3),
            "rows": self.rows,
            "bad_files": self.bad_files,
            "objects": self.copied_objects,
            "bytes": self.copied_bytes,
            "objects_per_s": round(self.objects_per_s, 3),
            "bytes_per_s": round(self.bytes_per_s, 3),
            "statuses": {s: {"objects": n, "bytes": size} for s, (n, size) in self.status_totals.items()},
            "counts": by_class,
            "gaps": [gap._asdict() for gap in self.gaps],
            "gap_queries": list(self.gap_queries),
            "unadopted_objects": self.unadopted_objects,
            "extra_objects": self.extra_objects,
            "error": self.error,
            "records_digest": self.records_digest,
            "retry_manifest": self.retry_manifest,
            "restore_manifest": self.restore_manifest,
            "extra_manifest": self.extra_manifest,
        }


def _per_second(amount: int, seconds: float) -> float:
    return amount / seconds if seconds > 0 else 0.0


def _merged(counts: Iterable[Count]) -> list[tuple[str, Status, int, int]]:
    """Counts of one class and status added up, in the order of the ledger's words, empty ones left out."""
    sums: dict[tuple[str, Status], tuple[int, int]] = {}
    for count in counts:
        place = (count.size_class or UNSIZED, count.status)
        objects, object_bytes = sums.get(place, (0, 0))
        sums[place] = (objects + count.objects, object_bytes + count.object_bytes)
    places = [(name, status) for name in _CLASS_ORDER for status in _STATUS_ORDER]
    return [(name, status, *sums[name, status]) for name, status in places if sums.get((name, status), (0, 0))[0]]


def human_count(number: int) -> str:
    """1234567 as «1 234 567»."""
    return f"{number:,}".replace(",", " ")


def human_bytes(size: float) -> str:
    """Bytes in powers of 1000 with one decimal: «85.8 MB»."""
    if size < 1000:
        return f"{size:.0f} B"
    for unit in ("kB", "MB", "GB", "TB"):
        size /= 1000
        if round(size, 1) < 1000:
            return f"{size:.1f} {unit}"
    return f"{size / 1000:.1f} PB"


def human_seconds(seconds: float) -> str:
    """Seconds as «42 s», «3 min 05 s» or «2 h 07 min»."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def render_table(summary: Summary, width: int) -> str:
    """The final table, the rates and the last sentence as plain text.

    `width` is the terminal's, in columns; the table needs 72. The sentences are one line each, whatever their length.
    """
    from rich import box  # noqa: PLC0415 (not needed for start-up)
    from rich.table import Table  # noqa: PLC0415

    rows = _merged(summary.counts)
    total = sum(objects for _, _, objects, _ in rows)
    table = Table(box=box.SIMPLE_HEAD, show_footer=bool(rows))
    table.add_column("class", footer="total", no_wrap=True)
    table.add_column("status", no_wrap=True)
    table.add_column("objects", footer=human_count(total), justify="right", no_wrap=True)
    table.add_column("bytes", footer=human_bytes(sum(row[3] for row in rows)), justify="right", no_wrap=True)
    table.add_column("share", footer="100.0 %" if total else "", justify="right", no_wrap=True)
    last = None
    for name, status, objects, object_bytes in rows:
        shown = name if name != last else ""
        table.add_row(
            shown, status, human_count(objects), human_bytes(object_bytes), f"{objects / total:.1%}"[:-1] + " %"
        )
        last = name
    return as_text(table, width, rate_line(summary), final_sentence(summary))


def as_text(table: Table, width: int, *sentences: str) -> str:
    """The table, then each sentence on a line of its own."""
    from rich.console import Console  # noqa: PLC0415 (not needed for start-up)

    text = io.StringIO()
    console = Console(
        file=text, width=max(width, LEAST_WIDTH), force_terminal=False, color_system=None, highlight=False, markup=False
    )
    console.print(table)
    for sentence in sentences:
        console.print(sentence, soft_wrap=True)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"


def rate_line(summary: Summary) -> str:
    """How much was copied, or looked at, how long it took and how fast it was."""
    done = "found" if summary.kind == RunKind.VERIFY else "copied"
    return (
        f"{human_count(summary.copied_objects)} objects, {human_bytes(summary.copied_bytes)} {done} in "
        f"{human_seconds(summary.seconds)} ({human_seconds(summary.start_up_seconds)} of it start-up): "
        f"{summary.objects_per_s:.1f} objects/s, {summary.bytes_per_s / 1e6:.1f} MB/s"
    )


def final_sentence(summary: Summary) -> str:
    """What came of it and, where something is left to do, the next step and the manifests for it."""
    totals = summary.status_totals
    accounted = sum(objects for objects, _ in totals.values())
    words = ", ".join(f"{human_count(objects)} {status}" for status, (objects, _) in totals.items())
    listed = f"{human_count(accounted)} rows accounted for" + (f": {words}" if words else "")
    if summary.outcome == Outcome.RUNNING:
        sentence = f"the run is still going; {listed}"
    elif summary.outcome == Outcome.ABANDONED:
        why = f" after this: {summary.error}" if summary.error else ""
        sentence = f"abandoned, its lease ran out{why}; {listed}; run again to finish the rest"
    else:
        sentence = _sentence_of_end(summary, accounted, listed)
    if summary.retry_manifest:
        sentence += f"; retry manifest: {summary.retry_manifest}"
    if summary.restore_manifest:
        sentence += f"; restore manifest: {summary.restore_manifest}"
    if summary.extra_manifest:
        sentence += f"; extra manifest: {summary.extra_manifest}"
    return sentence


def _sentence_of_end(summary: Summary, accounted: int, listed: str) -> str:
    if summary.exit_code == Exit.USAGE:
        return f"refused: {summary.error}"
    if summary.exit_code == Exit.BROKEN:
        why = summary.error or "see the log"
        return f"the run broke: {why}; what the ledger holds counts ({listed}): remove the cause and run again"
    if summary.exit_code == Exit.INTERRUPTED:
        return f"interrupted; {listed}; run again to finish the rest"
    if summary.gaps:
        return f"accounting gap ({_places(summary.gaps)}); {listed}; run again, and keep the ledger if the gap stays"
    if summary.kind == RunKind.VERIFY:
        return _sentence_of_verification(summary, listed)
    return _sentence_of_copies(summary, summary.status_totals, accounted, listed)


def _sentence_of_verification(summary: Summary, listed: str) -> str:
    parts = [listed]
    if summary.unadopted_objects:
        unadopted = human_count(summary.unadopted_objects)
        parts.append(f"{unadopted} of them are the same, but not yet the ledger's: --adopt takes them")
    if summary.exit_code == Exit.FAILURES:
        parts.append("attempts.error in the ledger says why; s3ferry run copies again what is not VERIFIED")
    elif set(summary.status_totals) & WARNINGS:
        parts.append("nothing is wrong, but not all is proven: status and error in the ledger say why")
    return "; ".join(parts)


def _places(gaps: Sequence[Gap]) -> str:
    places = ", ".join(str(gap) for gap in gaps[:3])
    return places + (f" and {len(gaps) - 3} more" if len(gaps) > 3 else "")


def _sentence_of_copies(summary: Summary, totals: dict[Status, tuple[int, int]], accounted: int, listed: str) -> str:
    if summary.exit_code == Exit.FAILURES:
        return f"{listed}; objects.error in the ledger says why; run again to retry what is not VERIFIED"
    if not totals:
        return "nothing to do: the inventory has no rows"
    if set(totals) == {Status.SKIPPED}:
        return f"nothing to do: all {human_count(accounted)} were verified by an earlier run"
    if set(totals) & WARNINGS:
        return f"{listed}; nothing failed, but not all is VERIFIED: status and error in the ledger say why"
    return listed


def publish_summary(summary: Summary, target: str, stdout: TextIO) -> None:
    """Writes the JSON to the file `target`, or to `stdout` for «-».

    The file appears whole or not at all; may be repeated. Raises OSError.
    """
    if target == "-":
        stdout.write(summary.to_json())
        stdout.flush()
        return
    with whole_file(Path(target)) as file:
        file.write(summary.to_json().encode())
