"""SkipVerified: objects an earlier run proved, and that have not changed since, end here as SKIPPED.

Where rows of a run may hold several objects for one destination key, the one that is proven to be there has it,
else the first to come here, and the others end as FAILED: nothing is written over what the run proves.

One ledger query per batch of about a thousand. An object is skipped when its source row is the one
that was copied, its destination evidence is the best this endpoint gives (any proof, for an object
adopted from another tool), and, where every destination object is to be looked at, a HEAD finds it
there with the ETag recorded. `--recopy` skips nothing, `--retry_failed` all but what earlier runs left undone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, NamedTuple

import apache_beam as beam

from ledger import claims, queries
from model.errors import TransferError
from model.objects import ObjectRef
from model.records import DeadLetter
from model.routing import size_class
from model.status import SizeClass, Status
from storage.checksums import etag_of
from transforms.context import JobContext, adopted_evidence, boundaries, trusted_evidence
from transforms.records import OTHER_OBJECT, unread_record
from transforms.tallies import TALLIES, TallyBook
from transforms.worker_dofn import WorkerDoFn

_HEADS_AT_ONCE = 64


class SkipVerified(beam.PTransform):
    """Lists of `ObjectRef` to the `ObjectRef`s still to be copied, one by one; tallies beside them.

    Args:
      job: the run's context.
    """

    def __init__(self, job: JobContext) -> None:
        super().__init__()
        self._job = job

    def expand(self, refs: Any) -> Any:
        return refs | "Skip" >> beam.ParDo(_SkipFn(self._job)).with_outputs(TALLIES, main="refs")


_Known = dict[str, queries.VerifiedRow]
"""What earlier runs proved, by destination key."""


class _Plan(NamedTuple):
    """What is to become of a batch: to be copied, SKIPPED, or left out."""

    wanted: list[ObjectRef]
    proven: list[ObjectRef]
    others: list[ObjectRef]


class _SkipFn(WorkerDoFn):
    def start_bundle(self) -> None:
        super().start_bundle()
        self._tallies = TallyBook()
        self._tickets: list[Any] = []

    def process(self, element: list[ObjectRef]) -> Iterator[ObjectRef]:
        policy, keys_may_meet = self._job.config.copy, self._job.manifest.keys_may_meet
        known = self._verified(element) if keys_may_meet or not policy.recopy else {}
        if policy.recopy:
            plan = _Plan(element, [], [])
        elif policy.retry_failed:
            plan = self._unfinished(element, known)
        else:
            plan = self._not_proven(element, known)
        if keys_may_meet:
            plan = self._claimed(plan, known)
        for refs, status in ((plan.proven, Status.SKIPPED), (plan.others, Status.EXCLUDED)):
            for ref in refs:
                self._end(ref, status)
        yield from plan.wanted

    def _unfinished(self, element: list[ObjectRef], known: _Known) -> _Plan:
        """What earlier runs left undone is wanted."""
        run, keys = self._job.run, [ref.destination_key for ref in element]
        unfinished = self.worker.ledger.call(lambda conn: queries.unfinished_before(conn, run, keys))
        plan = _Plan([], [], [])
        for ref in element:
            row = known.get(ref.destination_key)
            if ref.destination_key in unfinished:
                plan.wanted.append(ref)
            else:
                (plan.proven if row is not None and _unchanged(ref, row) else plan.others).append(ref)
        return plan

    def _not_proven(self, element: list[ObjectRef], known: _Known) -> _Plan:
        job = self._job
        claims = [(ref, known[ref.destination_key]) for ref in element if ref.destination_key in known]
        same = {ref for ref, row in claims if _unchanged(ref, row)}
        if same and (job.check_each or any(ref.etag is None for ref in same)):
            looks = [(ref, row) for ref, row in claims if ref in same]
            same = self.worker.engine.run(self._still_there(looks))
        return _Plan([ref for ref in element if ref not in same], [ref for ref in element if ref in same], [])

    def _verified(self, element: list[ObjectRef]) -> _Known:
        job, keys = self._job, [ref.destination_key for ref in element]
        kinds = trusted_evidence(job), adopted_evidence(job)
        return self.worker.ledger.call(lambda conn: queries.verified_before(conn, job.run, keys, *kinds))

    def _claimed(self, plan: _Plan, known: _Known) -> _Plan:
        """`plan` without the rows whose destination key is another object's; those end as FAILED."""
        job, rows = self._job, [*plan.proven, *plan.wanted]
        late = {ref for ref in plan.wanted if _is_anothers(ref, known.get(ref.destination_key), job.manifest.buckets)}
        asking = [ref for ref in rows if ref not in late]
        late |= self.worker.ledger.call(lambda conn: claims.claim(conn, job.run, asking))
        if late:
            ordered = [ref for ref in rows if ref in late]
            self._tickets.append(self.worker.ledger.write_dead_letters([_letter(job, ref) for ref in ordered]))
            for ref in ordered:
                kind = self._end(ref, Status.FAILED)
                self.worker.engine.soon(self.worker.count, kind, Status.FAILED)
        proven, wanted = ([ref for ref in refs if ref not in late] for refs in (plan.proven, plan.wanted))
        return _Plan(wanted, proven, plan.others)

    def _end(self, ref: ObjectRef, status: Status) -> SizeClass:
        kind = size_class(ref.size, boundaries(self._job.config))
        self._tallies.add(ref.file_number, kind, status, 1, ref.size)
        if status is not Status.FAILED:
            self.worker.pass_over(1)
        return kind

    def finish_bundle(self) -> Iterator[Any]:
        for ticket in self._tickets:
            ticket.wait()
        yield from self._tallies.close_tagged()

    async def _still_there(self, claims: list[tuple[ObjectRef, queries.VerifiedRow]]) -> set[ObjectRef]:
        places = asyncio.Semaphore(_HEADS_AT_ONCE)

        async def one(ref: ObjectRef, row: queries.VerifiedRow) -> ObjectRef | None:
            async with places:
                source_same = ref.etag is not None or await self._source_has(ref, row)
                there = not self._job.check_each or await self._destination_has(ref, row)
                return ref if source_same and there else None

        found = await asyncio.gather(*(one(ref, row) for ref, row in claims))
        return {ref for ref in found if ref is not None}

    async def _source_has(self, ref: ObjectRef, row: queries.VerifiedRow) -> bool:
        """A row without an ETag says nothing of change: the source itself is asked."""
        copies = self.worker.copies
        try:
            headers = await copies.source.head(ref.bucket, ref.key, version=ref.version_id, checksum_mode=False)
        except TransferError:
            return False
        return etag_of(headers) == row.source_etag

    async def _destination_has(self, ref: ObjectRef, row: queries.VerifiedRow) -> bool:
        copies = self.worker.copies
        try:
            headers = await copies.destination.head(
                copies.rules.destination_bucket, ref.destination_key, checksum_mode=False
            )
        except TransferError:
            return False
        return etag_of(headers) == row.destination_etag


def _is_anothers(ref: ObjectRef, row: queries.VerifiedRow | None, buckets: frozenset[str]) -> bool:
    """Whether the key holds a proven object of another bucket that this run reads an inventory of."""
    return row is not None and row.source_bucket != ref.bucket and row.source_bucket in buckets


def _letter(job: JobContext, ref: ObjectRef) -> DeadLetter:
    kind = size_class(ref.size, boundaries(job.config))
    return DeadLetter.of(unread_record(job, ref, kind, Status.FAILED, OTHER_OBJECT), OTHER_OBJECT)


def _unchanged(ref: ObjectRef, row: queries.VerifiedRow) -> bool:
    return (
        row.source_bucket == ref.bucket
        and row.source_key == ref.key
        and row.source_version == ref.version_id
        and row.size == ref.size
        and (ref.etag is None or row.source_etag == ref.etag)
    )
