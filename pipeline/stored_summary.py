"""The summary of a run as the ledger holds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from model.outcome import Count, Gap
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
        gaps=tuple(_gap(gap) for gap in told.get("gaps", ())),
        bad_files=int(told.get("bad_files", 0)),
        error=run.error,
        records_digest=run.records_digest,
    )


def _section(options: Mapping[str, object], name: str) -> Mapping[str, Any]:
    section = options.get(name)
    return section if isinstance(section, Mapping) else {}


def _gap(stored: Any) -> Gap:
    """A gap as the driver stores it, or as a graph that closes its run itself does."""
    return Gap(**stored) if isinstance(stored, Mapping) else Gap(*stored)
