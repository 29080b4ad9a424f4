"""The driver of one run: plan, act, account, report, in that order on the page."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import shutil
import signal
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from ledger import accounting, leases, queries, runs
from ledger.connect import Connection
from ledger.leases import RunRef
from ledger.retry import repeat
from ledger.runs import RunStart
from ledger.schema import migrate
from ledger.session import LedgerSession
from model.errors import InvalidInput, LeaseLost, LedgerUnavailable, RunBroken, S3ferryError
from model.outcome import Count, Exit, Gap, exit_code, outcome_of
from model.routing import unit_objects
from model.version import VERSION
from options.config import JobConfig
from options.values import failure_limit
from pipeline.commands.dsn import named_dsn
from pipeline.graph import build_pipeline
from pipeline.preflight import Preflight, job_id
from pipeline.report import Summary, publish_summary, render_table
from pipeline.runners import GraphThread, run_graph
from pipeline.slices import plan_slices, whole_files
from pipeline.watch import Watch, failure_in
from pipeline.workers import is_local, worker_count
from storage.config import Capabilities
from storage.inventory.manifest import Manifest
from transforms.context import FileSlice, JobContext
from transforms.read_inventory import clear_spool
from transforms.worker import MAX_FAILURES, close_worker

_LOGGER = logging.getLogger("s3ferry")

_SAMPLE = 100
"""HEADs that tell whether the destination still holds what earlier runs verified."""


def drive(config: JobConfig, worker_command: str | None, began: float) -> int:
    """Run the job and return the exit code. Raises InvalidInput, RunBroken and LeaseHeld.

    `worker_command` starts one local worker process; None runs the graph in this one, or on a cluster.
    `began` is when the command started, by `time.monotonic`.
    """
    dsn = named_dsn()
    preflight = Preflight(config)
    try:
        manifest = preflight.manifest()
        source_bucket = preflight.source_bucket(manifest)
        migrate(dsn)
        ref = runs.start_run(dsn, _run_start(config, manifest, job_id(config, source_bucket)))
        _LOGGER.info("run %d of job %s: %s", ref.run_id, ref.job, manifest.uri)
        return _Run(config, manifest, source_bucket, ref, dsn, preflight, worker_command, began).execute()
    finally:
        preflight.close()


class _Run:
    """One run under its lease, from the probe to the summary."""

    def __init__(
        self,
        config: JobConfig,
        manifest: Manifest,
        source_bucket: str,
        ref: RunRef,
        dsn: str,
        preflight: Preflight,
        worker_command: str | None,
        began: float,
    ) -> None:
        self._config = config
        self._manifest = manifest
        self._source_bucket = source_bucket
        self._ref = ref
        self._dsn = dsn
        self._preflight = preflight
        self._worker_command = worker_command
        self._began = began
        self._stopped: str | None = None
        self._signalled = False
        self._rows: int | None = None
        self._bad_files = 0

    def execute(self) -> int:
        error: S3ferryError | None = None
        spool_dir = self._config.inventory.spool_dir
        clear_spool(spool_dir, self._ref, others=True)
        try:
            with self._session() as session, self._signals(session):
                job, slices = self._plan(session)
                self._act(session, job, slices)
        except S3ferryError as caught:
            error = caught
        except Exception as caught:  # recorded with the run like any other end
            error = RunBroken(f"unexpected {type(caught).__name__}: {caught}")
            _LOGGER.debug("traceback", exc_info=caught)
        finally:
            clear_spool(spool_dir, self._ref, others=False)
        if isinstance(error, LeaseLost | LedgerUnavailable):
            raise error
        if error is not None:
            _LOGGER.error("%s", error)
        summary = self._account(error)
        self._report(summary)
        return summary.exit_code

    def _session(self) -> LedgerSession:
        ledger = self._config.ledger
        return LedgerSession(
            self._dsn,
            self._ref,
            flush_rows=ledger.flush_rows,
            flush_bytes=ledger.flush_bytes,
            flush_interval_s=ledger.flush_interval_s,
            lease_ttl_s=ledger.lease_ttl_s,
            worker_id="driver",
            on_stop=self._note_stop,
            on_lease_lost=lambda: _LOGGER.error("the lease is lost: nothing more is written under it"),
        )

    def _note_stop(self, reason: str) -> None:
        self._stopped = self._stopped or reason

    @contextlib.contextmanager
    def _signals(self, session: LedgerSession) -> Iterator[None]:
        """SIGINT and SIGTERM ask the run to stop: nothing new is admitted, what is under way ends."""

        def request(reason: str) -> None:
            with contextlib.suppress(S3ferryError):
                session.call(lambda conn: runs.request_stop(conn, self._ref.run_id, reason))

        def stop(number: int, _frame: Any) -> None:
            if self._signalled:
                # asked twice: end at once; the workers go with the nursery, and the next run resumes
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            self._signalled = True
            if self._stopped is None:
                self._stopped = signal.Signals(number).name
                _LOGGER.warning("%s: finishing what is under way, then stopping; once more ends at once", self._stopped)
                # on a thread of its own: the signal may have come in the middle of a call to the session
                threading.Thread(target=request, args=(self._stopped,), daemon=True).start()

        kept = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in kept.items():
                signal.signal(number, handler)

    # plan

    def _plan(self, session: LedgerSession) -> tuple[JobContext, list[list[FileSlice]]]:
        source_can, destination_can = self._preflight.capabilities(self._source_bucket)
        _LOGGER.info("destination: %s", _words(destination_can))
        slices = self._slices()
        job = JobContext(
            config=self._sharing(slices),
            run=self._ref,
            token=uuid.uuid4().hex,
            manifest=self._manifest,
            source_bucket=self._source_bucket,
            source_can=source_can,
            destination_can=destination_can,
            workers=worker_count(self._config),
            copy_mode=self._preflight.copy_mode(),
            check_each=self._must_check_each(session),
        )
        return job, slices

    def _slices(self) -> list[list[FileSlice]]:
        if not is_local(self._config):
            return whole_files(len(self._manifest.files))
        counted, self._bad_files = self._preflight.count_rows(self._manifest, self._ref)
        self._rows = sum(rows for _, rows in counted)
        return plan_slices(counted, self._config.routing.slice_rows)

    def _sharing(self, slices: Sequence[Sequence[FileSlice]]) -> JobConfig:
        """The configuration, with units small enough that every worker gets its share of a short manifest."""
        if self._rows is None:
            return self._config
        config, workers = self._config, worker_count(self._config)
        rows = max(sum((piece.stop or 0) - piece.start for piece in pieces) for pieces in slices)
        routing = dataclasses.replace(
            config.routing,
            small_unit_objects=unit_objects(config.routing.small_unit_objects, rows, workers),
            medium_unit_objects=unit_objects(config.routing.medium_unit_objects, rows, workers),
        )
        return dataclasses.replace(config, routing=routing)

    def _must_check_each(self, session: LedgerSession) -> bool:
        """Whether SkipVerified has to look at each object: asked for, or a sample found some missing."""
        mode = self._config.copy.check_destination
        if mode != "sample":
            return mode == "list"
        sample = session.call(lambda conn: queries.sample_verified(conn, self._ref.job, _SAMPLE))
        missing = self._preflight.missing_at_destination(sample)
        if missing:
            _LOGGER.warning(
                "%d of %d sampled objects are not at the destination as recorded: every one is checked",
                missing,
                len(sample),
            )
        return missing > 0

    # act

    def _act(self, session: LedgerSession, job: JobContext, slices: Sequence[Sequence[FileSlice]]) -> None:
        def graph(number: int) -> None:
            last = number == len(slices) - 1
            run_graph(
                self._config,
                self._worker_command,
                lambda pipeline: build_pipeline(pipeline, job, slices[number], number, last=last),
            )

        def graphs() -> None:
            try:
                for number in range(len(slices)):
                    if self._stopped is None:
                        graph(number)
            finally:
                close_worker()

        thread = GraphThread(graphs)
        thread.start_with_signals_blocked()
        limit = failure_limit(self._config.run.max_failures) if self._config.run.max_failures else None
        with Watch(session, self._ref, self._rows, limit) as watch:
            while thread.is_alive():
                thread.join(timeout=watch.look())
        if thread.error is not None:
            failure = failure_in(thread.error)
            if isinstance(failure, LeaseLost):
                session.require_lease()
                # a worker could not renew, but the run still holds its lease: it ends like any that broke
                failure = RunBroken(f"a worker stopped: {failure.message}")
            raise failure

    # account

    def _account(self, error: S3ferryError | None) -> Summary:
        """Count, reconcile and close the run; repeatable."""
        return repeat(self._dsn, f"run {self._ref.run_id} account", lambda conn: self._close(conn, error))

    def _close(self, conn: Connection, error: S3ferryError | None) -> Summary:
        counts = tuple(Count(*count) for count in accounting.summary_counts(conn, self._ref.run_id))
        gaps = accounting.reconcile(conn, self._ref)
        stop = runs.run_status(conn, self._ref.run_id).stop_requested or self._stopped
        if stop == MAX_FAILURES and error is None:
            error = RunBroken(f"stopped: more failures than --max_failures={self._config.run.max_failures}")
        if stop is not None or error is not None:
            gaps = []
        for gap in gaps:
            _LOGGER.error("the accounts do not balance: %s", gap)
        open_gaps = tuple(Gap(gap.file_number, gap.expected, gap.found) for gap in gaps)
        strict = self._config.run.strict_source
        code = exit_code(counts, open_gaps, stopped=stop is not None, broken=error is not None, strict_source=strict)
        if isinstance(error, InvalidInput):
            code = Exit.USAGE
        summary = self._summary(code, counts, open_gaps, error, queries.first_start(conn, self._ref.run_id))
        runs.finish_run(conn, self._ref, outcome_of(code), int(code), summary.as_dict(), summary.error)
        leases.release(conn, self._ref)
        return summary

    def _summary(
        self,
        code: Exit,
        counts: tuple[Count, ...],
        gaps: tuple[Gap, ...],
        error: S3ferryError | None,
        first_start: float | None,
    ) -> Summary:
        seconds = time.monotonic() - self._began
        start_up = seconds if first_start is None else max(0.0, seconds - (time.time() - first_start))
        return Summary(
            run_id=self._ref.run_id,
            job=self._ref.job,
            manifest=self._manifest.uri,
            destination=f"s3://{self._config.destination.bucket}/{self._config.destination.prefix}",
            runner=self._config.run.runner,
            outcome=outcome_of(code),
            exit_code=int(code),
            seconds=seconds,
            start_up_seconds=start_up,
            rows=sum(count.objects for count in counts),
            bad_files=self._bad_files,
            counts=counts,
            gaps=gaps,
            error=error.message if error else None,
        )

    def _report(self, summary: Summary) -> None:
        target = self._config.run.summary
        table = sys.stderr if target == "-" else sys.stdout
        table.write(render_table(summary, shutil.get_terminal_size().columns))
        if target:
            publish_summary(summary, target, sys.stdout)


def _run_start(config: JobConfig, manifest: Manifest, job: str) -> RunStart:
    return RunStart(
        job=job,
        manifest=manifest.uri,
        manifest_checksum=manifest.checksum,
        package_version=VERSION,
        options=dataclasses.asdict(config),
        destination_endpoint=config.destination_endpoint.endpoint_url or "aws",
        destination_bucket=config.destination.bucket,
        destination_prefix=config.destination.prefix,
        lease_ttl_s=config.ledger.lease_ttl_s,
    )


_WORDS = {
    "signed_body": "refuses wrong signed bodies",
    "trailing_checksum": "refuses wrong trailing CRC64NVME",
    "full_object_crc": "checks the CRC64NVME of whole multipart objects",
    "etag_is_md5": "its ETag is the MD5",
}


def _words(can: Capabilities) -> str:
    """What a destination can do, for the log."""
    return ", ".join(text for name, text in _WORDS.items() if getattr(can, name)) or "no checks of its own"
