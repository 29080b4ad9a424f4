"""What an effect leaves behind: integrity records of objects, results of parts, tallies of rows."""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Any, NamedTuple

from model.objects import ObjectRef
from model.status import DestinationEvidence, SizeClass, SourceEvidence, Status


class IntegrityRecord(NamedTuple):
    """How one object ended, as the ledger keeps it.

    Times are seconds since the epoch; `size` is in bytes, as transferred where there was a transfer.
    md5 and sha256 are lower-case hex (as md5sum prints them), the CRCs are base64 (as S3 prints them).
    `recorded` marks a result this run has already made durable: it is counted, not written again.
    `untouched` marks one that left the destination as it was: nothing was sent there that can have taken effect.
    """

    file_number: int
    row_number: int
    source_bucket: str
    source_key: str
    source_version: str | None
    destination_bucket: str
    destination_key: str
    size: int
    size_class: SizeClass
    status: Status
    source_etag: str | None = None
    destination_etag: str | None = None
    destination_version: str | None = None
    md5: str | None = None
    sha256: str | None = None
    crc64nvme: str | None = None
    crc32c: str | None = None
    source_evidence: SourceEvidence = SourceEvidence.NONE
    destination_evidence: DestinationEvidence = DestinationEvidence.NONE
    attempts: int = 0
    started_at: float = 0.0
    finished_at: float = 0.0
    error: str | None = None
    replaced_etag: str | None = None
    replaced_version: str | None = None
    """What the destination held before, where the run was told to look."""
    recorded: bool = False
    untouched: bool = False

    @classmethod
    def of(
        cls, ref: ObjectRef, destination_bucket: str, size_class: SizeClass, status: Status, **more: Any
    ) -> IntegrityRecord:
        """The record of `ref`, with `more` of the fields its reference does not give."""
        return cls(
            file_number=ref.file_number,
            row_number=ref.row_number,
            source_bucket=ref.bucket,
            source_key=ref.key,
            source_version=ref.version_id,
            destination_bucket=destination_bucket,
            destination_key=ref.destination_key,
            size=ref.size,
            size_class=size_class,
            status=status,
            **more,
        )


class DeadLetter(NamedTuple):
    """A row that could not be taken or recorded, kept in the ledger with its reason."""

    file_number: int
    row_number: int
    status: Status
    reason: str
    text: str

    @classmethod
    def of(cls, record: IntegrityRecord, reason: str) -> DeadLetter:
        """That of a row that failed although an object was made of it."""
        text = f"{record.source_bucket}/{record.source_key} -> {record.destination_bucket}/{record.destination_key}"
        return cls(record.file_number, record.row_number, Status.FAILED, reason, text)


class Tally(NamedTuple):
    """How many rows of one input file ended one way. `status` None counts the rows read."""

    file_number: int
    size_class: SizeClass | None
    status: Status | None
    objects: int
    object_bytes: int


class PartRecord(NamedTuple):
    """One uploaded part, durable in the ledger. `etag` without quotes; digests as in IntegrityRecord."""

    number: int
    size: int
    etag: str
    md5: str | None
    sha256: str | None
    crc64nvme: str | None
    crc32c: str | None = None

    def has(self, digests: frozenset[str]) -> bool:
        """Whether it has each of these digests, by the names of its fields."""
        return all(getattr(self, name) is not None for name in digests)


class SentPart(NamedTuple):
    """A part and the upload it was sent to: `identity` as in `Upload`."""

    identity: str
    upload_id: str
    part: PartRecord


class Layout(StrEnum):
    """Where an upload's part plan comes from."""

    OWN = "own"
    GUESSED = "guessed"
    """The source's, as its ETag and size suggest."""
    SOURCE = "source"
    """The source's, as its server told."""


class Upload(NamedTuple):
    """A multipart upload at the destination, open for one object under one part plan.

    `identity` is derived from the data (see `upload_identity`), so that any worker that opens the same
    object finds the same row. `recorded` are the parts an earlier run or bundle left in the ledger. `runs`
    (see `model.parts`) are given where the parts are not equal, until the object is split.
    """

    identity: str
    upload_id: str
    source: ObjectRef
    source_etag: str
    destination_bucket: str
    part_size: int
    part_count: int
    full_object_crc: bool
    started_at: float
    recorded: tuple[PartRecord, ...] = ()
    layout: Layout = Layout.OWN
    runs: tuple[tuple[int, int], ...] = ()
    on_server: bool = False
    """The server copies the parts itself: they have no digests of ours."""

    def digests(self, kept: frozenset[str]) -> frozenset[str]:
        """What its parts are to have where `kept` is kept of bodies; the source's ETag is made of MD5s."""
        if self.on_server:
            return frozenset()
        return kept if self.layout is Layout.OWN else kept | {"md5"}


class Part(NamedTuple):
    """One part to copy: `offset` and `length` in bytes, numbers from 1."""

    upload: Upload
    number: int
    offset: int
    length: int


class PartOutcome(StrEnum):
    """How one part ended."""

    DONE = "done"
    ALREADY_DONE = "already_done"
    FAILED = "failed"


class PartResult(NamedTuple):
    """One part's end. `failure` is the object status it decides when `outcome` is FAILED."""

    upload: Upload
    number: int
    outcome: PartOutcome
    part: PartRecord | None = None
    failure: Status | None = None
    error: str | None = None
    attempts: int = 0


def upload_identity(
    destination_endpoint: str,
    destination_bucket: str,
    source_endpoint: str,
    ref: ObjectRef,
    source_etag: str,
    plan: str,
) -> str:
    """A digest that names one upload: destination, pinned source and part plan (`PartPlan.name`). 64 hex digits.

    Hashed because two 1,024-byte keys do not fit one b-tree entry of PostgreSQL.
    """
    fields = (
        destination_endpoint,
        destination_bucket,
        ref.destination_key,
        source_endpoint,
        ref.bucket,
        ref.key,
        ref.version_id or "",
        source_etag,
        str(ref.size),
        plan,
    )
    return hashlib.sha256("\0".join(fields).encode()).hexdigest()
