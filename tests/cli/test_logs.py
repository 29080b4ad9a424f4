import logging
import re

import pytest

from options.redaction import redactor
from pipeline.logs import WORKER_LINES, set_up_logging, worker_message

ENTRY = (
    r"Worker: severity: INFO timestamp {   seconds: 1795448031   nanos: 713002443 } "
    r'message: "copied \"caf\303\251 ü\" to dst\nand more" instruction_id: "bundle_5" transform_id: "CopyObjects" '
    r'log_location: "%s" thread: "Thread-14" '
)
TRACE = (
    r"Worker: severity: ERROR timestamp {   seconds: 1795448031 } "
    r'message: "flush failed\nTraceback (most recent call last):\n  File \"a.py\", line 5, in f\nKeyError: \'x\'" '
    r'trace: "Traceback (most recent call last):\n  File \"a.py\", line 5, in f\nKeyError: \'x\'\n" '
    r'log_location: "/app/a.py:5" '
)


def test_an_event_is_one_line_with_time_and_level(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("INFO", str)

    logging.getLogger("s3ferry").info("key %s", "a\nb\x1b[31m")

    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ INFO    key a\\nb\\x1b\[31m\n", capsys.readouterr().err)


def test_events_below_the_level_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("WARNING", str)

    logging.getLogger("s3ferry").info("quiet")

    assert capsys.readouterr().err == ""


def test_libraries_speak_from_warning_on(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("INFO", str)

    logging.getLogger("apache_beam.runners").info("stage 12")
    logging.getLogger("apache_beam.runners").warning("trouble")

    text = capsys.readouterr().err
    assert "stage 12" not in text
    assert "trouble" in text


def test_at_debug_libraries_say_everything(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("DEBUG", str)

    logging.getLogger("apache_beam.runners").debug("stage 12")

    assert "stage 12" in capsys.readouterr().err


def test_secrets_are_masked(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("INFO", redactor({"PGPASSWORD": "hunter22"}))

    logging.getLogger("s3ferry").warning("no access with hunter22")

    assert "no access with ***" in capsys.readouterr().err


def test_an_exception_is_named_on_the_line_of_its_event(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("INFO", str)
    try:
        raise KeyError("x")
    except KeyError:
        logging.getLogger("s3ferry").exception("flush failed")

    assert capsys.readouterr().err.endswith("ERROR   flush failed: KeyError: 'x'\n")


def test_an_entry_of_a_worker_process_is_shown_as_its_message(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("INFO", str)

    logging.getLogger().info(ENTRY % "/app/transforms/copy_objects.py:12")

    assert capsys.readouterr().err.endswith('INFO    copied "café ü" to dst\\nand more\n')


def test_of_a_traceback_in_a_worker_process_the_last_line_is_shown() -> None:
    assert worker_message(TRACE) == ("/app/a.py:5", "flush failed: KeyError: 'x'")


def test_the_lines_of_a_worker_process_pass_though_beam_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("INFO", str)

    logging.getLogger(WORKER_LINES).info(ENTRY % "/app/transforms/copy_objects.py:12")

    assert "copied" in capsys.readouterr().err


def test_chatter_of_beam_in_a_worker_process_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("INFO", str)

    logging.getLogger().info(ENTRY % "/venv/apache_beam/runners/worker/sdk_worker.py:12")

    assert capsys.readouterr().err == ""


def test_an_ordinary_message_is_no_worker_entry() -> None:
    assert worker_message('message in a bottle: "hello"') is None
