"""The arguments of `s3ferry run` and `s3ferry verify` become one frozen JobConfig, or one UsageError."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace

from options.beam_flags import check_beam_args
from options.config import JobConfig
from options.copying import EVIDENCE_FLAGS, PACE_FLAGS, add_copying_flags, read_copying
from options.endpoints import DESTINATION_FLAGS, SOURCE_FLAGS, add_endpoint_flags, read_destination, read_endpoint
from options.errors import UsageError
from options.flags import Flag, FlagParser
from options.inventory import INVENTORY_FLAGS, add_inventory_flags, read_inventory
from options.ledger import LEDGER_FLAGS, add_ledger_flags, read_ledger
from options.routing import ROUTING_FLAGS, add_routing_flags, read_routing
from options.run import CLUSTER_RUNNERS, RUN_FLAGS, add_run_flags, read_run
from options.values import is_local
from options.verify import VERIFY_FLAGS, add_verify_flags, read_verify

FLAGS_BY_THEME: dict[str, tuple[Flag, ...]] = {
    "inventory": INVENTORY_FLAGS,
    "source": SOURCE_FLAGS,
    "destination": DESTINATION_FLAGS,
    "run": RUN_FLAGS,
    "size classes and units": ROUTING_FLAGS,
    "evidence": EVIDENCE_FLAGS,
    "pace and limits": PACE_FLAGS,
    "ledger": LEDGER_FLAGS,
}
"""Every flag of `run`, by the heading it has in the help and in the guide."""


def _parser() -> FlagParser:
    return _with_run_flags(
        FlagParser(
            "s3ferry run",
            "Copies every object an inventory names, hashes it on the way, and records the proof in the ledger. "
            "Flags of Beam's Python side (--flink_master, --environment_type and so on) pass through.",
        )
    )


def _with_run_flags(parser: FlagParser) -> FlagParser:
    for add in (
        add_inventory_flags,
        add_endpoint_flags,
        add_run_flags,
        add_routing_flags,
        add_copying_flags,
        add_ledger_flags,
    ):
        add(parser)
    return parser


def _verify_parser() -> FlagParser:
    parser = FlagParser(
        "s3ferry verify",
        "Checks that every object an inventory names is at the destination and is the same, and records what it finds. "
        "Copies nothing. Takes the flags of run as well; those that say how to copy do nothing here.",
    )
    add_verify_flags(parser)
    return _with_run_flags(parser)


def run_help() -> str:
    """The help of `s3ferry run`: every flag with its unit and default."""
    return _parser().format_help()


def parse_run(argv: Sequence[str]) -> JobConfig:
    """The whole configuration of a run from its arguments (without `s3ferry run`). Pure: reads no file, no environment.

    Where a flag is given twice the last one counts; `--runner_option` and `--manifest` add up. Raises UsageError for
    the first thing that is wrong. Loads Beam only if a flag is not ours.
    """
    return _config(*_parser().read_known(argv))


def verify_help() -> str:
    """The help of `s3ferry verify`: every flag with its unit and default."""
    return _verify_parser().format_help()


def parse_verify(argv: Sequence[str]) -> JobConfig:
    """The whole configuration of a verification from its arguments; otherwise as `parse_run`."""
    given, rest = _verify_parser().read_known(argv)
    verify = read_verify(given)
    if given.detach and verify.destination_manifest is not None:
        raise UsageError("--detach", "a destination's inventory is loaded by a job of its own first; leave one out")
    return replace(_config(given, rest, VERIFY_FLAGS), verify=verify)


def _config(given: argparse.Namespace, rest: Sequence[str], more: Sequence[Flag] = ()) -> JobConfig:
    """The configuration of the flags all have; `more` are those of the command alone."""
    routing = read_routing(given)
    source, destination_endpoint = (read_endpoint(side, given) for side in ("source", "destination"))
    ledger = read_ledger(given)
    run = read_run(given)
    _check_runner(given, rest)
    known = [*more, *(flag for flags in FLAGS_BY_THEME.values() for flag in flags)]
    beam_args = check_beam_args(rest, [flag.option for flag in known])
    # Last, because a flag with a slip in its name also looks missing.
    inventory = read_inventory(given)
    destination = read_destination(given)
    return JobConfig(
        source=source,
        destination_endpoint=destination_endpoint,
        inventory=inventory,
        destination=destination,
        routing=routing,
        copy=read_copying(given),
        ledger=ledger,
        run=run,
        beam_args=(*beam_args, *(f"--{name}={value}" for name, value in given.runner_option or ())),
    )


def _check_runner(given: argparse.Namespace, rest: Sequence[str]) -> None:
    if given.runner in CLUSTER_RUNNERS and any(map(is_local, given.manifest or ())):
        raise UsageError(
            "--manifest",
            f"a local path cannot be read by the workers of {given.runner}; put it in S3 and give s3://bucket/key",
        )
    if given.workers and any(arg.partition("=")[0] == "--direct_num_workers" for arg in rest):
        raise UsageError("--workers", "--direct_num_workers says the same; give one of them")
    own = {flag.name for flags in FLAGS_BY_THEME.values() for flag in flags}
    for name, _ in given.runner_option or ():
        if name in own:
            raise UsageError("--runner_option", f"{name} is a flag of s3ferry itself; give --{name}=VALUE")
