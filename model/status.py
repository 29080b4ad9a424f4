"""The words of the ledger: terminal statuses, size classes and evidence, and how they rank."""

from __future__ import annotations

from enum import StrEnum


class Word(StrEnum):
    """A word of the ledger, equal to its text and hashed as it."""

    # Enum's own is a Python function, and words are keys wherever rows are counted.
    __hash__ = str.__hash__


class Status(Word):
    """How one inventory row ended. Every row ends in exactly one of these."""

    VERIFIED = "VERIFIED"
    COPIED = "COPIED"
    SKIPPED = "SKIPPED"
    EXCLUDED = "EXCLUDED"
    DUPLICATE = "DUPLICATE"
    ARCHIVED = "ARCHIVED"
    SOURCE_GONE = "SOURCE_GONE"
    SOURCE_CHANGED = "SOURCE_CHANGED"
    MISMATCH = "MISMATCH"
    DESTINATION_GONE = "DESTINATION_GONE"
    FAILED = "FAILED"
    BAD_ROW = "BAD_ROW"


AT_DESTINATION = frozenset({Status.VERIFIED, Status.COPIED})
"""Statuses of objects that were copied, whether or not that is proven."""
COUNTED_ONLY = frozenset({Status.SKIPPED, Status.EXCLUDED, Status.DUPLICATE, Status.BAD_ROW})
"""Statuses counted per input file but never inserted row by row into `objects` and `attempts`."""

DEAD = frozenset(Status) - {Status.VERIFIED, Status.SKIPPED, Status.EXCLUDED, Status.DUPLICATE}
"""Statuses of rows that did not end well: they go to the dead letters of an export, each with its reason."""

RETRIED = frozenset({Status.FAILED, Status.MISMATCH, Status.DESTINATION_GONE, Status.SOURCE_CHANGED, Status.COPIED})
"""Statuses a further run may turn into VERIFIED: they go to the retry manifest."""

_RANK = {
    Status.VERIFIED: 5,
    Status.COPIED: 4,
    Status.MISMATCH: 3,
    Status.DESTINATION_GONE: 3,
    Status.SOURCE_CHANGED: 2,
    Status.SOURCE_GONE: 2,
    Status.ARCHIVED: 2,
    Status.FAILED: 1,
}


def rank(status: Status) -> int:
    """Higher is better; within one run an upsert never replaces a status by a lower one."""
    return _RANK.get(status, 0)


class SizeClass(Word):
    """The branch an object takes; the values are also the branch labels."""

    SMALL = "small"
    MEDIUM = "medium"
    LARGE = "large"


class SourceEvidence(Word):
    """Why the bytes read are believed to be the source object's bytes."""

    STORED_CHECKSUM = "stored_checksum"
    ETAG_MD5 = "etag_md5"
    MULTIPART_ETAG = "multipart_etag"
    LENGTH = "length"
    NONE = "none"


class DestinationEvidence(Word):
    """Why the destination is believed to hold the bytes that were read."""

    READBACK = "readback"
    SIGNED_BODY = "signed_body"
    TRAILING_CRC64NVME = "trailing_crc64nvme"
    FULL_OBJECT_CRC64NVME = "full_object_crc64nvme"
    ETAG_MD5 = "etag_md5"
    MULTIPART_ETAG = "multipart_etag"
    STORED_CHECKSUM = "stored_checksum"
    """The server states a checksum of the object that is our digest, or the one stated of the source."""
    RECORDED_ETAG = "recorded_etag"
    """A later look finds the ETag the object had when it was proven, so that proof holds on."""
    NONE = "none"


class Grade(StrEnum):
    """What `--evidence` asks of a destination, weakest first: none < etag < server < readback."""

    NONE = "none"
    ETAG = "etag"
    SERVER = "server"
    READBACK = "readback"


_GRADE_ORDER = (Grade.NONE, Grade.ETAG, Grade.SERVER, Grade.READBACK)

_GRADE_OF = {
    DestinationEvidence.READBACK: Grade.READBACK,
    DestinationEvidence.SIGNED_BODY: Grade.SERVER,
    DestinationEvidence.TRAILING_CRC64NVME: Grade.SERVER,
    DestinationEvidence.FULL_OBJECT_CRC64NVME: Grade.SERVER,
    DestinationEvidence.STORED_CHECKSUM: Grade.SERVER,
    DestinationEvidence.ETAG_MD5: Grade.ETAG,
    DestinationEvidence.MULTIPART_ETAG: Grade.ETAG,
    DestinationEvidence.RECORDED_ETAG: Grade.ETAG,
    DestinationEvidence.NONE: Grade.NONE,
}


_STRENGTH = {
    SourceEvidence.STORED_CHECKSUM: 3,
    SourceEvidence.ETAG_MD5: 2,
    SourceEvidence.MULTIPART_ETAG: 2,
    SourceEvidence.LENGTH: 1,
    SourceEvidence.NONE: 0,
}


def strength(evidence: SourceEvidence | DestinationEvidence) -> int:
    """Higher is stronger, among evidence of one side; what is as strong does not take another's place."""
    return _STRENGTH[evidence] if isinstance(evidence, SourceEvidence) else _GRADE_ORDER.index(grade_of(evidence))


def grade_of(evidence: DestinationEvidence) -> Grade:
    """The grade a piece of destination evidence reaches."""
    return _GRADE_OF[evidence]


def meets(evidence: DestinationEvidence, wanted: Grade) -> bool:
    """Whether `evidence` is at least `wanted`."""
    return _GRADE_ORDER.index(grade_of(evidence)) >= _GRADE_ORDER.index(wanted)


def evidence_meeting(wanted: Grade) -> frozenset[DestinationEvidence]:
    """All kinds of evidence that are at least `wanted` (for a ledger query)."""
    return frozenset(evidence for evidence in DestinationEvidence if meets(evidence, wanted))
