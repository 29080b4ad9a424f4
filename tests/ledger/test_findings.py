"""What a later look does to the rows of `objects`: it lowers, it strengthens, and it takes nothing away."""

from __future__ import annotations

from typing import Any

import pytest

from ledger.connect import Connection
from ledger.leases import RunRef, release
from ledger.objects import Merge
from ledger.queries import same_but_not_verified
from ledger.runs import start_run
from ledger.writer import write_objects
from model.outcome import RunKind
from model.records import IntegrityRecord
from model.status import DestinationEvidence, SourceEvidence, Status
from tests.ledger.examples import a_record, a_run, statuses

KEPT = ("md5", "sha256", "crc64nvme", "crc32c", "source_evidence", "destination_evidence", "destination_etag", "size")
BARE: dict[str, Any] = {"md5": None, "sha256": None, "crc64nvme": None, "crc32c": None}


@pytest.fixture
def looking(dsn: str, ref: RunRef, conn: Connection) -> RunRef:
    """A run that verifies, after one that copied `a_record()`."""
    write_objects(conn, ref, [a_record()])
    release(conn, ref)
    return start_run(dsn, a_run(kind=RunKind.VERIFY))


def row(conn: Connection, record: IntegrityRecord) -> dict[str, Any]:
    cursor = conn.execute("SELECT * FROM objects WHERE destination_key = %s", (record.destination_key,))
    names = [column.name for column in cursor.description or ()]
    found = cursor.fetchone()
    return dict(zip(names, found, strict=True)) if found else {}


def found_wrong(status: Status) -> IntegrityRecord:
    none = {"source_evidence": SourceEvidence.NONE, "destination_evidence": DestinationEvidence.NONE}
    return a_record(status=status, error="why", destination_etag="another", **none, **BARE)


@pytest.mark.parametrize("merge", [Merge.FINDINGS, Merge.ADOPTIONS])
@pytest.mark.parametrize("status", [Status.MISMATCH, Status.DESTINATION_GONE])
def test_what_is_wrong_becomes_the_status_and_what_was_proven_stays(
    looking: RunRef, conn: Connection, status: Status, merge: Merge
) -> None:
    before = row(conn, a_record())
    for _ in range(2):
        write_objects(conn, looking, [found_wrong(status)], merge)
    after = row(conn, a_record())
    assert (after["status"], after["error"], after["run_id"]) == (status, "why", looking.run_id)
    assert [after[name] for name in KEPT] == [before[name] for name in KEPT]
    assert statuses(conn, looking) == {a_record().destination_key: status}


@pytest.mark.parametrize(
    "status", [Status.FAILED, Status.COPIED, Status.SOURCE_GONE, Status.SOURCE_CHANGED, Status.ARCHIVED]
)
def test_what_says_nothing_of_the_destination_leaves_the_row_alone(
    looking: RunRef, conn: Connection, status: Status
) -> None:
    before = row(conn, a_record())
    write_objects(conn, looking, [found_wrong(status)], Merge.ADOPTIONS)
    assert row(conn, a_record()) == before
    assert statuses(conn, looking) == {a_record().destination_key: status}


def test_weaker_evidence_does_not_replace_stronger_and_the_row_stays_as_it_was(
    looking: RunRef, conn: Connection
) -> None:
    before = row(conn, a_record())
    weaker = a_record(destination_evidence=DestinationEvidence.ETAG_MD5, source_evidence=SourceEvidence.LENGTH, **BARE)
    write_objects(conn, looking, [weaker], Merge.FINDINGS)
    assert row(conn, a_record()) == before


def test_stronger_evidence_takes_its_place_under_the_run_that_found_it(looking: RunRef, conn: Connection) -> None:
    write_objects(conn, looking, [a_record(destination_evidence=DestinationEvidence.READBACK, **BARE)], Merge.FINDINGS)
    after = row(conn, a_record())
    assert (after["destination_evidence"], after["run_id"]) == ("readback", looking.run_id)
    assert (after["sha256"], after["crc64nvme"]) == (a_record().sha256, a_record().crc64nvme)


@pytest.mark.parametrize("status", [Status.MISMATCH, Status.DESTINATION_GONE])
def test_the_recorded_object_found_again_is_verified_again(looking: RunRef, conn: Connection, status: Status) -> None:
    write_objects(conn, looking, [found_wrong(status)], Merge.FINDINGS)
    release(conn, looking)
    conn.execute("UPDATE leases SET run_id = run_id + 1, expires_at = now() + interval '1 hour'")
    conn.execute("CREATE TABLE attempts_3 PARTITION OF attempts FOR VALUES IN (3)")
    again = RunRef(looking.job, looking.run_id + 1, looking.fence)
    write_objects(conn, again, [a_record(destination_evidence=DestinationEvidence.RECORDED_ETAG)], Merge.FINDINGS)
    after = row(conn, a_record())
    assert (after["status"], after["error"], after["destination_evidence"]) == ("VERIFIED", None, "signed_body")


def test_an_object_another_tool_put_in_its_place_comes_in_only_when_adopted(looking: RunRef, conn: Connection) -> None:
    before = row(conn, a_record())
    theirs = a_record(
        destination_etag="another", destination_evidence=DestinationEvidence.ETAG_MD5, **(BARE | {"crc32c": "new"})
    )
    write_objects(conn, looking, [theirs], Merge.FINDINGS)
    assert row(conn, a_record()) == before
    assert same_but_not_verified(conn, looking) == 1
    write_objects(conn, looking, [theirs], Merge.ADOPTIONS)
    assert same_but_not_verified(conn, looking) == 0
    after = row(conn, a_record())
    assert (after["destination_etag"], after["destination_evidence"], after["adopted"]) == ("another", "etag_md5", True)
    assert (after["sha256"], after["crc32c"]) == (a_record().sha256, "new")


def test_the_digests_of_an_older_state_of_the_source_do_not_stay_beside_a_newer_one(
    looking: RunRef, conn: Connection
) -> None:
    newer = a_record(source_etag="newer", destination_etag="another", **BARE)
    write_objects(conn, looking, [newer], Merge.ADOPTIONS)
    after = row(conn, a_record())
    assert (after["source_etag"], after["sha256"], after["crc64nvme"]) == ("newer", None, None)


def test_objects_nobody_knows_stay_out_unless_they_are_adopted(looking: RunRef, conn: Connection) -> None:
    unknown = a_record(7)
    write_objects(conn, looking, [unknown], Merge.FINDINGS)
    assert row(conn, unknown) == {}
    assert same_but_not_verified(conn, looking) == 1
    write_objects(conn, looking, [unknown], Merge.ADOPTIONS)
    assert (row(conn, unknown)["status"], row(conn, unknown)["adopted"]) == ("VERIFIED", True)
    assert same_but_not_verified(conn, looking) == 0


def test_a_copy_takes_the_place_of_an_adopted_object(looking: RunRef, dsn: str, conn: Connection) -> None:
    write_objects(conn, looking, [a_record(7)], Merge.ADOPTIONS)
    release(conn, looking)
    write_objects(conn, start_run(dsn, a_run()), [a_record(7)])
    assert row(conn, a_record(7))["adopted"] is False
