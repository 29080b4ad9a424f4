"""What a look at a destination object shows, compared with the ledger's record of it. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from model.errors import Mismatch
from model.objects import ObjectRef
from model.records import IntegrityRecord
from model.status import DestinationEvidence, Grade, SourceEvidence, Status, grade_of, meets
from storage.checksums import CRC32C, CRC64NVME, MD5, SHA256, etag_of, is_md5_etag
from storage.server_copy import Shown, shown_by, stated_digests

_FOUND_WRONG = "an earlier look found it wrong"
_STRONGEST_FIRST = (SHA256, CRC64NVME, MD5, CRC32C)


class Finding(NamedTuple):
    """How a look at one object ended; `error` says in one line why it is not VERIFIED."""

    status: Status
    source: SourceEvidence = SourceEvidence.NONE
    destination: DestinationEvidence = DestinationEvidence.NONE
    error: str | None = None


def is_of(record: IntegrityRecord, ref: ObjectRef) -> bool:
    """Whether the ledger's record is about the source object of `ref`, as the inventory has it. `ref.etag` is known."""
    recorded = record.source_bucket, record.source_key, record.source_version, record.size, record.source_etag
    return recorded == (ref.bucket, ref.key, ref.version_id, ref.size, ref.etag)


def require_size(ref: ObjectRef, headers: Mapping[str, str]) -> None:
    """Raises Mismatch where the object has another size."""
    size = headers.get("content-length")
    if size != str(ref.size):
        raise Mismatch(f"destination: the object has {size} bytes, the source {ref.size}")


def shown_by_record(record: IntegrityRecord, headers: Mapping[str, str]) -> DestinationEvidence:
    """The evidence, in the headers of the destination object, that it has the bytes of `record`.

    Digests are compared first, then the ETag with the one recorded: that is evidence only where the object was proven
    once. NONE where nothing is shown. Raises Mismatch where headers and record contradict each other.
    """
    for name, value in stated_digests(headers).items():
        kept = getattr(record, name)
        if kept is not None and kept != value:
            raise Mismatch(f"destination: its stored {name.upper()} is {value}, the ledger has {kept}")
        if kept is not None:
            return DestinationEvidence.STORED_CHECKSUM
    etag = etag_of(headers)
    if record.md5 is not None and etag == record.md5 and is_md5_etag(headers):
        return DestinationEvidence.ETAG_MD5
    if is_recorded_object(record, headers):
        proven = record.destination_evidence is not DestinationEvidence.NONE
        return DestinationEvidence.RECORDED_ETAG if proven else DestinationEvidence.NONE
    # where the ETag recorded is no MD5, others of this destination need not be either
    if record.md5 is not None and is_md5_etag(headers) and record.destination_etag in (None, record.md5):
        raise Mismatch(f"destination: its ETag is {etag}, the ledger has the MD5 {record.md5}")
    return DestinationEvidence.NONE


def is_recorded_object(record: IntegrityRecord, headers: Mapping[str, str]) -> bool:
    """Whether the destination holds the very object that was recorded, by its ETag and version."""
    version = headers.get("x-amz-version-id")
    same_version = None in (version, record.destination_version) or version == record.destination_version
    return etag_of(headers) == record.destination_etag and same_version


def shown_by_row(ref: ObjectRef, headers: Mapping[str, str], *, etag_is_md5: bool) -> Shown | None:
    """What the inventory's row and the headers of the destination object show; None unless they agree.

    They can only agree: whether the source's ETag is an MD5 is not in its row, but chance makes no two of them equal.
    """
    if not etag_is_md5 or not ref.etag or etag_of(headers) != ref.etag:
        return None
    shown = shown_by({"etag": headers["etag"], "content-length": str(ref.size)}, headers, etag_is_md5=True)
    return shown if shown.destination is not DestinationEvidence.NONE else None


def shown_by_source(
    record: IntegrityRecord | None,
    source: Mapping[str, str],
    destination: Mapping[str, str],
    *,
    etag_is_md5: bool,
) -> Shown:
    """What the headers of both objects show. Raises Mismatch where they, or `record`, speak against each other.

    `record` is the ledger's of this state of the source: another object than it names is wrong unless it is proven.
    """
    shown = shown_by(source, destination, etag_is_md5=etag_is_md5)
    if shown.destination is not DestinationEvidence.NONE or record is None or record.destination_etag is None:
        return shown
    if not is_recorded_object(record, destination):
        raise Mismatch(
            f"destination: its ETag is {etag_of(destination)}, not {record.destination_etag} as recorded, "
            "and nothing shows that it has the same bytes; --deep reads them"
        )
    return shown


def concluded(shown: Shown, record: IntegrityRecord | None, headers: Mapping[str, str], wanted: Grade) -> Finding:
    """VERIFIED where the evidence is at least `wanted`, else COPIED: it is there, and not proven.

    `record` is the ledger's of this state of the source. Raises Mismatch for an object that was found wrong and has
    not been read since: what a server says of it did not show then that it was wrong.
    """
    grade_by = shown.destination
    if record is not None:
        if (
            record.status is Status.MISMATCH
            and shown.destination is not DestinationEvidence.READBACK
            and is_recorded_object(record, headers)
        ):
            earlier = record.error or ""
            said = earlier if earlier.startswith(_FOUND_WRONG) else f"{_FOUND_WRONG} ({earlier})"
            raise Mismatch(f"{said.removesuffix(_SETTLED_BY)}{_SETTLED_BY}")
        if grade_by is DestinationEvidence.RECORDED_ETAG:
            grade_by = record.destination_evidence
    if shown.destination is DestinationEvidence.NONE:
        error = "it is there, and nothing shows that it is the same; --deep reads it"
        return Finding(Status.COPIED, shown.source, shown.destination, error)
    if not meets(grade_by, wanted):
        error = f"its evidence is of grade {grade_of(grade_by)}, --evidence asks for {wanted}"
        return Finding(Status.COPIED, shown.source, shown.destination, error)
    return Finding(Status.VERIFIED, shown.source, shown.destination)


_SETTLED_BY = "; only --deep or another copy settles it"


def digest_to_compare(record: IntegrityRecord) -> str | None:
    """The name of the strongest digest the record has."""
    return next((name for name in _STRONGEST_FIRST if getattr(record, name) is not None), None)
