"""`parse_sweep`: the arguments of `s3ferry sweep` become one frozen SweepConfig, or one UsageError."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from options import values
from options.config import DestinationOptions, EndpointOptions
from options.endpoints import DESTINATION_FLAGS, read_destination, read_endpoint
from options.errors import UsageError
from options.flags import Flag, FlagParser, add_flags, choice_flag, switch
from options.redaction import shown
from options.run import LOG_LEVEL

FIND = ("all", "ledger", "listing")

SWEEP_FLAGS = (
    Flag(
        "older_than",
        "least age of an upload that is swept; a whole number with s, m, h or d",
        values.age,
        values.age("7d"),
        "7d",
        "AGE",
    ),
    choice_flag(
        "find",
        FIND[0],
        "where uploads are looked for; ledger: what earlier runs recorded, listing: what the server lists, "
        "whoever began it",
        values.one_of(*FIND),
        FIND,
    ),
    switch("yes", "abort what is found; without it the uploads are only shown"),
)


@dataclass(frozen=True, slots=True)
class SweepConfig:
    """All options of one `sweep`."""

    endpoint: EndpointOptions
    destination: DestinationOptions
    older_than_s: float
    find: str
    yes: bool


def _parser() -> FlagParser:
    parser = FlagParser(
        "s3ferry sweep",
        "Finds multipart uploads that were begun at a destination and never ended, shows them, and aborts them with "
        "--yes. Uploads of a run that is under way are left alone. The ledger is found through LEDGER_DSN or the PG* "
        "variables.",
    )
    add_flags(parser, "destination", DESTINATION_FLAGS)
    add_flags(parser, "sweep", (*SWEEP_FLAGS, LOG_LEVEL))
    return parser


def sweep_help() -> str:
    """The help of `s3ferry sweep`."""
    return _parser().format_help()


def parse_sweep(argv: Sequence[str]) -> SweepConfig:
    """The whole configuration of a sweep from its arguments (without `s3ferry sweep`). Pure."""
    given, rest = _parser().read_known(argv)
    if rest:
        raise UsageError(None, f"{shown(rest[0])} is no flag of sweep; s3ferry sweep --help lists them")
    return SweepConfig(
        endpoint=read_endpoint("destination", given),
        destination=read_destination(given),
        older_than_s=given.older_than,
        find=given.find,
        yes=given.yes,
    )
