"""How the ledger is written. Where it is stands in LEDGER_DSN or PG*: a DSN is a secret."""

from __future__ import annotations

import argparse

from options import values
from options.config import LedgerOptions
from options.errors import UsageError
from options.flags import add_flags, number_flag, seconds_flag, size_flag

_DEFAULT = LedgerOptions()

LEDGER_FLAGS = (
    number_flag(
        "flush_rows",
        _DEFAULT.flush_rows,
        "rows that make the ledger's buffer write a batch",
        values.whole(1, 1_000_000),
    ),
    size_flag(
        "flush_bytes",
        _DEFAULT.flush_bytes,
        "bytes of rows that make the ledger's buffer write a batch",
        values.size(1024, 1024**3),
    ),
    seconds_flag(
        "flush_interval",
        _DEFAULT.flush_interval_s,
        "seconds a row waits at most before it is written",
        values.number(0.01, 3600),
    ),
    seconds_flag(
        "lease_ttl",
        _DEFAULT.lease_ttl_s,
        "seconds after which a run that no longer renews its lease counts as dead",
        values.number(1, 86_400),
    ),
    seconds_flag(
        "lease_wait",
        _DEFAULT.lease_wait_s,
        "seconds to wait for a lease that another run holds: one that was killed lets go of it after its --lease_ttl",
        values.number(0, 86_400),
    ),
)


def add_ledger_flags(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of this theme."""
    add_flags(parser, "ledger", LEDGER_FLAGS)


def read_ledger(given: argparse.Namespace) -> LedgerOptions:
    """The flags of this theme. Raises UsageError where rows would wait longer than the lease is safe."""
    if given.flush_interval * 2 > given.lease_ttl:
        raise UsageError(
            "--flush_interval",
            f"{given.flush_interval:g} s is more than half of --lease_ttl, {given.lease_ttl:g} s; "
            "lower it or raise --lease_ttl",
        )
    return LedgerOptions(
        flush_rows=given.flush_rows,
        flush_bytes=given.flush_bytes,
        flush_interval_s=given.flush_interval,
        lease_ttl_s=given.lease_ttl,
        lease_wait_s=given.lease_wait,
    )
