"""Asks the nursery for a worker and stands for it: ends when it ends, with its exit code.

Run as a script by the local runner, with nothing imported but what it needs. When this process is
killed, its end of the socket closes, and the nursery kills the worker.
"""

import json
import os
import socket
import sys

WORKER_VARIABLES = (
    "CONTROL_API_SERVICE_DESCRIPTOR",
    "LOGGING_API_SERVICE_DESCRIPTOR",
    "PIPELINE_OPTIONS",
    "WORKER_ID",
)


def main() -> int:
    nursery = socket.socket(socket.AF_UNIX)
    nursery.connect(sys.argv[1])
    environment = {name: os.environ[name] for name in WORKER_VARIABLES if name in os.environ}
    nursery.sendall(json.dumps(environment).encode() + b"\n")
    answer = nursery.makefile("rb").readline()
    return abs(int(answer)) if answer else 1


if __name__ == "__main__":
    sys.exit(main())
