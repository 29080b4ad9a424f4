"""The run as a whole: its name, its runner, when it gives up and what it tells."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from options import values
from options.config import RunPolicy
from options.errors import UsageError
from options.flags import Flag, FlagParser, add_flags, choice_flag, number_flag, switch

RUNNERS = ("DirectRunner", "FlinkRunner", "SparkRunner", "PrismRunner", "FnApiRunner", "PortableRunner")
CLUSTER_RUNNERS = frozenset({"FlinkRunner", "SparkRunner", "PortableRunner"})
"""Runners whose workers are elsewhere: no local files, worker counts set at the cluster, Java options."""
DETACHABLE = frozenset({"FlinkRunner", "PortableRunner"})
"""Runners whose job goes on without the process that submitted it."""
WORKER_RUNNERS = frozenset({"DirectRunner", "FnApiRunner"})
"""Runners that start worker processes of their own."""
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
_DEFAULT = RunPolicy()

RUNNER = choice_flag(
    "runner", _DEFAULT.runner, "Beam runner that carries the job out", values.one_of(*RUNNERS), RUNNERS
)
RUN_FLAGS = (
    Flag(
        "job",
        "name of the job in the ledger: runs of one job know what earlier ones verified",
        values.job_name,
        shown_default="derived from endpoints, buckets and prefix",
        metavar="NAME",
    ),
    RUNNER,
    number_flag(
        "workers",
        _DEFAULT.workers,
        "worker processes of DirectRunner or FnApiRunner; 0: one per core",
        values.whole(0, 1_024),
    ),
    Flag(
        "runner_option",
        "option of a Java runner as name=value, passed on as --name=value; may be given several times",
        values.runner_option,
        metavar="NAME=VALUE",
        repeatable=True,
    ),
    Flag(
        "max_failures",
        "the run stops when more rows than this have failed: N rows, or P% of the rows that ended "
        "(judged from 100 rows on)",
        values.max_failures,
        shown_default="never stop for failures",
        metavar="N|P%",
    ),
    switch("strict_source", "exit with 1, not 0, when a source object was gone or had changed"),
    Flag(
        "summary", "file that gets the run's summary as JSON; - for standard output", values.text_value, metavar="FILE"
    ),
    Flag(
        "export",
        "local folder that gets dead letters, retry and restore manifest at the end, where there is something to write",
        values.local_folder,
        metavar="FOLDER",
    ),
    switch(
        "detach", "submit the job to a Flink cluster, print the run's number and return; status --wait waits for it"
    ),
    choice_flag(
        "log_level",
        _DEFAULT.log_level,
        "least level of what is logged to standard error",
        values.one_of(*LOG_LEVELS),
        LOG_LEVELS,
    ),
)
LOG_LEVEL = RUN_FLAGS[-1]


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of this theme."""
    add_flags(parser, "run", RUN_FLAGS)


def read_run(given: argparse.Namespace) -> RunPolicy:
    """The flags of this theme. Raises UsageError for flags the runner has no use for."""
    if given.workers and given.runner not in WORKER_RUNNERS:
        raise UsageError(
            "--workers",
            f"{given.runner} starts no worker processes of its own; leave it out and set workers at the cluster",
        )
    if given.runner_option and given.runner not in CLUSTER_RUNNERS:
        raise UsageError(
            "--runner_option",
            f"{given.runner} has no Java options; leave it out or use one of {', '.join(sorted(CLUSTER_RUNNERS))}",
        )
    if given.detach:
        _check_detach(given)
    return RunPolicy(
        job=given.job,
        runner=given.runner,
        workers=given.workers,
        summary=given.summary,
        export=given.export,
        detach=given.detach,
        max_failures=given.max_failures,
        strict_source=given.strict_source,
        log_level=given.log_level,
    )


def _check_detach(given: argparse.Namespace) -> None:
    if given.runner not in DETACHABLE:
        raise UsageError(
            "--detach",
            f"a job of {given.runner} ends with the process that submits it; leave it out or use FlinkRunner",
        )
    for name, remedy in (("summary", "s3ferry report RUN"), ("export", "s3ferry ledger export RUN")):
        if getattr(given, name):
            raise UsageError(
                f"--{name}", f"--detach returns before there is anything to write; use {remedy} afterwards"
            )


def log_level_of(argv: Sequence[str]) -> str:
    """`--log_level` alone, for the time before all flags are read; the default where it is wrong."""
    parser = FlagParser("s3ferry")
    add_flags(parser, "run", (LOG_LEVEL,))
    try:
        given, _ = parser.read_known(argv)
    except UsageError:
        return _DEFAULT.log_level
    level: str = given.log_level
    return level
