"""Logging to standard error: one line per event with time and level, secrets masked."""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Callable
from typing import TextIO

CHATTY = ("apache_beam", "botocore", "boto3", "urllib3", "s3transfer", "asyncio", "grpc", "moto", "werkzeug")
"""Libraries whose INFO lines say nothing to the user of a copy."""

WORKER_LINES = "apache_beam.runners.portability.local_job_service"
"""The logger that repeats in the driver what worker processes log."""

JOB_SERVER_LINES = ("FlinkJarJobServer", "SparkJarJobServer")
"""The loggers that repeat what a job server prints; Beam sets their level, and what looks like an error it raises."""

_JOB_MESSAGES = "read_messages"
"""The function that repeats what a job server says of its job, on the root logger (apache_beam 2.77).

An error among it is the run's, and the driver says it in one line.
"""

_NO_NEWS = (
    # Importing Beam without its Google Cloud extra warns of it, to users who asked for nothing of the kind.
    "apitools not found",
    # Said every second until a job server is up.
    "Waiting for grpc channel to be ready",
    "Really starting service at",
    # Said of options that only the job server knows; it is asked for them later.
    "Unparseable argument: ",
    # Said of every job server that is stopped because its job has ended.
    "Really destroying service at",
    # Said of every local worker process: a folder only containers have.
    "No semi_persistent_directory found",
    # Said where worker processes have an entry point of their own, which works as well.
    "If direct_num_workers is not equal to 1",
)
_QUOTED = r'"((?:[^"\\]|\\.)*)"'
_ENTRY = re.compile(rf"(?:Worker: )?severity: \w+\s+timestamp \{{[^}}]*\}}\s+message: {_QUOTED}(.*)", re.DOTALL)
_LOCATION = re.compile(rf"\blog_location: {_QUOTED}")
_TRACE = re.compile(rf"\s+trace: {_QUOTED}")


def printable(text: str) -> str:
    """`text` on one line: line breaks and control characters escaped, for they may come from an object's key."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def worker_message(text: str) -> tuple[str, str] | None:
    """(place in the code, message) of a log entry of a worker process; None if `text` is not one.

    Local runners log their workers' entries as printed protobuf messages, most on one line
    (apache_beam 2.77, BeamFnLoggingServicer and BasicLoggingService). Of a traceback the last line is kept.
    """
    entry = _ENTRY.fullmatch(text)
    if entry is None:
        return None
    message, rest = _unescaped(entry[1]), entry[2]
    trace = _TRACE.match(rest)
    location = _LOCATION.search(rest[trace.end() :] if trace else rest)
    if trace:
        last = _unescaped(trace[1]).strip().rpartition("\n")[2]
        first = message.partition("\nTraceback (most recent call last)")[0]
        message = first if last in first else f"{first}: {last}"
    return _unescaped(location[1]) if location else "", message


def _unescaped(text: str) -> str:
    # Protobuf prints what is not ASCII as UTF-8, as it is or in octal escapes.
    return text.encode().decode("unicode_escape").encode("latin-1", "replace").decode("utf-8", "replace")


class _Stderr(logging.StreamHandler[TextIO]):
    """Looks `sys.stderr` up at each record: the progress bar replaces it to keep the bottom line."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


class _OneLine(logging.Formatter):
    """A record as one line; a traceback follows only where it is wanted."""

    def __init__(self, redact: Callable[[str], str], tracebacks: bool) -> None:
        super().__init__()
        self._redact = redact
        self._tracebacks = tracebacks

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        worker = worker_message(message)
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
        line = f"{at} {record.levelname:<7} {printable(worker[1] if worker else message)}"
        if record.exc_info and record.exc_info[0] is not None:
            if self._tracebacks:
                line += "\n" + self.formatException(record.exc_info)
            else:
                line += printable(f": {record.exc_info[0].__name__}: {record.exc_info[1]}")
        return self._redact(line)


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a user of a copy wants the line, below DEBUG."""
    message = record.getMessage()
    if record.name in JOB_SERVER_LINES or record.funcName == _JOB_MESSAGES:
        return False
    worker = worker_message(message)
    place, text = worker or ("", message)
    if worker and record.levelno <= logging.INFO and "/apache_beam/" in place:
        return False
    return not text.startswith(_NO_NEWS)


def set_up_logging(level: str, redact: Callable[[str], str]) -> None:
    """Sends all records of `level` and above to standard error, those of chatty libraries from WARNING (DEBUG: all).

    Replaces the root logger's handlers, so it may be repeated. `redact` masks secrets in the finished line.
    """
    handler = _Stderr()
    debug = level == "DEBUG"
    handler.setFormatter(_OneLine(redact, tracebacks=debug))
    if not debug:
        handler.addFilter(_is_news)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.DEBUG if debug else max(logging.WARNING, root.level))
    logging.getLogger(WORKER_LINES).setLevel(level)


def set_down_logging() -> None:
    """Undoes `set_up_logging`, and nothing is printed in its place: for a forked process that logs elsewhere.

    A handler on the root keeps `logging.basicConfig`, which Beam calls, from adding one that prints.
    """
    root = logging.getLogger()
    root.handlers[:] = [logging.NullHandler()]
    root.setLevel(logging.WARNING)
    for name in (*CHATTY, WORKER_LINES):
        logging.getLogger(name).setLevel(logging.NOTSET)
