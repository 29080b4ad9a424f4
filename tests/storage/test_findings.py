"""What a look at a destination object shows beside the ledger's record of it."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from model.errors import Mismatch
from model.objects import ObjectRef
from model.records import IntegrityRecord
from model.status import DestinationEvidence, Grade, SizeClass, SourceEvidence, Status
from storage.findings import concluded, is_of, shown_by_record, shown_by_row, shown_by_source
from storage.server_copy import Shown

BODY = b"abc"
MD5 = hashlib.md5(BODY, usedforsecurity=False).hexdigest()
OTHER_MD5 = hashlib.md5(b"xyz", usedforsecurity=False).hexdigest()
CRC = "x-amz-checksum-crc64nvme"
REF = ObjectRef(0, 0, "src", "k", None, 3, MD5, "k")


def a_record(**changes: Any) -> IntegrityRecord:
    made = IntegrityRecord.of(
        REF,
        "dst",
        SizeClass.SMALL,
        Status.VERIFIED,
        source_etag=MD5,
        destination_etag="recorded",
        crc64nvme="abc=",
        source_evidence=SourceEvidence.ETAG_MD5,
        destination_evidence=DestinationEvidence.SIGNED_BODY,
    )
    return made._replace(**changes)


def headers(etag: str, **more: str) -> dict[str, str]:
    return {"content-length": "3", "etag": f'"{etag}"'} | {name.replace("_", "-"): text for name, text in more.items()}


@pytest.mark.parametrize(
    ("record", "found", "evidence"),
    [
        (a_record(), headers("x") | {CRC: "abc="}, DestinationEvidence.STORED_CHECKSUM),
        (a_record(md5=MD5), headers(MD5), DestinationEvidence.ETAG_MD5),
        (a_record(), headers("recorded"), DestinationEvidence.RECORDED_ETAG),
        (a_record(destination_version="1"), headers("recorded", x_amz_version_id="2"), DestinationEvidence.NONE),
        (a_record(destination_evidence=DestinationEvidence.NONE), headers("recorded"), DestinationEvidence.NONE),
        (a_record(), headers("another"), DestinationEvidence.NONE),
        (a_record(), headers("x") | {CRC: "abc=-3", "x-amz-checksum-type": "COMPOSITE"}, DestinationEvidence.NONE),
        (a_record(), headers("x") | {CRC: "abc=-3"}, DestinationEvidence.NONE),
        # a destination whose ETags are no MD5s
        (a_record(md5=MD5), headers(OTHER_MD5), DestinationEvidence.NONE),
    ],
)
def test_digests_come_first_and_then_the_etag_recorded(
    record: IntegrityRecord, found: dict[str, str], evidence: DestinationEvidence
) -> None:
    assert shown_by_record(record, found) is evidence


@pytest.mark.parametrize(
    ("record", "found"),
    [
        (a_record(), headers("recorded") | {CRC: "xyz="}),
        (a_record(md5=MD5, destination_etag=MD5), headers(OTHER_MD5)),
    ],
)
def test_a_digest_that_contradicts_the_record_is_a_mismatch(record: IntegrityRecord, found: dict[str, str]) -> None:
    with pytest.raises(Mismatch):
        shown_by_record(record, found)


def test_equal_etags_of_the_row_and_the_destination_are_evidence_unless_they_are_opaque() -> None:
    assert shown_by_row(REF, headers(MD5), etag_is_md5=True) == Shown(
        SourceEvidence.ETAG_MD5, DestinationEvidence.ETAG_MD5
    )
    assert shown_by_row(REF, headers(MD5), etag_is_md5=False) is None
    assert shown_by_row(REF, headers(OTHER_MD5), etag_is_md5=True) is None
    assert shown_by_row(REF._replace(etag="opaque"), headers("opaque"), etag_is_md5=True) is None


def test_another_object_than_recorded_is_wrong_where_nothing_shows_that_it_is_the_same() -> None:
    source, found = headers(f"{MD5}-3"), headers("another")
    with pytest.raises(Mismatch, match="--deep reads them"):
        shown_by_source(a_record(), source, found, etag_is_md5=True)
    assert shown_by_source(None, source, found, etag_is_md5=True).destination is DestinationEvidence.NONE
    proven = shown_by_source(a_record(), headers(MD5), headers(MD5), etag_is_md5=True)
    assert proven.destination is DestinationEvidence.ETAG_MD5


@pytest.mark.parametrize(
    ("evidence", "recorded", "wanted", "status"),
    [
        (DestinationEvidence.ETAG_MD5, None, Grade.ETAG, Status.VERIFIED),
        (DestinationEvidence.ETAG_MD5, None, Grade.SERVER, Status.COPIED),
        (DestinationEvidence.NONE, None, Grade.ETAG, Status.COPIED),
        # the proof that holds on is the one recorded
        (DestinationEvidence.RECORDED_ETAG, DestinationEvidence.SIGNED_BODY, Grade.SERVER, Status.VERIFIED),
        (DestinationEvidence.RECORDED_ETAG, DestinationEvidence.ETAG_MD5, Grade.SERVER, Status.COPIED),
    ],
)
def test_evidence_of_the_grade_asked_for_is_verified(
    evidence: DestinationEvidence, recorded: DestinationEvidence | None, wanted: Grade, status: Status
) -> None:
    record = a_record(destination_evidence=recorded) if recorded else None
    finding = concluded(Shown(SourceEvidence.LENGTH, evidence), record, headers("recorded"), wanted)
    assert finding.status is status
    assert (finding.error is None) == (status is Status.VERIFIED)


def test_an_object_found_wrong_stays_wrong_until_it_is_read_or_replaced() -> None:
    wrong = a_record(status=Status.MISMATCH, error="the bytes read are others")
    shown = Shown(SourceEvidence.ETAG_MD5, DestinationEvidence.RECORDED_ETAG)
    with pytest.raises(Mismatch) as first:
        concluded(shown, wrong, headers("recorded"), Grade.ETAG)
    with pytest.raises(Mismatch) as second:
        concluded(shown, wrong._replace(error=str(first.value)), headers("recorded"), Grade.ETAG)
    assert str(first.value) == str(second.value)
    read = shown._replace(destination=DestinationEvidence.READBACK)
    assert concluded(read, wrong, headers("recorded"), Grade.ETAG).status is Status.VERIFIED
    replaced = shown._replace(destination=DestinationEvidence.STORED_CHECKSUM)
    assert concluded(replaced, wrong, headers("another"), Grade.ETAG).status is Status.VERIFIED


@pytest.mark.parametrize("change", [{"etag": "newer"}, {"size": 4}, {"version_id": "2"}, {"key": "other"}])
def test_a_record_is_of_one_state_of_one_source_object(change: dict[str, Any]) -> None:
    assert is_of(a_record(), REF)
    assert not is_of(a_record(), REF._replace(**change))
