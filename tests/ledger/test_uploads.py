from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from ledger.connect import Connection, connect
from ledger.leases import RunRef, release
from ledger.runs import Outcome, drop_history, finish_run, start_run
from ledger.uploads import (
    StoredUpload,
    UploadState,
    adopt_upload,
    close_upload,
    find_upload,
    parts_of,
    recorded_part,
    settle_upload,
)
from ledger.writer import write_objects, write_parts
from model.errors import LeaseLost
from model.records import PartRecord
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
    write_parts(conn, ref, [("a" * 64, PartRecord(1, 5, "e", None, None, None))])
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
    write_parts(conn, ref, [("a" * 64, part)])
    release(conn, ref)
    later = start_run(dsn, a_run())
    assert adopt_upload(conn, later, an_upload(upload_id="mine")).upload_id == "upload-1"
    assert parts_of(conn, ["a" * 64]) == {"a" * 64: (part,)}
    assert recorded_part(conn, "a" * 64, "upload-1", 3) == part
    with pytest.raises(LeaseLost):
        adopt_upload(conn, ref, an_upload())


def test_an_upload_claimed_without_an_id_gets_the_first_one_given(conn: Connection, ref: RunRef) -> None:
    adopt_upload(conn, ref, an_upload(upload_id=""))
    assert settle_upload(conn, ref, "a" * 64, "first") == "first"
    assert settle_upload(conn, ref, "a" * 64, "second") == "first"
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
        write_parts(conn, ref, [(key, PartRecord(1, 5, "e", None, None, None))])
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
