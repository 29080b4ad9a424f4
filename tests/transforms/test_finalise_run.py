"""FinaliseRun: a graph without a driver closes its run itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

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
from tests.ledger.examples import a_record, a_run
from tests.transforms.examples import a_job, in_process
from transforms.context import JobContext
from transforms.finalise_run import FinaliseRun
from transforms.worker import close_worker

NOWHERE = tuple(
    f"--{side}_{flag}" for side in ("source", "destination") for flag in ("endpoint_url=http://127.0.0.1:9", "region=x")
)


@pytest.fixture
def job(ledger_dsn: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobContext]:
    """A job for a cluster, with one verified object in the ledger."""
    monkeypatch.setenv("LEDGER_DSN", ledger_dsn)
    for side in ("SOURCE", "DESTINATION"):
        monkeypatch.setenv(f"{side}_AWS_ACCESS_KEY_ID", "nobody")
        monkeypatch.setenv(f"{side}_AWS_SECRET_ACCESS_KEY", "nothing")
    migrate(ledger_dsn)
    ref = start_run(ledger_dsn, a_run())
    with connect(ledger_dsn, "test") as conn:
        write_objects(conn, ref, [a_record(1)])
    yield dataclasses.replace(a_job("--runner=FlinkRunner", *NOWHERE), run=ref)
    close_worker()


def test_the_last_slice_of_a_cluster_closes_the_run_and_stores_its_digest(job: JobContext, ledger_dsn: str) -> None:
    tallies = [Tally(0, None, None, 1, 100_001), Tally(0, SizeClass.SMALL, Status.VERIFIED, 1, 100_001)]

    with in_process() as pipeline:
        pipeline | beam.Create(tallies) | FinaliseRun(job, 0, last=True)

    with connect(ledger_dsn, "test") as conn:
        assert run_status(conn, job.run.run_id).outcome is Outcome.SUCCEEDED
        digest = stored_digest(conn, job.run.run_id)
        assert digest == records_digest(conn, job.run.run_id)
    assert digest is not None
    assert digest.records == 1
