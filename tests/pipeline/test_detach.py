"""The driver of a detached run: from when on the graph closes the run, and what a signal does before and after."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from ledger.connect import connect
from ledger.runs import RunStatus, newest_runs
from model.errors import RunBroken
from model.outcome import Outcome
from options.config import JobConfig
from options.parse import parse_run
from pipeline import driver
from pipeline.clusters import Preset
from tests.fixtures.s3 import S3Server
from tests.integration.conftest import new_bucket
from tests.integration.ferry import until
from tests.integration.scenes import small_objects, stocked
from transforms.context import JobContext

Drive = Callable[[Callable[[], None]], int]


@pytest.fixture
def config(minio: S3Server, ledger_dsn: str, monkeypatch: pytest.MonkeyPatch) -> JobConfig:
    """A detached job of one inventory file."""
    monkeypatch.setenv("LEDGER_DSN", ledger_dsn)
    for side in ("SOURCE", "DESTINATION"):
        for name, value in minio.environment(side).items():
            monkeypatch.setenv(name, value)
    scene = stocked(minio, new_bucket(minio), small_objects(1))
    flags = [f"--{side}_endpoint_url={minio.endpoint_url}" for side in ("source", "destination")]
    places = (f"--manifest={scene.inventory()}", f"--destination=s3://{new_bucket(minio)}")
    return parse_run([*places, *flags, "--runner=FlinkRunner", "--flink_master=flink:8081", "--detach"])


@pytest.fixture
def drive(config: JobConfig, monkeypatch: pytest.MonkeyPatch) -> Drive:
    """`drive(submit)` drives the job, `submit()` in the place of its submission; returns the exit code."""

    def run(submit: Callable[[], None]) -> int:
        def run_graph(*_: Any, detach: bool) -> None:
            assert detach
            submit()

        monkeypatch.setattr(driver, "preset_of", lambda config: Preset("FlinkRunner", (), 1, "http://flink:8081"))
        monkeypatch.setattr(driver, "run_graph", run_graph)
        return driver.drive(config, None, time.monotonic())

    return run


def the_run(dsn: str) -> RunStatus:
    with connect(dsn, "test") as conn:
        [run] = newest_runs(conn, 10)
    return run


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_submitted_run_is_left_open_with_its_lease(
    drive: Drive, ledger_dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert drive(lambda: None) == 0
    run = the_run(ledger_dsn)
    assert (run.outcome, run.stop_requested) == (Outcome.RUNNING, None)
    assert run.lease_expires_at is not None
    assert capsys.readouterr().out == f"run {run.run_id}\n"


def test_a_signal_during_submission_is_passed_on_and_the_run_left_to_the_graph(
    drive: Drive, ledger_dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert drive(terminate) == 5
    run = the_run(ledger_dsn)
    assert (run.outcome, run.stop_requested) == (Outcome.RUNNING, "SIGTERM")
    assert run.lease_expires_at is not None
    assert capsys.readouterr().out == f"run {run.run_id}\n"


def test_a_signal_before_submission_ends_the_run(
    drive: Drive, ledger_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = driver._Run._slices

    def slices(run: Any, session: Any) -> Any:
        terminate()
        until(lambda: run._stopped is not None, "the signal is heard", 10)
        return plan(run, session)

    monkeypatch.setattr(driver._Run, "_slices", slices)
    assert drive(lambda: pytest.fail("it was submitted")) == 5
    run = the_run(ledger_dsn)
    assert (run.outcome, run.exit_code, run.lease_expires_at) == (Outcome.INTERRUPTED, 5, None)


def test_a_submission_that_fails_ends_the_run(drive: Drive, ledger_dsn: str) -> None:
    def fail() -> None:
        raise RunBroken("no job server")

    assert drive(fail) == 3
    run = the_run(ledger_dsn)
    assert (run.outcome, run.error, run.lease_expires_at) == (Outcome.BROKEN, "no job server", None)


def test_workers_are_told_who_the_driver_is_and_when_the_run_began(
    drive: Drive, config: JobConfig, ledger_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[JobContext] = []
    act = driver._Run._act

    def listen(run: Any, session: Any, job: JobContext, slices: Any) -> None:
        told.append(job)
        act(run, session, job, slices)

    monkeypatch.setattr(driver._Run, "_act", listen)
    drive(lambda: None)
    [job] = told
    assert job.started_at == the_run(ledger_dsn).started_at
    assert job.source_principal == job.destination_principal
    assert job.source_principal is not None
