"""A job on Flink, watched by its REST address: what it takes for it to have the job, and to have given it up."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from apache_beam.runners.runner import PipelineState

from model.errors import RunBroken
from pipeline import runners
from pipeline.clusters import Preset, flink_cluster, flink_failures, flink_job
from pipeline.runners import taken, wait
from tests.storage.scripted_server import Script, ScriptedServer, reply, scripted_server

NAME = "s3ferry-run-7"
REFUSAL = "model.errors.RunBroken: this worker has no ledger: set LEDGER_DSN in the worker's own environment"


def says(**answer: object) -> Script:
    return reply(body=json.dumps(answer).encode())


def a_job(jid: str, name: str = NAME, state: str = "RUNNING", start: int = 1) -> dict[str, object]:
    return {"jid": jid, "name": name, "state": state, "start-time": start}


def jobs(*found: dict[str, object]) -> Script:
    return says(jobs=found)


def failures(*traces: str) -> Script:
    return says(exceptionHistory={"entries": [{"stacktrace": trace} for trace in traces], "truncated": False})


@dataclass
class Result:
    """A pipeline's result whose states are given; the last one stays."""

    states: list[str]
    error: Exception | None = None
    cancelled: bool = False
    waited: bool = field(default=False)

    @property
    def state(self) -> str:
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]

    def cancel(self) -> None:
        self.cancelled = True

    def wait_until_finish(self) -> None:
        self.waited = True
        if self.error is not None:
            raise self.error


@pytest.fixture
def flink(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    """A JobManager that answers as it is told, and is asked without pauses."""
    monkeypatch.setattr(runners, "_LOOK_EVERY_S", 0.01)
    with scripted_server() as server:
        yield server


def preset(flink: ScriptedServer) -> Preset:
    return Preset("FlinkRunner", (f"--job_name={NAME}",), 1, flink.url)


def test_the_job_of_a_name_is_the_newest_that_has_not_ended(flink: ScriptedServer) -> None:
    flink.scripts = [
        jobs(
            a_job("older", start=1),
            a_job("newest", start=2),
            a_job("ended", state="FAILED", start=3),
            a_job("other", "another", start=4),
        )
    ]
    assert flink_job(flink.url, NAME) == "newest"


def test_there_may_be_no_job_of_a_name(flink: ScriptedServer) -> None:
    flink.scripts = [jobs(a_job("ended", state="CANCELED"))]
    assert flink_job(flink.url, NAME) is None


def test_failures_are_those_of_all_attempts(flink: ScriptedServer) -> None:
    flink.scripts = [failures("first", "second")]
    assert flink_failures(flink.url, "job-1") == "first\nsecond"
    assert flink.requests[0].target == "/jobs/job-1/exceptions"


@pytest.mark.parametrize("answer", [reply(body=b"{}"), reply(body=b"[]"), reply(body=b'{"jobs": [1]}')])
def test_an_answer_that_is_not_flinks_is_said_to_be_none(flink: ScriptedServer, answer: Script) -> None:
    flink.fallback = answer
    asked: list[Any] = [
        lambda: flink_cluster([f"--flink_master={flink.url}"]),
        lambda: flink_job(flink.url, NAME),
        lambda: flink_failures(flink.url, "job-1"),
    ]
    for ask in asked:
        with pytest.raises(RunBroken, match=f"what answers at {flink.url} is not Flink's JobManager: check --flink"):
            ask()


def test_a_web_page_is_no_answer(flink: ScriptedServer) -> None:
    flink.fallback = reply(body=b"<html>")
    with pytest.raises(RunBroken, match=f"Flink does not answer at {flink.url}/jobs/overview.*check --flink_master"):
        flink_job(flink.url, NAME)


def test_a_job_is_taken_once_the_cluster_lists_it(flink: ScriptedServer) -> None:
    flink.scripts = [jobs(), jobs(a_job("other", "another")), jobs(a_job("job-1"))]
    assert taken(Result([PipelineState.RUNNING]), preset(flink))
    assert len(flink.requests) == 3


def test_a_job_that_has_ended_is_not_taken(flink: ScriptedServer) -> None:
    flink.fallback = jobs()
    assert not taken(Result([PipelineState.RUNNING, PipelineState.FAILED]), preset(flink))


def test_a_cluster_that_gives_no_answer_is_asked_again_for_the_job_it_may_have_and_that_is_said_once(
    flink: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    flink.scripts = [reply(503), reply(body=b"<html>"), jobs(a_job("job-1"))]
    with caplog.at_level(logging.WARNING, "s3ferry"):
        assert taken(Result([PipelineState.RUNNING]), preset(flink))
    [said] = caplog.messages
    assert "Flink does not answer" in said
    assert "asking again" in said


def test_without_flinks_address_a_job_is_taken_once_it_runs() -> None:
    result = Result([PipelineState.STARTING, PipelineState.RUNNING])
    assert taken(result, Preset("PortableRunner", (), 1))


def test_a_job_whose_worker_says_why_it_cannot_go_on_is_cancelled(flink: ScriptedServer) -> None:
    trace = f"java.lang.RuntimeException: Error received from SDK harness: Traceback\n{REFUSAL}\n"
    flink.scripts = [jobs(a_job("job-1")), failures(), failures(trace)]
    result = Result([PipelineState.RUNNING])
    with pytest.raises(RunBroken, match=r"^this worker has no ledger: set LEDGER_DSN in the worker's own environment$"):
        wait(result, preset(flink))
    assert result.cancelled
    assert [request.target for request in flink.requests] == ["/jobs/overview", *["/jobs/job-1/exceptions"] * 2]


def test_failures_that_a_restart_may_mend_are_left_to_the_cluster(flink: ScriptedServer) -> None:
    flink.scripts = [jobs(a_job("job-1"))]
    flink.fallback = failures("org.apache.flink.runtime.JobException: a TaskManager was lost")
    result = Result([*[PipelineState.RUNNING] * 4, PipelineState.DONE])
    wait(result, preset(flink))
    assert (result.cancelled, result.waited) == (False, True)
    assert len(flink.requests) > 3


def test_a_cluster_that_gives_no_answer_is_waited_for(flink: ScriptedServer) -> None:
    flink.fallback = reply(503)
    result = Result([*[PipelineState.RUNNING] * 3, PipelineState.DONE])
    wait(result, preset(flink))
    assert (result.cancelled, result.waited) == (False, True)


def test_what_the_job_failed_of_is_raised(flink: ScriptedServer) -> None:
    with pytest.raises(RuntimeError, match="out of slots"):
        wait(Result([PipelineState.FAILED], RuntimeError("out of slots")), preset(flink))
