"""`s3ferry ledger`: brings the ledger's tables up to date."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from options.errors import UsageError
from options.flags import FlagParser, add_flags
from options.redaction import shown
from options.run import LOG_LEVEL
from pipeline.commands.dsn import named_dsn

ACTIONS = ("migrate",)


def usage() -> str:
    """The help of `s3ferry ledger`."""
    return "\n".join(
        [
            "usage: s3ferry ledger migrate [--log_level=LEVEL]",
            "",
            "migrate  makes the ledger's tables, or brings them up to this version; may be repeated",
            "",
            "The ledger is found through LEDGER_DSN or the PG* variables.",
            "",
        ]
    )


def parse(argv: Sequence[str]) -> str:
    """The action asked for. Raises UsageError for anything else."""
    parser = FlagParser("s3ferry ledger")
    add_flags(parser, "run", (LOG_LEVEL,))
    rest = parser.read_known(argv)[1]
    if not rest:
        raise UsageError(None, "ledger: an action is missing; write s3ferry ledger migrate")
    if rest[0] not in ACTIONS or len(rest) > 1:
        raise UsageError(None, f"ledger: {shown(rest[-1])} is not known; write s3ferry ledger migrate")
    return rest[0]


def execute(action: str) -> int:
    """Carries `action` out and returns the exit code. Raises InvalidInput where no ledger is named, RunBroken."""
    from ledger.schema import migrate  # noqa: PLC0415 (loads psycopg)

    sys.stdout.write(f"the ledger is at version {migrate(named_dsn())}\n")
    return 0
