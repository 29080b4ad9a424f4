"""`Worker`: the one engine, the two clients and the ledger session of a worker process.

The only global state of the package. DoFns ask for it in `start_bundle`; the first one makes it.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from ledger.buffer import Ticket
from ledger.dsn import ledger_dsn
from ledger.objects import Merge, RowOutcome
from ledger.session import LedgerSession
from model.errors import LeaseLost, RunBroken, S3ferryError
from model.outcome import FAILURES, MAX_FAILURES
from model.records import IntegrityRecord
from model.status import AT_DESTINATION, SizeClass, Status
from options.config import JobConfig
from options.redaction import redactor
from options.run import CLUSTER_RUNNERS
from options.values import failure_limit
from storage.capabilities import probe_reads, probe_writes
from storage.client import Permit, S3Client, always
from storage.config import StoreConfig
from storage.control import make_control_client
from storage.copier import CopyContext, CopyRules
from storage.credentials import make_session, region_of
from storage.engine import Engine
from storage.limits import Admission, EndpointLimit, Rate
from storage.memory import keep_freed_memory, spare_collector
from storage.multipart import CONTROL_THREADS, Multipart
from storage.signing import Signer
from storage.transports import Transports, make_transports, may_share
from transforms.circuit_breaker import WorkersBreaker, trip
from transforms.context import JobContext, evidence_grade, kept_digests, store_config, transfer_limits
from transforms.worker_checks import leaving_word, require_ledger, require_principals, require_version, sides_of

_IDLE_S = 600.0


class Worker:
    """What one process needs to take work for one run. Made on first use, closed with the process."""

    def __init__(self, job: JobContext, dsn: str) -> None:
        keep_freed_memory()
        config = job.config
        self.job = job
        self.limits = transfer_limits(config, job.workers)
        self.counters: dict[str, int] = {}
        self.touch()
        self._redact = redactor(os.environ)
        limit = failure_limit(config.run.max_failures) if config.run.max_failures else None
        self._most_failures = limit.rows if limit else None
        in_flight = self.limits.small_in_flight + self.limits.medium_in_flight + self.limits.parts_in_flight
        endpoint_limits = (EndpointLimit(in_flight), EndpointLimit(in_flight))
        self.admission = Admission(
            {
                SizeClass.SMALL: self.limits.small_in_flight,
                SizeClass.MEDIUM: self.limits.medium_in_flight,
                SizeClass.LARGE: self.limits.parts_in_flight,
            },
            self.limits.memory_budget_bytes,
            endpoint_limits,
        )
        self.engine = Engine()
        stores = store_config(config.source, config), store_config(config.destination_endpoint, config)
        transports = make_transports(stores[0])
        source, self.source_control = open_client(stores[0], endpoint_limits[0], transports=transports)
        destination, control = open_client(
            stores[1], endpoint_limits[1], self._permit, transports if may_share(*stores) else None
        )
        self.copies = CopyContext(
            source=source,
            destination=destination,
            destination_control=control,
            source_can=job.source_can,
            destination_can=job.destination_can,
            rules=CopyRules(
                destination_bucket=config.destination.bucket,
                evidence=evidence_grade(config),
                copy_changed=config.copy.on_change == "copy",
                remove_mismatch=config.copy.on_mismatch == "remove",
                source_etag_md5=config.copy.source_etag == "md5",
                digests=kept_digests(config),
                copy_mode=job.copy_mode,
                record_replaced=config.copy.record_replaced,
            ),
            limits=self.limits,
            requests=Rate(self.limits.requests_per_s),
            bytes=Rate(self.limits.bytes_per_s),
        )
        if config.run.runner in CLUSTER_RUNNERS:
            self._require_rights()
        self._threads = ThreadPoolExecutor(CONTROL_THREADS, thread_name_prefix="control")
        self.multipart = Multipart(self.copies, self._threads, self._make_once)
        self.ledger = LedgerSession(
            dsn,
            job.run,
            flush_rows=config.ledger.flush_rows,
            flush_bytes=config.ledger.flush_bytes,
            flush_interval_s=config.ledger.flush_interval_s,
            lease_ttl_s=config.ledger.lease_ttl_s,
            worker_id=f"{socket.gethostname()}-{os.getpid()}",
            on_stop=self.stop,
            on_lease_lost=self._lose,
            merge=merge_of(config),
        )
        self.ledger.report(self.counters)
        # otherwise the driver judges what all workers report
        watched = limit if config.run.detach else None
        self._breaker = WorkersBreaker(self.ledger, job.run.run_id, watched, self.counters) if watched else None
        spare_collector()

    def _require_rights(self) -> None:
        """Ask both endpoints, as the driver did with what may be other credentials. Raises RunBroken."""
        config = self.job.config
        destination = config.destination
        try:
            self.engine.run(probe_reads(self.copies.source, self.job.source_bucket))
            self.engine.run(probe_reads(self.copies.destination, destination.bucket))
            if config.verify is None and not sides_of(self.job)[1].is_proven:
                store = store_config(config.destination_endpoint, config)
                control = make_control_client(store, make_session(store))
                self.engine.run(probe_writes(control, destination.bucket, destination.prefix))
        except S3ferryError as error:
            self.engine.close()
            raise RunBroken(f"this worker cannot take work: {error.message}") from None

    def touch(self) -> None:
        """Something is being done for the run: to be said of what is neither a transfer nor asked of the ledger."""
        self._used_at = time.monotonic()

    def idle_s(self) -> float:
        """Seconds since this process last did anything for the run. Not to be asked on the engine's loop."""
        if self.engine.is_busy() or self.ledger.is_busy:
            self.touch()
        return time.monotonic() - max(self._used_at, self.ledger.used_at)

    def stop(self, reason: str) -> None:
        """Admit nothing more; what is under way ends."""
        self.engine.soon(self.admission.stop, reason)

    def count_bytes(self, size_class: SizeClass, copied: int) -> None:
        """Count bytes that arrived, for the heartbeat: of a large object part by part. On the engine's loop only."""
        name = f"{size_class}.bytes"
        self.counters[name] = self.counters.get(name, 0) + copied

    def count(self, size_class: SizeClass, status: Status) -> None:
        """Count one ended object for the heartbeat. Called on the engine's loop only.

        Trips the circuit breaker once this worker alone has more failures than `--max_failures=N`.
        """
        counters = self.counters
        counters[f"{size_class}.objects"] = counters.get(f"{size_class}.objects", 0) + 1
        if status in FAILURES:
            counters["failed"] = counters.get("failed", 0) + 1
            counters[f"{size_class}.failed"] = counters.get(f"{size_class}.failed", 0) + 1
            if self._most_failures is not None and counters["failed"] > self._most_failures:
                self._most_failures = None
                self.admission.stop(MAX_FAILURES)
                # a call to the ledger would hold the loop up
                threading.Thread(target=self._request_stop, daemon=True).start()

    def _lose(self) -> None:
        """The lease is lost: what is under way ends at once."""
        run = self.job.run
        line = f"run {run.run_id} of job {run.job} lost its lease, or could not renew it in time: it stops here"
        self.engine.cancel_all(LeaseLost(line))

    def _make_once(self) -> Any:
        """A control client of the destination that repeats nothing, for Complete."""
        store = store_config(self.job.config.destination_endpoint, self.job.config)
        return make_control_client(store, make_session(store), self._permit, attempts=1)

    def _permit(self) -> None:
        self.ledger.require_lease()

    def _request_stop(self) -> None:
        """Tell the other workers, and the driver why rows are left."""
        run_id = self.job.run.run_id
        with suppress(S3ferryError):
            trip(self.ledger, run_id)

    def count_record(self, record: IntegrityRecord) -> None:
        """Count one object that was copied, or tried, in one piece. On the engine's loop only."""
        if record.status in AT_DESTINATION:
            self.count_bytes(record.size_class, record.size)
        self.count(record.size_class, record.status)

    def record(self, records: Sequence[IntegrityRecord]) -> Ticket[list[RowOutcome]]:
        """Hands records over to the ledger, as `LedgerSession.write`; secrets in their errors are masked first.

        So the ledger, its digest and every export hold the same text.
        """
        redact = self._redact
        return self.ledger.write([one._replace(error=redact(one.error)) if one.error else one for one in records])

    def pass_over(self, rows: int) -> None:
        """Count rows that end without a transfer, for the heartbeat."""
        self.touch()
        self.counters["passed_over"] = self.counters.get("passed_over", 0) + rows

    def close(self) -> None:
        """Flush the ledger, close the connections, end the loop. May be called twice."""
        if self._breaker is not None:
            self._breaker.close()
        self.ledger.close()
        self.engine.run(self.copies.source.close())
        self.engine.run(self.copies.destination.close())
        self.engine.close()
        self._threads.shutdown(wait=False, cancel_futures=True)


def merge_of(config: JobConfig) -> Merge:
    """What this job's records do to the ledger's objects."""
    if config.verify is None:
        return Merge.COPIES
    return Merge.ADOPTIONS if config.verify.adopt else Merge.FINDINGS


def open_client(
    store: StoreConfig, limit: EndpointLimit, permit: Permit = always, transports: Transports | None = None
) -> tuple[S3Client, Any]:
    """The data-plane client and the boto3 client of one endpoint; `permit` as in `S3Client`, `transports` its own
    unless they are given."""
    session = make_session(store)
    control = make_control_client(store, session, permit)
    signer = Signer(session, region_of(store, session), store.side)
    fast, careful = transports or make_transports(store)
    return S3Client(store, control.meta.endpoint_url, signer, fast, careful, limit, permit), control


def make_worker(job: JobContext) -> Worker:
    """A worker of this process. Raises RunBroken where it cannot take work; the ledger is told of it too."""
    dsn = ledger_dsn(os.environ)
    if dsn is None:
        raise RunBroken("this worker has no ledger: set LEDGER_DSN in the worker's own environment")
    with leaving_word(dsn, job.run):
        require_version(job.version)
    if job.config.run.runner not in CLUSTER_RUNNERS:
        return Worker(job, dsn)
    require_ledger(dsn, job)
    with leaving_word(dsn, job.run):
        require_principals(job)
        return Worker(job, dsn)


class _Shared:
    """The process's worker. A run with another token closes the one before it.

    On a cluster it is closed, too, once it has had nothing to do for `idle_s` seconds: where a job that was cancelled
    left its processes behind, they would hold the run's lease for ever. Whoever asks for it later gets a new one.
    """

    def __init__(self, idle_s: float = _IDLE_S) -> None:
        self._lock = threading.Lock()
        self._idle_s = idle_s
        self._worker: Worker | None = None

    def get(self, job: JobContext, make: Callable[[JobContext], Worker] = make_worker) -> Worker:
        with self._lock:
            if self._worker is None or self._worker.job.token != job.token:
                if self._worker is not None:
                    self._worker.close()
                self._worker = None
                self._worker = make(job)
                if job.config.run.runner in CLUSTER_RUNNERS:
                    threading.Thread(target=self._watch, args=(self._worker,), name="idle", daemon=True).start()
            self._worker.touch()
            return self._worker

    def _watch(self, worker: Worker) -> None:
        while not self._is_over(worker):
            time.sleep(self._idle_s / 20)

    def _is_over(self, worker: Worker) -> bool:
        """Close the worker if it is idle; whether it is closed."""
        with self._lock:
            if self._worker is not worker:
                return True
            if worker.idle_s() < self._idle_s:
                return False
            self._worker = None
            with suppress(S3ferryError):  # its run is over for other reasons
                worker.close()
            return True

    def close(self) -> None:
        with self._lock:
            if self._worker is not None:
                self._worker.close()
            self._worker = None


_shared = _Shared()


def worker_of(job: JobContext) -> Worker:
    """The worker of this process for `job`. Raises RunBroken where it cannot take work."""
    return _shared.get(job)


def close_worker() -> None:
    """Close this process's worker, if there is one."""
    _shared.close()
