"""Entry point of FnApiRunner's worker processes: Beam's own, with its log lines sent to the driver only.

Beam's entry point also prints every line to standard error, past the driver's progress bar and its masking of secrets.
The nursery runs it in the processes it forks.
"""

from __future__ import annotations

import logging
import sys


def main() -> None:
    """Runs one worker until its runner has no more work for it."""
    # A handler on the root keeps logging.basicConfig, which Beam calls, from adding one that prints.
    logging.getLogger().addHandler(logging.NullHandler())
    from apache_beam.runners.worker import sdk_worker_main  # noqa: PLC0415 (its import logs already)

    sdk_worker_main.main(sys.argv)
