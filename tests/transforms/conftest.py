"""The job that tests of steps with a worker run: one the ledger knows, for a cluster whose worker is this process."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from datetime import UTC

import pytest

from ledger.connect import connect
from ledger.runs import run_status, start_run
from ledger.schema import migrate
from ledger.writer import write_objects
from tests.fixtures.s3 import S3Server
from tests.ledger.examples import a_record, a_run
from tests.transforms.examples import a_job
from transforms.context import JobContext
from transforms.worker import close_worker
from transforms.worker_checks import static_principals


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
        started_at = run_status(conn, ref.run_id).started_at.astimezone(UTC)
    endpoints = [f"--{side}_endpoint_url={minio.endpoint_url}" for side in ("source", "destination")]
    made = a_job("--runner=FlinkRunner", f"--destination=s3://{bucket(minio)}", *endpoints)
    source, destination = static_principals(made.config)
    yield dataclasses.replace(
        made,
        run=ref,
        source_bucket=made.config.destination.bucket,
        started_at=started_at,
        source_principal=source,
        destination_principal=destination,
    )
    close_worker()
