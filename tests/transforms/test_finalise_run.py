"""FinaliseRun: a graph without a driver closes its run itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import apache_beam as beam
import pytest

from ledger.connect import connect
from ledger.digest import records_digest, stored_digest
from ledger.runs import run_status, start_run
from ledger.schema import migrate
from ledger.writer import write_objects
from model.outcome import Outcome
from model.records import Tally
from model.status import SizeClass, Status
from tests.fixtures.s3 import S3Server
from tests.ledger.examples import a_record, a_run
from tests.transforms.examples import a_job, in_process
from transforms.context import JobContext
from transforms.finalise_run import FinaliseRun
from transforms.worker import close_worker

TALLIES = [Tally(0, None, None, 1, 100_001), Tally(0, SizeClass.SMALL, Status.VERIFIED, 1, 100_001)]
"""What says that the one object was read and verified."""


@pytest.fixture
def job(
    ledger_dsn: str, minio: S3Server, bucket: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[JobContext]:
    """A job for a cluster, with one verified object in the ledger."""
    monkeypatch.setenv("LEDGER_DSN", ledger_dsn)
    for side in ("SOURCE", "DESTINATION"):
        for name, value in minio.environment(side).items():
            monkeypatch.setenv(name, value)
    migrate(ledger_dsn)
    ref = start_run(ledger_dsn, a_run())
    with connect(ledger_dsn, "test") as conn:
        write_objects(conn, ref, [a_record(1)])
    endpoints = [f"--{side}_endpoint_url={minio.endpoint_url}" for side in ("source", "destination")]
    made = a_job("--runner=FlinkRunner", f"--destination=s3://{bucket(minio)}", *endpoints)
    yield dataclasses.replace(made, run=ref, source_bucket=made.config.destination.bucket)
    close_worker()


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


def test_a_graph_without_a_tally_closes_the_run_too_and_misses_the_object(job: JobContext, ledger_dsn: str) -> None:
    with in_process() as pipeline:
        pipeline | beam.Create([], reshuffle=False) | FinaliseRun(job, 0, last=True)

    with connect(ledger_dsn, "test") as conn:
        run = run_status(conn, job.run.run_id)
    assert (run.outcome, run.finished_at is None) == (Outcome.FAILED, False)
