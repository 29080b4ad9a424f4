"""FinaliseRun: a graph without a driver closes its run itself."""

from __future__ import annotations

import dataclasses
from typing import Any

import apache_beam as beam
import pytest

from ledger.accounting import ExpectedFile, InputFile, expect_files, note_bad_file
from ledger.connect import connect
from ledger.digest import records_digest, stored_digest
from ledger.runs import request_stop, run_status
from model.errors import RunBroken
from model.outcome import Gap, GapKind, Outcome
from model.records import Tally
from model.status import SizeClass, Status
from pipeline.stored_summary import stored_summary
from tests.transforms.examples import in_process
from transforms.context import JobContext
from transforms.finalise_run import FinaliseRun
from transforms.read_inventory import input_file

TALLIES = [Tally(0, None, None, 1, 100_001), Tally(0, SizeClass.SMALL, Status.VERIFIED, 1, 100_001)]
"""What says that the one object was read and verified."""


def detached(job: JobContext) -> JobContext:
    policy = dataclasses.replace(job.config.run, detach=True)
    return dataclasses.replace(job, config=dataclasses.replace(job.config, run=policy))


@pytest.mark.parametrize("detach", [True, False], ids=["detached", "attended"])
def test_the_last_slice_closes_the_run_and_stores_its_digest_where_no_driver_will(
    job: JobContext, ledger_dsn: str, detach: bool
) -> None:
    with in_process() as pipeline:
        pipeline | beam.Create(TALLIES) | FinaliseRun(detached(job) if detach else job, 0, last=True)

    with connect(ledger_dsn, "test") as conn:
        assert run_status(conn, job.run.run_id).outcome is Outcome.SUCCEEDED
        digest = stored_digest(conn, job.run.run_id)
        assert digest == (records_digest(conn, job.run.run_id) if detach else None)


def test_a_run_whose_digest_cannot_be_stored_is_closed_all_the_same(
    job: JobContext, ledger_dsn: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_room(*_: Any) -> None:
        raise RunBroken("the ledger's disk is full")

    monkeypatch.setattr("transforms.finalise_run.seal", no_room)
    with in_process() as pipeline:
        pipeline | beam.Create(TALLIES) | FinaliseRun(detached(job), 0, last=True)

    with connect(ledger_dsn, "test") as conn:
        assert run_status(conn, job.run.run_id).outcome is Outcome.SUCCEEDED
    assert f"s3ferry ledger seal {job.run.run_id}" in caplog.text


def test_a_detached_run_frees_its_job(job: JobContext, ledger_dsn: str) -> None:
    with in_process() as pipeline:
        pipeline | beam.Create(TALLIES) | FinaliseRun(detached(job), 0, last=True)

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


def test_a_detached_run_logs_its_gap_and_stores_it_with_what_shows_it(
    job: JobContext, ledger_dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    tallies = [TALLIES[0], TALLIES[1]._replace(object_bytes=9)]
    with in_process() as pipeline:
        pipeline | beam.Create(tallies) | FinaliseRun(detached(job), 0, last=True)

    with connect(ledger_dsn, "test") as conn:
        summary = stored_summary(run_status(conn, job.run.run_id), [])
        [query] = [query for query in summary.gap_queries if "attempts_" in query]
        shown = conn.execute(query.encode()).fetchall()
    bytes_kept = Gap(0, 9, 100_001, GapKind.UNRECORDED, "bytes", SizeClass.SMALL, Status.VERIFIED)
    assert summary.exit_code == 1
    assert summary.gaps == (Gap(0, 100_001, 9, unit="bytes"), bytes_kept)
    assert shown == [(0, "small", "VERIFIED", "bytes", 9, 100_001)]
    for line in (*map(str, summary.gaps), *summary.gap_queries):
        assert line in caplog.text


def test_a_file_that_no_worker_read_keeps_a_run_from_being_a_success(job: JobContext, ledger_dsn: str) -> None:
    unread = InputFile(1, "data/1.csv.gz", 5, None)
    with connect(ledger_dsn, "test") as conn:
        expect_files(conn, job.run, [ExpectedFile(input_file(job.manifest, 0)), ExpectedFile(unread)])
    with in_process() as pipeline:
        pipeline | beam.Create(TALLIES) | FinaliseRun(job, 0, last=True)

    with connect(ledger_dsn, "test") as conn:
        summary = stored_summary(run_status(conn, job.run.run_id), [])
    assert (summary.exit_code, summary.gaps) == (1, (Gap(1, 1, 0, GapKind.UNREAD, "files"),))


def test_a_bad_file_is_in_the_summary_of_a_run_that_closes_itself(job: JobContext, ledger_dsn: str) -> None:
    with connect(ledger_dsn, "test") as conn:
        note_bad_file(conn, job.run, InputFile(1, "data/1.csv.gz", 5, None), "its MD5 differs")
    with in_process() as pipeline:
        pipeline | beam.Create(TALLIES) | FinaliseRun(job, 0, last=True)

    with connect(ledger_dsn, "test") as conn:
        summary = stored_summary(run_status(conn, job.run.run_id), [])
    assert (summary.exit_code, summary.bad_files) == (0, 1)
