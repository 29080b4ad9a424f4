"""`python -m local.with_ledger run ...`: s3ferry with an embedded ledger, unless one is named already.

The ledger is named by LEDGER_DSN or by PG* variables; then nothing is started here.
"""

from __future__ import annotations

import os
import sys

from ledger.dsn import ledger_dsn
from local.child import exit_on_signals, run_child
from local.postgres import default_folder, running_postgres
from model.errors import InvalidInput, S3ferryError


def main(argv: list[str] | None = None) -> int:
    """Runs `s3ferry` with these arguments; its exit code."""
    command = [sys.executable, "-m", "pipeline.main", *(sys.argv[1:] if argv is None else argv)]
    with exit_on_signals():
        try:
            if ledger_dsn(os.environ) is not None:
                os.execv(sys.executable, command)  # noqa: S606  (this very interpreter, no shell)
            print(f"The ledger is an embedded PostgreSQL in {default_folder()} (LEDGER_DSN names another).", flush=True)
            with running_postgres() as dsn:
                return run_child(command, {**os.environ, "LEDGER_DSN": dsn})
        except S3ferryError as error:
            print(f"s3ferry: {error}", file=sys.stderr)
            return 2 if isinstance(error, InvalidInput) else 3


if __name__ == "__main__":
    sys.exit(main())
