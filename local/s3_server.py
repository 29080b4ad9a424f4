"""The embedded S3 as a process of its own: `python -m local.s3_server --data DIR --port-file FILE`.

It listens on a free loopback port, which it writes to FILE once it answers, and keeps what it holds in
DIR: on SIGTERM or SIGINT, and when its standard input ends with --while-stdin, it saves and exits 0.
A port found in FILE is taken again where it is free, so that an endpoint outlives a restart.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from pathlib import Path

HOST = "127.0.0.1"


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local.s3_server", description="An S3 server that keeps its data.")
    parser.add_argument("--data", type=Path, required=True, help="folder that keeps buckets and objects")
    parser.add_argument("--port-file", type=Path, required=True, help="file the port is written to once it answers")
    parser.add_argument("--while-stdin", action="store_true", help="stop when standard input ends")
    return parser.parse_args(argv)


def _wanted_port(port_file: Path) -> int:
    """The port of the last time, or 0 for any."""
    try:
        return int(port_file.read_text())
    except (OSError, ValueError):
        return 0


def main(argv: list[str] | None = None) -> int:
    """Serves until it is told to stop. Exit code 0."""
    arguments = _arguments(argv)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    # moto takes a second to import: only after the signals are set.
    from local.s3_http import S3HttpServer  # noqa: PLC0415
    from local.s3_moto import install  # noqa: PLC0415
    from local.s3_state import StateFolder  # noqa: PLC0415

    state = StateFolder(arguments.data)
    install(state.store)
    state.restore()
    try:
        server = S3HttpServer((HOST, _wanted_port(arguments.port_file)), state.store)
    except OSError:
        server = S3HttpServer((HOST, 0), state.store)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
    partial = arguments.port_file.with_suffix(".partial")
    partial.write_text(f"{server.server_address[1]}\n")
    partial.replace(arguments.port_file)
    if arguments.while_stdin:
        threading.Thread(target=_wait_for_end, args=(stop,), daemon=True).start()
    stop.wait()
    server.shutdown()
    server.server_close()
    state.save()
    return 0


def _wait_for_end(stop: threading.Event) -> None:
    # Not sys.stdin: a thread that holds its lock would break the interpreter's shutdown.
    while os.read(0, 1024):
        pass
    stop.set()


if __name__ == "__main__":
    sys.exit(main())
