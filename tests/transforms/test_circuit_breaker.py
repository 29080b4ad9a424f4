"""The circuit breaker of a run without a driver: one of its workers judges what all of them report."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from ledger.connect import connect
from ledger.runs import run_status
from ledger.session import LedgerSession
from model.status import SizeClass, Status
from options.values import FailureLimit, failure_limit
from tests.integration.ferry import until
from transforms import circuit_breaker
from transforms.circuit_breaker import WorkersBreaker, exceeded
from transforms.context import JobContext
from transforms.worker import worker_of

Report = Callable[[int], tuple[LedgerSession, dict[str, int]]]


@pytest.fixture
def report(job: JobContext, ledger_dsn: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Report]:
    """`report(failed)` is one more worker of the run, with its counters."""
    monkeypatch.setattr(circuit_breaker, "_LOOK_EVERY_S", 0.02)
    with ExitStack() as stack:

        def make(failed: int) -> tuple[LedgerSession, dict[str, int]]:
            counters = {"failed": failed, "small.objects": 1000}
            session = LedgerSession(
                ledger_dsn,
                job.run,
                flush_rows=10,
                flush_bytes=10_000,
                flush_interval_s=0.1,
                # a heartbeat every second
                lease_ttl_s=6.0,
                worker_id=f"worker-{id(counters)}",
                on_stop=lambda reason: None,
                on_lease_lost=lambda: None,
            )
            session.report(counters)
            return stack.enter_context(session), counters

        yield make


def stop_reason(job: JobContext, dsn: str) -> str | None:
    with connect(dsn, "test") as conn:
        return run_status(conn, job.run.run_id).stop_requested


def test_failures_of_all_workers_together_stop_the_run(job: JobContext, ledger_dsn: str, report: Report) -> None:
    report(12)
    session, counters = report(9)
    breaker = WorkersBreaker(session, job.run.run_id, FailureLimit(20, None), counters)
    until(lambda: stop_reason(job, ledger_dsn) == "max_failures", "the run is asked to stop", 10)
    breaker.close()


def test_as_many_failures_as_may_be_stop_nothing(job: JobContext, ledger_dsn: str, report: Report) -> None:
    report(12)
    session, counters = report(8)
    breaker = WorkersBreaker(session, job.run.run_id, FailureLimit(20, None), counters)

    def reported() -> bool:
        with connect(ledger_dsn, "test") as conn:
            row = conn.execute("SELECT sum((counters->>'failed')::int) FROM workers").fetchone()
        return row == (20,)

    until(reported, "both have reported", 10)
    # long enough for many looks
    breaker._thread.join(0.5)
    assert breaker._thread.is_alive()
    assert stop_reason(job, ledger_dsn) is None
    breaker.close()
    breaker._thread.join(10)
    assert not breaker._thread.is_alive()


@pytest.mark.parametrize(
    ("limit", "sums", "too_many"),
    [
        ("20", {"failed": 21}, True),
        ("20", {"failed": 20}, False),
        ("10%", {"failed": 11, "small.objects": 60, "large.objects": 49}, True),
        ("10%", {"failed": 11, "small.objects": 60, "large.objects": 50}, False),
        ("0", {}, False),
    ],
)
def test_a_limit_is_held_against_what_all_size_classes_report(limit: str, sums: dict[str, int], too_many: bool) -> None:
    assert exceeded(failure_limit(limit), sums) is too_many


@pytest.mark.parametrize("detach", [True, False])
def test_a_worker_watches_over_a_run_without_a_driver(job: JobContext, detach: bool) -> None:
    policy = dataclasses.replace(job.config.run, detach=detach, max_failures="20")
    limited = dataclasses.replace(job, config=dataclasses.replace(job.config, run=policy))
    assert (worker_of(limited)._breaker is not None) is detach


@pytest.mark.parametrize("status", Status)
def test_what_makes_a_run_a_failure_is_counted_as_one(job: JobContext, status: Status) -> None:
    worker = worker_of(job)
    worker.count(SizeClass.SMALL, status)
    failed = status in {Status.FAILED, Status.MISMATCH, Status.DESTINATION_GONE}
    assert worker.counters.get("failed", 0) == failed
