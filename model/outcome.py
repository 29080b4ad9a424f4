"""How a run ends: counts of rows, gaps in the accounting, the outcome's word and the exit code."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum, StrEnum
from typing import NamedTuple

from model.errors import InvalidInput, RunBroken, S3ferryError
from model.status import SizeClass, Status

MAX_FAILURES = "max_failures"
"""The reason a run is stopped for when its circuit breaker trips."""
FAILURES = frozenset({Status.FAILED, Status.MISMATCH, Status.DESTINATION_GONE})
SOURCE_WARNINGS = frozenset({Status.SOURCE_GONE, Status.SOURCE_CHANGED})


class Exit(IntEnum):
    """Exit codes of every command."""

    OK = 0
    FAILURES = 1
    USAGE = 2
    BROKEN = 3
    LEASE_HELD = 4
    INTERRUPTED = 5


class RunKind(StrEnum):
    """What a run does with the objects of its inventory; the word `runs.kind` holds."""

    RUN = "run"
    VERIFY = "verify"


class Outcome(StrEnum):
    """The word `runs.outcome` holds."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    BROKEN = "broken"
    ABANDONED = "abandoned"


class Count(NamedTuple):
    """How many rows ended one way, and the bytes of their objects. `size_class` None: never sized."""

    size_class: SizeClass | None
    status: Status
    objects: int
    object_bytes: int


class GapKind(StrEnum):
    """Which two sides of the accounts differ."""

    UNREAD = "unread"
    """What the inventory file holds, and what was read of it."""
    UNACCOUNTED = "unaccounted"
    """What was read, and what was counted with a status."""
    UNRECORDED = "unrecorded"
    """What was counted with a status that is kept row by row, and what the ledger holds."""


class Gap(NamedTuple):
    """A difference in the accounts of one input file: it keeps a run from being a success.

    `unit` is what is counted: rows, bytes, or (of a file whose rows nobody counted before) files. `size_class` and
    `status` are those of UNRECORDED rows; no class where the ledger holds some of them as dead letters alone.
    """

    file_number: int
    expected: int
    found: int
    kind: GapKind = GapKind.UNACCOUNTED
    unit: str = "rows"
    size_class: SizeClass | None = None
    status: Status | None = None

    def __str__(self) -> str:
        return f"input file {self.file_number}: {self._difference}"

    @property
    def _difference(self) -> str:
        if self.kind is GapKind.UNACCOUNTED:
            return f"{self.expected} {self.unit} read, {self.found} accounted for"
        if self.kind is GapKind.UNRECORDED:
            words = " ".join(word for word in (self.size_class, self.status) if word)
            return f"{self.expected} {self.unit} counted {words}, {self.found} in the ledger"
        return "never read" if self.unit == "files" else f"{self.expected} {self.unit} in it, {self.found} read"


def exit_code(
    counts: Sequence[Count], gaps: Sequence[Gap], *, stopped: bool, broken: bool, strict_source: bool
) -> Exit:
    """How a run exits. `broken` wins over `stopped`, both over what happened to the objects."""
    if broken:
        return Exit.BROKEN
    if stopped:
        return Exit.INTERRUPTED
    bad = FAILURES | SOURCE_WARNINGS if strict_source else FAILURES
    failed = any(count.objects for count in counts if count.status in bad)
    return Exit.FAILURES if failed or gaps else Exit.OK


class Ending(NamedTuple):
    """How a run ends. `gaps` are those that count: what has not run to its end has none."""

    code: Exit
    gaps: tuple[Gap, ...]
    error: S3ferryError | None

    @property
    def outcome(self) -> Outcome:
        return outcome_of(self.code)

    @property
    def is_whole(self) -> bool:
        """Whether every row had its turn."""
        return self.code in (Exit.OK, Exit.FAILURES)


def ending(
    counts: Sequence[Count],
    gaps: Sequence[Gap],
    *,
    stop: str | None,
    error: S3ferryError | None,
    max_failures: str | None,
    strict_source: bool,
) -> Ending:
    """How a run ends that was asked to stop for the reason `stop`, or failed of `error`.

    An error wins over a stop, both over what happened to the objects. `max_failures` is the flag's text: a run that
    its circuit breaker stopped has broken.
    """
    if error is None and stop == MAX_FAILURES:
        error = RunBroken(f"stopped: more failures than --max_failures={max_failures}")
    counted = () if error is not None or stop is not None else tuple(gaps)
    code = exit_code(counts, counted, stopped=stop is not None, broken=error is not None, strict_source=strict_source)
    return Ending(Exit.USAGE if isinstance(error, InvalidInput) else code, counted, error)


def outcome_of(code: Exit) -> Outcome:
    """The outcome a run with this exit code is recorded under."""
    return {
        Exit.OK: Outcome.SUCCEEDED,
        Exit.FAILURES: Outcome.FAILED,
        Exit.INTERRUPTED: Outcome.INTERRUPTED,
    }.get(code, Outcome.BROKEN)


def why_not_whole(code: int | None, bad_files: int, gaps: Sequence[object], unnamed_rows: int) -> str | None:
    """Why a run did not see each object of its inventory, in words; None when it did.

    `code` is its exit code, None where it has none. `unnamed_rows` are those the ledger has no destination key of.
    """
    if code not in (Exit.OK, Exit.FAILURES):
        return "it did not come to its end" if code is None else f"it ended with exit code {int(code)}"
    if bad_files:
        return f"{bad_files} bad inventory files were left out"
    if gaps:
        return "its accounts do not balance"
    return f"{unnamed_rows} rows have no usable key" if unnamed_rows else None
