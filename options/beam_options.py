"""The flags as Beam PipelineOptions, one subclass per theme, and Beam's own flags. Imports Beam.

Kept apart so that help and wrong flags cost no import of Beam. The job itself reads `JobConfig` only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions

from options.copying import add_copying_flags
from options.endpoints import add_endpoint_flags
from options.flags import FlagParser, add_flags
from options.inventory import add_inventory_flags
from options.ledger import add_ledger_flags
from options.routing import add_routing_flags
from options.run import RUN_FLAGS, RUNNER
from options.verify import add_verify_flags


class EndpointBeamOptions(PipelineOptions):
    """Source and destination."""

    @classmethod
    def _add_argparse_args(cls, parser: Any) -> None:
        add_endpoint_flags(parser)


class InventoryBeamOptions(PipelineOptions):
    """Manifest and inventory files."""

    @classmethod
    def _add_argparse_args(cls, parser: Any) -> None:
        add_inventory_flags(parser)


class RoutingBeamOptions(PipelineOptions):
    """Size classes, units, parts."""

    @classmethod
    def _add_argparse_args(cls, parser: Any) -> None:
        add_routing_flags(parser)


class CopyingBeamOptions(PipelineOptions):
    """Evidence, pace and limits."""

    @classmethod
    def _add_argparse_args(cls, parser: Any) -> None:
        add_copying_flags(parser)


class LedgerBeamOptions(PipelineOptions):
    """Ledger batches and lease."""

    @classmethod
    def _add_argparse_args(cls, parser: Any) -> None:
        add_ledger_flags(parser)


class VerifyBeamOptions(PipelineOptions):
    """What `verify` looks at."""

    @classmethod
    def _add_argparse_args(cls, parser: Any) -> None:
        add_verify_flags(parser)


class RunBeamOptions(PipelineOptions):
    """The run; `--runner` is Beam's own StandardOptions flag and is not declared twice."""

    @classmethod
    def _add_argparse_args(cls, parser: Any) -> None:
        add_flags(parser, "run", [flag for flag in RUN_FLAGS if flag is not RUNNER])


def _beam_parser() -> FlagParser:
    parser = FlagParser("beam")
    for options in PipelineOptions.__subclasses__():
        if options.__module__.startswith("apache_beam."):
            options._add_argparse_args(parser)  # type: ignore[arg-type]
    return parser


def beam_flag_names() -> list[str]:
    """Every flag of Beam's own PipelineOptions subclasses, with its dashes."""
    return [name for action in _beam_parser()._actions for name in action.option_strings]


def unknown_to_beam(args: Sequence[str]) -> list[str]:
    """Those of `args` that are no flag (or value of a flag) of Beam's Python side, in order.

    Raises UsageError where a known flag has a value of the wrong type.
    """
    return _beam_parser().read_known(args)[1]
