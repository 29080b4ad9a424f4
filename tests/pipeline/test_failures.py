"""failure_in: a worker's error keeps its meaning on the way through the runner."""

from __future__ import annotations

import apache_beam as beam
import pytest

from model.errors import InvalidInput, LeaseLost, LedgerUnavailable, RunBroken, S3ferryError
from pipeline.failures import failure_in
from storage.inventory.errors import CorruptInventoryFile
from tests.transforms.examples import in_process

FROM_A_WORKER_PROCESS = """\
bundle inst002 stage-005 failed:Traceback (most recent call last):
  File "apache_beam/runners/common.py", line 1501, in apache_beam.runners.common.DoFnRunner.process
  File "/app/transforms/copy_objects.py", line 52, in process
    yield from self.finished(self._most_pending)
model.errors.RunBroken: source: the bucket of GET src/key does not exist: 404 NoSuchBucket

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/app/venv/apache_beam/runners/worker/sdk_worker.py", line 307, in _execute
    response = task()
model.errors.RunBroken: source: the bucket of GET src/key does not exist: 404 NoSuchBucket [while running \
'CopySmall/Copy']
"""


class _Raises(beam.DoFn):
    def __init__(self, error: Exception) -> None:
        self._error = error

    def process(self, element: int) -> None:
        raise self._error


@pytest.mark.parametrize(
    "error",
    [
        RunBroken("source: the bucket does not exist"),
        LeaseLost("run 7 lost its lease"),
        LedgerUnavailable("the ledger did not answer for 30 s"),
        InvalidInput("file 3 is wrong: take another"),
        CorruptInventoryFile("inventory file 3 has MD5 a, the manifest says b"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_raised_in_a_step_comes_out_with_its_meaning_and_its_line(error: S3ferryError) -> None:
    with pytest.raises(Exception, match=r".") as raised, in_process() as pipeline:
        pipeline | beam.Create([1]) | "Copy" >> beam.ParDo(_Raises(error))
    found = failure_in(raised.value)
    assert isinstance(found, InvalidInput if isinstance(error, InvalidInput) else type(error))
    assert found.message == error.message


def test_the_text_a_worker_process_sends_is_understood() -> None:
    found = failure_in(RuntimeError(FROM_A_WORKER_PROCESS))
    assert type(found) is RunBroken
    assert found.message == "source: the bucket of GET src/key does not exist: 404 NoSuchBucket"


def test_an_error_of_ours_stays_what_it_is() -> None:
    error = LeaseLost("run 7 lost its lease")
    assert failure_in(error) is error


def test_an_error_of_nobody_we_know_breaks_the_run_and_is_quoted() -> None:
    found = failure_in(
        RuntimeError("Traceback (most recent call last):\n  File x\nZeroDivisionError: division by zero")
    )
    assert type(found) is RunBroken
    assert found.message == "the graph failed: RuntimeError: ZeroDivisionError: division by zero"


def test_workers_without_the_package_are_said_to_lack_it() -> None:
    said = "java.lang.RuntimeException: ...\nModuleNotFoundError: No module named 'transforms'\n\nsome more"
    failure = failure_in(RuntimeError(said))
    assert isinstance(failure, RunBroken)
    assert "s3ferry is not installed for the workers" in failure.message
