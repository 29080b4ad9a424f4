from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ledger.connect import Connection, connect
from ledger.leases import RunRef, release
from ledger.runs import Outcome, drop_history, finish_run, start_run
from ledger.uploads import (
    StoredUpload,
    UploadState,
    adopt_upload,
    announce_upload,
    close_upload,
    find_upload,
    forget_parts,
    open_before,
    parts_of,
    recorded_part,
    settle_upload,
    superseded,
)
from ledger.writer import write_objects, write_parts
from model.errors import LeaseLost
from model.records import PartRecord, SentPart
from model.status import Status
from tests.ledger.examples import a_record, a_run, an_upload


def test_an_adopted_upload_is_found_by_its_identity(ref: RunRef, conn: Connection) -> None:
    assert find_upload(conn, "a" * 64) is None
    assert adopt_upload(conn, ref, an_upload()) == an_upload()
    assert find_upload(conn, "a" * 64) == an_upload()


def test_the_open_upload_that_was_there_first_wins(ref: RunRef, conn: Connection) -> None:
    adopt_upload(conn, ref, an_upload(upload_id="first"))
    assert adopt_upload(conn, ref, an_upload(upload_id="second")).upload_id == "first"


def test_of_uploads_opened_at_once_all_agree_on_one(dsn: str, ref: RunRef) -> None:
    def adopt(upload_id: str) -> StoredUpload:
        with connect(dsn, "opener") as own:
            return adopt_upload(own, ref, an_upload(upload_id=upload_id))

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(adopt, ["1", "2", "3", "4"]))) == 1


@pytest.mark.parametrize("state", [UploadState.COMPLETED, UploadState.ABORTED])
def test_a_closed_upload_is_replaced_and_its_parts_forgotten(ref: RunRef, conn: Connection, state: UploadState) -> None:
    adopt_upload(conn, ref, an_upload(upload_id="old"))
    write_parts(conn, ref, [SentPart("a" * 64, "upload-1", PartRecord(1, 5, "e", None, None, None))])
    close_upload(conn, ref, "a" * 64, "old", state)
    assert find_upload(conn, "a" * 64) == an_upload(upload_id="old", state=state)
    assert (
        adopt_upload(conn, ref, an_upload(upload_id="new")) == find_upload(conn, "a" * 64) == an_upload(upload_id="new")
    )
    assert parts_of(conn, ["a" * 64]) == {}


def test_closing_an_upload_that_was_replaced_does_nothing(ref: RunRef, conn: Connection) -> None:
    adopt_upload(conn, ref, an_upload(upload_id="new"))
    close_upload(conn, ref, "a" * 64, "old", UploadState.ABORTED)
    assert find_upload(conn, "a" * 64) == an_upload(upload_id="new")


def test_a_later_run_finds_an_open_upload_with_its_parts(dsn: str, ref: RunRef, conn: Connection) -> None:
    adopt_upload(conn, ref, an_upload())
    part = PartRecord(3, 33_554_432, "etag", None, "f" * 64, "AAAAAAAAAAA=", "AAAAAA==")
    write_parts(conn, ref, [SentPart("a" * 64, "upload-1", part)])
    release(conn, ref)
    later = start_run(dsn, a_run())
    assert adopt_upload(conn, later, an_upload(upload_id="mine")).upload_id == "upload-1"
    assert parts_of(conn, ["a" * 64]) == {"a" * 64: (part,)}
    assert recorded_part(conn, "a" * 64, "upload-1", 3) == part
    with pytest.raises(LeaseLost):
        adopt_upload(conn, ref, an_upload())


def test_an_upload_claimed_without_an_id_gets_the_first_one_given(conn: Connection, ref: RunRef) -> None:
    adopt_upload(conn, ref, an_upload(upload_id=""))
    assert settle_upload(conn, ref, "a" * 64, "first").upload_id == "first"
    assert settle_upload(conn, ref, "a" * 64, "second").upload_id == "first"
    assert find_upload(conn, "a" * 64) == an_upload(upload_id="first")


def test_with_its_history_a_run_loses_the_uploads_that_nothing_stands_on(
    dsn: str, ref: RunRef, conn: Connection
) -> None:
    ends = {
        "open": UploadState.OPEN,
        "aborted": UploadState.ABORTED,
        "changed since": UploadState.COMPLETED,
        "as it stands": UploadState.COMPLETED,
    }
    for key, state in ends.items():
        upload = an_upload(identity=key, source_key=key, destination_key=key)
        adopt_upload(conn, ref, upload)
        write_parts(conn, ref, [SentPart(key, upload.upload_id, PartRecord(1, 5, "e", None, None, None))])
        if state is not UploadState.OPEN:
            close_upload(conn, ref, key, upload.upload_id, state)
        etag = "f" * 32 if key == "changed since" else upload.source_etag
        record = a_record(source_key=key, destination_key=key, source_etag=etag, size=upload.size)
        write_objects(conn, ref, [record])
    finish_run(conn, ref, Outcome.SUCCEEDED, 0, {})
    release(conn, ref)
    other = start_run(dsn, a_run())
    adopt_upload(conn, other, an_upload(identity="of another run"))
    close_upload(conn, other, "of another run", "upload-1", UploadState.ABORTED)

    for _ in range(2):
        drop_history(conn, ref.run_id)
        assert {name for name in (*ends, "of another run") if find_upload(conn, name)} == {
            "open",
            "as it stands",
            "of another run",
        }
        assert set(parts_of(conn, list(ends))) == {"open", "as it stands"}


def test_what_is_announced_of_an_upload_holds_until_it_has_its_id(conn: Connection, ref: RunRef) -> None:
    adopt_upload(conn, ref, an_upload(upload_id="", full_object_crc=False))
    announce_upload(conn, ref, "a" * 64, full_object_crc=True)
    assert settle_upload(conn, ref, "a" * 64, "first") == an_upload(upload_id="first", full_object_crc=True)
    announce_upload(conn, ref, "a" * 64, full_object_crc=False)
    assert find_upload(conn, "a" * 64) == an_upload(upload_id="first", full_object_crc=True)


PART = PartRecord(1, 5, "e", None, None, None)


def test_a_part_of_an_upload_that_was_replaced_is_not_of_the_new_one(conn: Connection, ref: RunRef) -> None:
    adopt_upload(conn, ref, an_upload(upload_id="new"))
    write_parts(conn, ref, [SentPart("a" * 64, "old", PART)])
    assert parts_of(conn, ["a" * 64]) == {}
    assert recorded_part(conn, "a" * 64, "new", 1) is None
    write_parts(conn, ref, [SentPart("a" * 64, "new", PART)])
    assert parts_of(conn, ["a" * 64]) == {"a" * 64: (PART,)}
    assert recorded_part(conn, "a" * 64, "new", 1) == PART


def test_a_part_of_a_package_that_named_no_upload_counts_as_before(conn: Connection, ref: RunRef) -> None:
    adopt_upload(conn, ref, an_upload())
    conn.execute("INSERT INTO parts (identity, part_number, size, etag) VALUES (repeat('a', 64), 1, 5, 'e')")
    assert parts_of(conn, ["a" * 64]) == {"a" * 64: (PART,)}
    assert recorded_part(conn, "a" * 64, "upload-1", 1) == PART


def test_parts_are_forgotten_but_not_what_was_sent_again(conn: Connection, ref: RunRef) -> None:
    adopt_upload(conn, ref, an_upload())
    later = PART._replace(number=2, etag="later")
    write_parts(conn, ref, [SentPart("a" * 64, "upload-1", part) for part in (PART, later)])
    for _ in range(2):
        forget_parts(conn, ref, "a" * 64, [PART, later._replace(etag="before")])
    assert parts_of(conn, ["a" * 64]) == {"a" * 64: (later,)}


def test_uploads_of_earlier_runs_are_before_and_of_this_run_those_of_a_source_that_has_changed(
    dsn: str, conn: Connection, ref: RunRef
) -> None:
    upload = an_upload()
    adopt_upload(conn, ref, upload)
    place, now = upload.place, (upload.source_version, upload.source_etag, upload.size)
    assert open_before(conn, ref, place, None) == open_before(conn, ref, place, now) == []
    assert open_before(conn, ref, place, (None, "f" * 32, upload.size)) == [upload]
    assert open_before(conn, ref, place, (None, upload.source_etag, 1)) == [upload]
    assert open_before(conn, ref, place, ("v", "f" * 32, 1)) == []
    release(conn, ref)
    assert open_before(conn, start_run(dsn, a_run()), place, None) == [upload]


@pytest.mark.parametrize(
    ("record", "found"),
    [
        ({}, True),
        ({"status": Status.COPIED}, True),
        ({"status": Status.FAILED}, False),
        ({"finished_at": 1_795_000_000.0}, False),
        ({"destination_key": "another"}, False),
    ],
)
def test_uploads_begun_before_their_key_got_its_object_are_superseded(
    conn: Connection, ref: RunRef, record: dict[str, Any], found: bool
) -> None:
    upload = an_upload()
    adopt_upload(conn, ref, upload)
    place = {"destination_bucket": upload.destination_bucket, "destination_key": upload.destination_key}
    write_objects(conn, ref, [a_record(1, **place | record)])
    assert [stored for stored, _ in superseded(conn, ref, upload.destination_endpoint)] == ([upload] if found else [])
    close_upload(conn, ref, upload.identity, upload.upload_id, UploadState.ABORTED)
    assert superseded(conn, ref, upload.destination_endpoint) == []
