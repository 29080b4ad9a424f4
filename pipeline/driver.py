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
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC
from functools import partial
from typing import Any, NamedTuple

from ledger import accounting, claims, destination_rows, leases, queries, runs
from ledger.accounting import ExpectedFile
from ledger.connect import Connection, transaction
from ledger.digest import seal
from ledger.leases import RunRef
from ledger.process import ProcessIdentity, this_process
from ledger.reconciliation import gap_lines, gap_queries, reconcile
from ledger.retry import repeat
from ledger.runs import RunStart
from ledger.schema import migrate
from ledger.session import LedgerSession
from model.errors import InvalidInput, LeaseLost, LedgerUnavailable, RunBroken, S3ferryError
from model.outcome import Count, Ending, Exit, RunKind, ending
from model.version import VERSION
from options.config import JobConfig
from options.values import failure_limit
from pipeline.clusters import Preset
from pipeline.commands.dsn import named_dsn
from pipeline.export.run_files import EXTRA, RESTORE, RETRY, export_dead, require_folder
from pipeline.failures import failure_in
from pipeline.graph import build_loading, build_pipeline
from pipeline.nursery import Nursery
from pipeline.preflight import Preflight, job_id
from pipeline.report import Summary, publish_summary, render_table
from pipeline.runners import GraphThread, preset_of, run_graph
from pipeline.slices import most_rows, plan_slices, rows_about, shared, whole_files
from pipeline.watch import Watch
from pipeline.workers import is_local
from storage.config import Capabilities
from storage.copier import CopyMode
from storage.inventory.manifest import Manifest
from transforms.context import FileSlice, JobContext
from transforms.read_inventory import clear_spool, input_file
from transforms.worker import close_worker
from transforms.worker_checks import static_principals

_LOGGER = logging.getLogger("s3ferry")

_ACCOUNTING_S = 3600.0
"""How long one statement of the accounts may take."""
_SAMPLE = 100
"""HEADs that tell whether the destination still holds what earlier runs verified."""


def drive(config: JobConfig, nursery: Nursery | None, began: float) -> int:
    """Run the job and return the exit code. Raises InvalidInput, RunBroken and LeaseHeld.

    `nursery` starts local worker processes; None runs the graph in this one, or on a cluster.
    `began` is when the command started, by `time.monotonic`.
    """
    dsn = named_dsn()
    if config.run.export:
        require_folder("--export", config.run.export)
    preset = preset_of(config)
    preflight = Preflight(config)
    try:
        manifest = preflight.manifest()
        destination_manifest = preflight.destination_manifest()
        source_buckets = preflight.source_buckets(manifest)
        migrate(dsn)
        start = _run_start(config, manifest, job_id(config, source_buckets))
        ref = runs.start_run(dsn, start, holder=_holder(config))
        _LOGGER.info("run %d (%s) of job %s: %s", ref.run_id, _kind(config), ref.job, manifest.uri)
        inputs = _Inputs(manifest, source_buckets[0], destination_manifest, preset.named(f"s3ferry-run-{ref.run_id}"))
        return _Run(config, inputs, ref, dsn, preflight, nursery, began).execute()
    finally:
        preflight.close()


class _Inputs(NamedTuple):
    """What a run reads, found before it starts."""

    manifest: Manifest
    source_bucket: str
    destination_manifest: Manifest | None
    preset: Preset


class _Run:
    """One run under its lease, from the probe to the summary."""

    def __init__(
        self,
        config: JobConfig,
        inputs: _Inputs,
        ref: RunRef,
        dsn: str,
        preflight: Preflight,
        nursery: Nursery | None,
        began: float,
    ) -> None:
        self._config = config
        self._manifest = inputs.manifest
        self._source_bucket = inputs.source_bucket
        self._destination_manifest = inputs.destination_manifest
        self._preset = inputs.preset
        self._ref = ref
        self._dsn = dsn
        self._preflight = preflight
        self._nursery = nursery
        self._worker_command = nursery.command if nursery else None
        self._began = began
        self._stopped: str | None = None
        self._signalled = False
        self._handed_over = False
        self._rows: int | None = None

    def execute(self) -> int:
        # the lease is renewed until the run is closed, however long accounting takes
        with self._session() as session:
            error = self._carry_out(session)
            if error is None and self._handed_over:
                return self._leave()
            if isinstance(error, LeaseLost | LedgerUnavailable):
                raise error
            if error is not None:
                _LOGGER.error("%s", error)
            if self._nursery is not None:
                # whatever they are at, they are gone before the next run may start
                self._nursery.close()
            summary = self._account(error)
        summary = dataclasses.replace(summary, records_digest=self._seal())
        summary, failure = self._export(summary)
        self._report(summary)
        if failure is not None:
            raise failure
        return summary.exit_code or Exit.OK

    def _carry_out(self, session: LedgerSession) -> S3ferryError | None:
        """Plan and act; what went wrong, if anything did."""
        error: S3ferryError | None = None
        spool_dir = self._config.inventory.spool_dir
        clear_spool(spool_dir, self._ref, others=True)
        try:
            with self._signals(session):
                job, slices = self._plan(session)
                self._act(session, job, slices)
        except S3ferryError as caught:
            error = caught
        except Exception as caught:  # recorded with the run like any other end
            error = RunBroken(f"unexpected {type(caught).__name__}: {caught}")
            _LOGGER.debug("traceback", exc_info=caught)
        finally:
            if error is not None or not self._config.run.detach:
                clear_spool(spool_dir, self._ref, others=False)
        return error

    def _leave(self) -> Exit:
        """A cluster has the graph, which closes the run and frees its job; a signal meanwhile is passed on to it."""
        run_id = self._ref.run_id
        sys.stdout.write(f"run {run_id}\n")
        if not self._signalled:
            return Exit.OK
        with contextlib.suppress(InvalidInput):  # it has ended already
            repeat(self._dsn, f"stop {run_id}", lambda conn: runs.request_stop(conn, run_id, str(self._stopped)))
        _LOGGER.warning("run %d is on the cluster and stops there: `s3ferry status --wait %d`", run_id, run_id)
        return Exit.INTERRUPTED

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
                # process 1 of a container outlives that
                os._exit(128 + number)
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
        copies = self._config.verify is None
        if copies:
            _LOGGER.info("destination: %s", _words(destination_can))
        if copies and self._manifest.keys_may_meet:
            session.call(lambda conn: claims.make_room(conn, self._ref))
        slices = self._slices(session)
        source_principal, destination_principal = static_principals(self._config)
        job = JobContext(
            config=self._sharing(slices),
            run=self._ref,
            token=uuid.uuid4().hex,
            manifest=self._manifest,
            source_bucket=self._source_bucket,
            source_can=source_can,
            destination_can=destination_can,
            workers=self._preset.workers,
            copy_mode=self._preflight.copy_mode() if copies else CopyMode.STREAM,
            check_each=copies and self._must_check_each(session),
            destination_manifest=self._destination_manifest,
            started_at=session.call(lambda conn: runs.run_status(conn, self._ref.run_id).started_at).astimezone(UTC),
            source_principal=source_principal,
            destination_principal=destination_principal,
        )
        return job, slices

    def _slices(self, session: LedgerSession) -> list[list[FileSlice]]:
        if not is_local(self._config):
            self._expect(session, {}, {})
            return whole_files(len(self._manifest.files))
        counted, bad = self._preflight.count_rows(self._manifest, self._ref)
        self._expect(session, dict(counted), bad)
        self._rows = sum(rows for _, rows in counted)
        return plan_slices(counted, self._config.routing.slice_rows)

    def _expect(self, session: LedgerSession, rows: Mapping[int, int], bad: Mapping[int, str]) -> None:
        """Note what is to be read, for the accounts: rows by file where they are counted, and bad files."""
        numbers = (file.file_number for file in self._manifest.files)
        files = [ExpectedFile(input_file(self._manifest, n), rows.get(n), bad.get(n)) for n in numbers]
        session.call(lambda conn: accounting.expect_files(conn, self._ref, files))

    def _sharing(self, slices: Sequence[Sequence[FileSlice]]) -> JobConfig:
        sizes = [file.size for file in self._manifest.files]
        rows = rows_about(sizes) if self._rows is None else most_rows(slices)
        return shared(self._config, rows, self._preset.workers)

    def _must_check_each(self, session: LedgerSession) -> bool:
        """Whether SkipVerified has to look at each object: asked for, or a sample found some missing."""
        mode = self._config.copy.check_destination
        if self._config.copy.recopy or self._config.copy.retry_failed:
            return False
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
                self._preset,
                self._worker_command,
                lambda pipeline: build_pipeline(pipeline, job, slices[number], number, last=last),
                detach=self._config.run.detach,
            )
            self._handed_over = self._config.run.detach

        def graphs() -> None:
            try:
                if self._is_joined:
                    self._load_destination(session, job)
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

    @property
    def _is_joined(self) -> bool:
        return self._config.verify is not None and self._config.verify.is_joined

    def _load_destination(self, session: LedgerSession, job: JobContext) -> None:
        """What the destination holds into the ledger, from its inventory or a listing. Repeatable."""
        session.call(lambda conn: destination_rows.make_room(conn, self._ref))
        if self._destination_manifest is not None:
            [files] = whole_files(len(self._destination_manifest.files))
            run_graph(self._preset, self._worker_command, lambda pipeline: build_loading(pipeline, job, files))
            return
        for objects in self._preflight.destination_listing():
            session.call(partial(destination_rows.keep_listed, ref=self._ref, objects=objects))

    # account

    def _account(self, error: S3ferryError | None) -> Summary:
        """Count, reconcile and close the run; repeatable. Also where the driver's session was what broke."""

        def close(conn: Connection) -> Summary:
            with transaction(conn, _ACCOUNTING_S):
                return self._close(conn, error)

        return repeat(self._dsn, f"run {self._ref.run_id} account", close)

    def _close(self, conn: Connection, error: S3ferryError | None) -> Summary:
        counts = tuple(Count(*count) for count in accounting.summary_counts(conn, self._ref.run_id))
        policy = self._config.run
        end = ending(
            counts,
            reconcile(conn, self._ref),
            stop=runs.run_status(conn, self._ref.run_id).stop_requested or self._stopped,
            error=error,
            max_failures=policy.max_failures,
            strict_source=policy.strict_source,
        )
        for line in gap_lines(self._ref.run_id, end.gaps):
            _LOGGER.error("%s", line)
        summary = self._summary(conn, end, counts)
        if self._config.verify is not None:
            summary = self._with_findings(conn, summary, end)
        runs.finish_run(conn, self._ref, end.outcome, int(end.code), summary.as_dict(), summary.error)
        leases.release(conn, self._ref)
        return summary

    def _seal(self) -> str | None:
        """Store one digest over the run's records, after its release: no worker is left to write any.

        Apart from the accounts, because it reads every row, and a run that is closed stays closed without it.
        """
        try:
            digest = repeat(self._dsn, f"run {self._ref.run_id} seal", lambda conn: seal(conn, self._ref.run_id))
        except S3ferryError as error:
            _LOGGER.error("no digest of the run's records could be stored: %s", error)
            _LOGGER.error("the run itself has ended: store it with `s3ferry ledger seal %d`", self._ref.run_id)
            return None
        _LOGGER.info("%d records, SHA-256 over them %s", digest.records, digest.sha256)
        return digest.sha256

    # report

    def _export(self, summary: Summary) -> tuple[Summary, S3ferryError | None]:
        """Dead letters and manifests for `--export`, and what went wrong with them: the run itself has ended."""
        folder = self._config.run.export
        if folder is None:
            return summary, None
        try:
            written = export_dead(self._dsn, self._ref.run_id, folder)
        except S3ferryError as error:
            remedy = f"the run has ended and is recorded: write the files with `s3ferry ledger export {summary.run_id}`"
            return summary, RunBroken(f"--export: {error.message}; {remedy}")
        with_paths = dataclasses.replace(
            summary,
            retry_manifest=written.path(RETRY),
            restore_manifest=written.path(RESTORE),
            extra_manifest=written.path(EXTRA),
        )
        return with_paths, None

    def _with_findings(self, conn: Connection, summary: Summary, end: Ending) -> Summary:
        """The summary of a verification, with what its rows alone do not tell."""
        unadopted, found = queries.same_but_not_verified(conn, self._ref), None
        if self._is_joined:
            found = destination_rows.seen_extras(conn, self._ref, end.code, summary.bad_files, end.gaps)
        if found is None:
            return dataclasses.replace(summary, unadopted_objects=unadopted)
        if found.objects:
            _LOGGER.warning(
                "%d objects at the destination are not in the source's inventory, such as %s",
                found.objects,
                ", ".join(found.examples),
            )
        return dataclasses.replace(summary, unadopted_objects=unadopted, extra_objects=found.objects)

    def _summary(self, conn: Connection, end: Ending, counts: tuple[Count, ...]) -> Summary:
        run_id = self._ref.run_id
        first_start = queries.first_start(conn, run_id)
        seconds = time.monotonic() - self._began
        start_up = seconds if first_start is None else max(0.0, seconds - (time.time() - first_start))
        return Summary(
            run_id=run_id,
            job=self._ref.job,
            manifest=self._manifest.uri,
            destination=f"s3://{self._config.destination.bucket}/{self._config.destination.prefix}",
            runner=self._config.run.runner,
            outcome=end.outcome,
            exit_code=int(end.code),
            seconds=seconds,
            start_up_seconds=start_up,
            rows=sum(count.objects for count in counts),
            counts=counts,
            gaps=end.gaps,
            gap_queries=tuple(gap_queries(run_id, end.gaps)),
            bad_files=accounting.bad_files(conn, run_id),
            error=end.error.message if end.error else None,
            kind=_kind(self._config),
        )

    def _report(self, summary: Summary) -> None:
        target = self._config.run.summary
        table = sys.stderr if target == "-" else sys.stdout
        table.write(render_table(summary, shutil.get_terminal_size().columns))
        if target:
            publish_summary(summary, target, sys.stdout)


def _holder(config: JobConfig) -> ProcessIdentity:
    """Who holds the run's lease: a detached run outlives this process, so no other may find its holder gone."""
    me = this_process()
    return dataclasses.replace(me, host=f"{me.host} (detached)") if config.run.detach else me


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
        lease_wait_s=config.ledger.lease_wait_s,
        kind=_kind(config),
    )


def _kind(config: JobConfig) -> RunKind:
    return RunKind.RUN if config.verify is None else RunKind.VERIFY


_WORDS = {
    "signed_body": "refuses wrong signed bodies",
    "trailing_checksum": "refuses wrong trailing CRC64NVME",
    "full_object_crc": "checks the CRC64NVME of whole multipart objects",
    "etag_is_md5": "its ETag is the MD5",
}


def _words(can: Capabilities) -> str:
    """What a destination can do, for the log."""
    return ", ".join(text for name, text in _WORDS.items() if getattr(can, name)) or "no checks of its own"
