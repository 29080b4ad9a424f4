"""A worker of a cluster that cannot do its job says why, in one line, to the runner and to the run's row."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest

from ledger.connect import connect
from ledger.runs import RunStatus, finish_run, run_status, start_run
from ledger.schema import migrate
from model.errors import RunBroken
from model.outcome import Outcome
from model.version import VERSION
from options.config import VerifyOptions
from tests.fixtures.s3 import S3Server
from tests.integration.conftest import fresh_ledger
from tests.integration.proxy import Effect, Proxy, proxy_before
from tests.ledger.examples import a_run
from transforms import worker_checks
from transforms.context import JobContext
from transforms.worker import worker_of
from transforms.worker_checks import sides_of

ANOTHER = "0123456789abcdef"


def refusal(job: JobContext) -> str:
    """The line of a worker that takes no work for `job`."""
    with pytest.raises(RunBroken) as raised:
        worker_of(job)
    assert type(raised.value) is RunBroken
    assert "\n" not in raised.value.message
    return raised.value.message


def run_of(job: JobContext, dsn: str) -> RunStatus:
    with connect(dsn, "test") as conn:
        return run_status(conn, job.run.run_id)


def by_way_of(proxy: Proxy, job: JobContext) -> JobContext:
    """`job` with the proxy before its destination."""
    side = dataclasses.replace(job.config.destination_endpoint, endpoint_url=proxy.server.endpoint_url)
    return dataclasses.replace(job, config=dataclasses.replace(job.config, destination_endpoint=side))


@pytest.fixture
def no_writing(minio: S3Server) -> Iterator[Proxy]:
    """A destination that these credentials may read, and not write."""
    with proxy_before(minio) as proxy:
        proxy.rule = lambda request: Effect(refuse=(403, "AccessDenied")) if request.is_create else None
        yield proxy


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_checks, "PATIENCE_S", 0.3)


def test_the_drivers_own_credentials_and_ledger_are_taken(job: JobContext, ledger_dsn: str) -> None:
    assert worker_of(job).job is job
    assert run_of(job, ledger_dsn).error is None


def test_another_version_of_the_package(job: JobContext, ledger_dsn: str) -> None:
    line = refusal(dataclasses.replace(job, version="0.0.1"))
    assert line == f"this worker has s3ferry {VERSION}, the job was made by 0.0.1: install that version"
    assert run_of(job, ledger_dsn).error == line


@pytest.mark.parametrize("side", ["source", "destination"])
def test_an_access_key_that_is_not_the_drivers(job: JobContext, ledger_dsn: str, side: str) -> None:
    line = refusal(dataclasses.replace(job, **{f"{side}_principal": ANOTHER}))  # type: ignore[arg-type]
    assert line.startswith(f"this worker cannot take work: its access key for the {side} is not the driver's: give")
    assert run_of(job, ledger_dsn).error == line


def test_a_secret_that_is_wrong(job: JobContext, ledger_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_AWS_SECRET_ACCESS_KEY", "not-the-secret")
    line = refusal(job)
    assert line.startswith("this worker cannot take work: source: the endpoint refuses these credentials")
    assert run_of(job, ledger_dsn).error == line


def test_a_profile_that_is_not_there(job: JobContext, ledger_dsn: str) -> None:
    side = dataclasses.replace(job.config.source, profile="of-nobody")
    line = refusal(dataclasses.replace(job, config=dataclasses.replace(job.config, source=side)))
    assert line.startswith("this worker cannot take work: no credentials for the source")
    assert run_of(job, ledger_dsn).error == line


def test_temporary_credentials_are_compared_with_nothing(job: JobContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_AWS_SESSION_TOKEN", "a-token")
    source, destination = sides_of(dataclasses.replace(job, source_principal=ANOTHER))
    assert (source.is_proven, source.is_apart) == (False, False)
    assert (destination.is_proven, destination.is_apart) == (True, False)


def test_an_assumed_role_is_compared_with_nothing(job: JobContext) -> None:
    side = dataclasses.replace(job.config.source, role_arn="arn:aws:iam::123456789012:role/copies")
    config = dataclasses.replace(job.config, source=side)
    source, _ = sides_of(dataclasses.replace(job, config=config, source_principal=ANOTHER))
    assert source.workers is None


def test_credentials_that_cannot_be_compared_have_to_show_that_they_may_write(
    job: JobContext, ledger_dsn: str, no_writing: Proxy
) -> None:
    line = refusal(by_way_of(no_writing, dataclasses.replace(job, destination_principal=None)))
    assert line.startswith("this worker cannot take work: ")
    assert "the destination's credentials may not write there; grant s3:PutObject" in line
    assert run_of(job, ledger_dsn).error == line


def test_a_worker_of_a_verification_need_not_write(job: JobContext, no_writing: Proxy) -> None:
    config = dataclasses.replace(job.config, verify=VerifyOptions())
    worker_of(by_way_of(no_writing, dataclasses.replace(job, config=config, destination_principal=None)))


def test_who_shows_that_he_may_write_leaves_nothing_behind(job: JobContext, minio: S3Server) -> None:
    worker_of(dataclasses.replace(job, destination_principal=None))
    bucket = job.config.destination.bucket
    assert "Uploads" not in minio.client().list_multipart_uploads(Bucket=bucket)
    assert "Contents" not in minio.client().list_objects_v2(Bucket=bucket)


def test_no_ledger(job: JobContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LEDGER_DSN")
    monkeypatch.delenv("PGHOST", raising=False)
    assert refusal(job) == "this worker has no ledger: set LEDGER_DSN in the worker's own environment"


@pytest.mark.usefixtures("impatient")
def test_a_ledger_that_does_not_answer(job: JobContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGER_DSN", "postgresql://127.0.0.1:9/ferry")
    line = refusal(job)
    assert line.startswith("this worker cannot take work: its ledger cannot be used: the ledger did not answer for ")
    assert line.endswith("; check LEDGER_DSN in the worker's own environment")


def test_a_database_without_a_ledger(job: JobContext, postgres_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with fresh_ledger(postgres_uri) as empty:
        monkeypatch.setenv("LEDGER_DSN", empty.dsn)
        line = refusal(job)
    assert line.startswith("this worker cannot take work: its ledger has no such run 1 of job nightly: let LEDGER_DSN")


def test_another_ledger_with_a_run_of_the_same_number(
    job: JobContext, postgres_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fresh_ledger(postgres_uri) as another:
        migrate(another.dsn)
        assert start_run(another.dsn, a_run()) == job.run
        monkeypatch.setenv("LEDGER_DSN", another.dsn)
        line = refusal(job)
        assert run_of(job, another.dsn).error is None
    assert line.startswith("this worker cannot take work: its ledger has no such run 1 of job nightly: let LEDGER_DSN")


def test_what_a_worker_refused_is_forgotten_where_the_run_ends_well(job: JobContext, ledger_dsn: str) -> None:
    refusal(dataclasses.replace(job, source_principal=ANOTHER))
    with connect(ledger_dsn, "test") as conn:
        finish_run(conn, job.run, Outcome.SUCCEEDED, 0, {})
    assert run_of(job, ledger_dsn).error is None
