"""What a worker of a cluster checks before it takes work. Each raises RunBroken with one line that says what to do.

Workers are started by somebody else than the run: with another package, ledger or user, each object would fail, or
come out in a ledger that nobody looks at.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

import psycopg

from ledger import runs
from ledger.connect import connect
from ledger.leases import RunRef
from ledger.retry import RETRY_FOR_S, repeat
from model.errors import RunBroken
from model.version import VERSION
from options.config import JobConfig
from storage.credentials import make_session, static_principal
from transforms.context import JobContext, store_config

PATIENCE_S = RETRY_FOR_S
"""How long the ledger may be away: a restart of it must not cost a job that only replaces a worker meanwhile."""


class Side(NamedTuple):
    """One endpoint, and who driver and worker are there, as in `static_principal`."""

    name: str
    drivers: str | None
    workers: str | None

    @property
    def is_proven(self) -> bool:
        """Whether driver and worker are known to be one principal."""
        return self.drivers is not None and self.drivers == self.workers

    @property
    def is_apart(self) -> bool:
        """Whether they are known to be two. Of temporary credentials each process has others."""
        return self.drivers is not None and self.workers is not None and self.drivers != self.workers


def sides_of(job: JobContext) -> tuple[Side, Side]:
    """Source and destination. Raises RunBroken where this process has no credentials."""
    source, destination = static_principals(job.config)
    return Side("source", job.source_principal, source), Side("destination", job.destination_principal, destination)


def static_principals(config: JobConfig) -> tuple[str | None, str | None]:
    """Who this process is at source and destination, as in `static_principal`. Raises RunBroken without credentials."""
    stores = [store_config(side, config) for side in (config.source, config.destination_endpoint)]
    source, destination = (static_principal(store, make_session(store)) for store in stores)
    return source, destination


def require_version(version: str) -> None:
    """This worker has the package the job was made by."""
    if version != VERSION:
        raise RunBroken(f"this worker has s3ferry {VERSION}, the job was made by {version}: install that version")


def require_ledger(dsn: str, job: JobContext) -> None:
    """This worker's ledger answers, and is the driver's."""
    try:
        known = repeat(
            dsn, f"run {job.run.run_id} check", lambda conn: runs.has_run(conn, job.run, job.started_at), PATIENCE_S
        )
    except RunBroken as error:
        line = f"this worker cannot take work: its ledger cannot be used: {error.message}"
        raise RunBroken(f"{line}; check LEDGER_DSN in the worker's own environment") from None
    if not known:
        raise RunBroken(
            f"this worker cannot take work: its ledger has no such run {job.run.run_id} of job {job.run.job}: let "
            "LEDGER_DSN in the worker's own environment name the database the driver uses"
        )


def require_principals(job: JobContext) -> None:
    """This worker has credentials, and at no side those of somebody else than the driver."""
    try:
        sides = sides_of(job)
    except RunBroken as error:
        raise RunBroken(f"this worker cannot take work: {error.message}") from None
    for side in sides:
        if side.is_apart:
            raise RunBroken(
                f"this worker cannot take work: its access key for the {side.name} is not the driver's: give the "
                "worker's own environment the credentials the driver has"
            )


@contextmanager
def leaving_word(dsn: str, run: RunRef) -> Iterator[None]:
    """Writes a refusal to the run's row, where that can be done: of a detached run nobody else may come to tell."""
    try:
        yield
    except RunBroken as refusal:
        with suppress(psycopg.Error), connect(dsn, f"run {run.run_id} check") as conn:
            runs.note_error(conn, run, refusal.message)
        raise
