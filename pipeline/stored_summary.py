"""The summary of a run as the ledger holds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from model.outcome import Count, Gap, GapKind
from model.status import SizeClass, Status
from pipeline.report import Summary

if TYPE_CHECKING:
    from ledger.runs import RunStatus


def stored_summary(run: RunStatus, counts: Sequence[Count]) -> Summary:
    """What the run said at its end, or what is known of one without an end of its own.

    `counts` are those of `manifest_counts`. A run that closed itself on a cluster, is still going or was abandoned has
    no times and rates of the driver's: its seconds are those between the ledger's start and end.
    """
    told: Mapping[str, Any] = run.summary or {}
    destination = _section(run.options, "destination")
    taken = (run.finished_at - run.started_at).total_seconds() if run.finished_at else 0.0
    return Summary(
        run_id=run.run_id,
        job=run.job,
        manifest=run.manifest,
        destination=f"s3://{destination.get('bucket', '')}/{destination.get('prefix', '')}",
        runner=str(_section(run.options, "run").get("runner", "")),
        outcome=str(run.outcome),
        exit_code=run.exit_code,
        seconds=float(told.get("seconds", taken)),
        start_up_seconds=float(told.get("start_up_seconds", 0.0)),
        rows=sum(count.objects for count in counts),
        counts=tuple(counts),
        gaps=tuple(stored_gaps(run)),
        gap_queries=tuple(told.get("gap_queries", ())),
        bad_files=int(told.get("bad_files", 0)),
        error=run.error,
        records_digest=run.records_digest,
        kind=run.kind,
        unadopted_objects=told.get("unadopted_objects"),
        extra_objects=told.get("extra_objects"),
    )


def stored_gaps(run: RunStatus) -> list[Gap]:
    """The gaps a run ended with."""
    told: Mapping[str, Any] = run.summary or {}
    return [_gap(gap) for gap in told.get("gaps", ())]


def _section(options: Mapping[str, object], name: str) -> Mapping[str, Any]:
    section = options.get(name)
    return section if isinstance(section, Mapping) else {}


def _gap(stored: Any) -> Gap:
    """A gap as this package stores it, or as one did that knew rows alone: with other names, or as a list."""
    if not isinstance(stored, Mapping):
        return Gap(*stored)
    if "accounted" in stored:
        return Gap(stored["file_number"], stored["rows"], stored["accounted"])
    size_class, status = stored["size_class"], stored["status"]
    return Gap(
        stored["file_number"],
        stored["expected"],
        stored["found"],
        GapKind(stored["kind"]),
        stored["unit"],
        SizeClass(size_class) if size_class else None,
        Status(status) if status else None,
    )
