"""FinaliseRun: a graph without a driver closes its run itself."""

from __future__ import annotations

import dataclasses

import apache_beam as beam
import pytest

from ledger.connect import connect
from ledger.digest import records_digest, stored_digest
from ledger.runs import request_stop, run_status
from model.outcome import Outcome
from model.records import Tally
from model.status import SizeClass, Status
from tests.transforms.examples import in_process
from transforms.context import JobContext
from transforms.finalise_run import FinaliseRun

TALLIES = [Tally(0, None, None, 1, 100_001), Tally(0, SizeClass.SMALL, Status.VERIFIED, 1, 100_001)]
"""What says that the one object was read and verified."""


def test_the_last_slice_of_a_cluster_closes_the_run_and_stores_its_digest(job: JobContext, ledger_dsn: str) -> None:
    with in_process() as pipeline:
        pipeline | beam.Create(TALLIES) | FinaliseRun(job, 0, last=True)

    with connect(ledger_dsn, "test") as conn:
        assert run_status(conn, job.run.run_id).outcome is Outcome.SUCCEEDED
        digest = stored_digest(conn, job.run.run_id)
        assert digest == records_digest(conn, job.run.run_id)
    assert digest is not None
    assert digest.records == 1


def test_a_detached_run_frees_its_job(job: JobContext, ledger_dsn: str) -> None:
    policy = dataclasses.replace(job.config.run, detach=True)
    detached = dataclasses.replace(job, config=dataclasses.replace(job.config, run=policy))

    with in_process() as pipeline:
        pipeline | beam.Create(TALLIES) | FinaliseRun(detached, 0, last=True)

    with connect(ledger_dsn, "test") as conn:
        run = run_status(conn, job.run.run_id)
    assert (run.outcome, run.lease_expires_at) == (Outcome.SUCCEEDED, None)


@pytest.mark.parametrize(
    ("reason", "outcome", "code", "error"),
    [
        ("max_failures", Outcome.BROKEN, 3, "stopped: more failures than --max_failures=20"),
        ("SIGTERM", Outcome.INTERRUPTED, 5, None),
    ],
)
def test_a_run_that_was_stopped_ends_as_with_a_driver(
    job: JobContext, ledger_dsn: str, reason: str, outcome: Outcome, code: int, error: str | None
) -> None:
    policy = dataclasses.replace(job.config.run, max_failures="20")
    limited = dataclasses.replace(job, config=dataclasses.replace(job.config, run=policy))
    with connect(ledger_dsn, "test") as conn:
        request_stop(conn, job.run.run_id, reason)

    with in_process() as pipeline:
        pipeline | beam.Create(TALLIES) | FinaliseRun(limited, 0, last=True)

    with connect(ledger_dsn, "test") as conn:
        run = run_status(conn, job.run.run_id)
    assert (run.outcome, run.exit_code, run.error) == (outcome, code, error)


def test_a_graph_without_a_tally_closes_the_run_too_and_misses_the_object(job: JobContext, ledger_dsn: str) -> None:
    with in_process() as pipeline:
        pipeline | beam.Create([], reshuffle=False) | FinaliseRun(job, 0, last=True)

    with connect(ledger_dsn, "test") as conn:
        run = run_status(conn, job.run.run_id)
    assert (run.outcome, run.finished_at is None) == (Outcome.FAILED, False)
