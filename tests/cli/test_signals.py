"""Signals that come before there is a run to be stopped."""

from __future__ import annotations

import signal
import socket

import pytest

from tests.fixtures.s3 import S3Server
from tests.integration.conftest import MakeFerry, ferry

__all__ = ["ferry"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_the_run_has_begun_is_an_interruption(number: signal.Signals, ferry: MakeFerry) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)
        silent = S3Server("silent", f"http://127.0.0.1:{listener.getsockname()[1]}")
        user = ferry(silent, silent, None)
        user.environment["LEDGER_DSN"] = "postgresql://nobody@127.0.0.1:1/none"
        command = user.start("s3://inventory/daily/latest", "s3://archive")
        connection, _ = listener.accept()
        with connection:
            command.signal_driver(number)
            ended = command.wait()

    assert ended.code == 5, ended.explain()
    assert "interrupted; run again to finish the rest" in ended.stderr
    assert command.left == []
