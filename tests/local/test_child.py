"""How the demonstration's processes end: signals reach the job once, and exit codes come back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from local.child import run_child

PARENT = """
import os, sys
from local.child import exit_on_signals, run_child
with exit_on_signals():
    sys.exit(run_child([sys.executable, "-c", sys.argv[1]], os.environ))
"""

DRAINS = """
import signal, sys, time
received = []
signal.signal(signal.SIGTERM, lambda *_: received.append(1))
signal.signal(signal.SIGINT, lambda *_: received.append(2))
print("ready", flush=True)
while not received: time.sleep(0.02)
time.sleep(0.3)
print(received, flush=True)
sys.exit(5)
"""

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, lambda *_: print("asked", flush=True))
print("ready", flush=True)
while True: time.sleep(0.1)
"""


def start(program: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT, program], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(("program", "code"), [("raise SystemExit(4)", 4), ("import os; os.kill(os.getpid(), 9)", 137)])
def test_the_exit_code_is_the_childs(program: str, code: int) -> None:
    assert run_child([sys.executable, "-c", program], os.environ) == code


def test_ctrl_c_reaches_the_job_as_one_sigterm() -> None:
    process = start(DRAINS)
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate()[0] == "[1]\n"
    assert process.returncode == 5


def test_a_second_signal_kills_the_job() -> None:
    process = start(STUBBORN)
    process.terminate()
    assert process.stdout is not None
    assert process.stdout.readline() == "asked\n"
    process.terminate()
    process.wait(20)
    assert process.returncode == 137


def test_a_signal_before_the_job_unwinds_what_was_started() -> None:
    program = """
import os, signal, time
from contextlib import ExitStack
from local.child import exit_on_signals
with exit_on_signals(), ExitStack() as stack:
    stack.callback(lambda: print("stopped", flush=True))
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(20)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (5, "stopped\n")
