"""Beam's Flink and Spark runners with a job server that ends with the run, not with the process. Imports Beam.

Beam's own stop their job server by a handler for SIGINT, which only a program's main thread may set, and which would
take the place of this program's: SIGINT lets what is under way end.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from apache_beam.options.pipeline_options import FlinkRunnerOptions, SparkRunnerOptions
from apache_beam.runners.portability.flink_runner import FlinkJarJobServer, FlinkRunner
from apache_beam.runners.portability.portable_runner import PortableRunner
from apache_beam.runners.portability.spark_runner import SparkJarJobServer, SparkRunner


class _JarServed(PortableRunner):
    """Keeps the job server it starts. A jar that holds the whole job needs none: Beam's own way of that is left."""

    def __init__(self) -> None:
        super().__init__()
        self.job_servers: list[Any] = []

    def default_job_server(self, options: Any) -> Any:
        server = self.jar_server(options)
        if server is None:
            return super().default_job_server(options)
        self.job_servers.append(server)
        return server

    def jar_server(self, options: Any) -> Any:
        """The job server of these options, not started; None where the job is submitted as a jar of its own."""
        raise NotImplementedError


class _Flink(_JarServed, FlinkRunner):
    def jar_server(self, options: Any) -> Any:
        flink = options.view_as(FlinkRunnerOptions)
        if flink.flink_submit_uber_jar:
            return None
        flink.flink_master = self.add_http_scheme(flink.flink_master)
        return FlinkJarJobServer(options)


class _Spark(_JarServed, SparkRunner):
    def jar_server(self, options: Any) -> Any:
        return None if options.view_as(SparkRunnerOptions).spark_submit_uber_jar else SparkJarJobServer(options)


@contextmanager
def cluster_runner(name: str) -> Iterator[PortableRunner]:
    """The runner of that name; the job server it starts, if it starts one, is stopped at the end."""
    runner = {"FlinkRunner": _Flink, "SparkRunner": _Spark}.get(name, PortableRunner)()
    try:
        yield runner
    finally:
        _expect_lost_connections()
        for server in getattr(runner, "job_servers", ()):
            server.stop()


def _expect_lost_connections() -> None:
    """From here on a lost connection is no news: workers in this process (LOOPBACK) outlive their job server."""
    logging.getLogger("apache_beam.runners.worker.data_plane").setLevel(logging.CRITICAL)
    threading.excepthook = _report


def _report(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is None or not issubclass(args.exc_type, grpc.RpcError):
        threading.__excepthook__(args)
