"""What a try that left the destination as it was does to `objects`: the status is the try's, the proof stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ledger.connect import Connection
from ledger.leases import RunRef, release
from ledger.objects import Merge
from ledger.queries import unfinished_before, verified_before
from ledger.runs import start_run
from ledger.untouched import KEPT
from ledger.writer import write_objects
from model.outcome import RunKind
from model.records import IntegrityRecord
from model.status import DestinationEvidence, Grade, SourceEvidence, Status, evidence_meeting
from tests.ledger.examples import a_record, a_run, statuses

KEY = a_record().destination_key
SERVER = evidence_meeting(Grade.SERVER)
NOTHING: dict[str, Any] = {
    "md5": None,
    "sha256": None,
    "crc64nvme": None,
    "crc32c": None,
    "destination_etag": None,
    "source_evidence": SourceEvidence.NONE,
    "destination_evidence": DestinationEvidence.NONE,
}

NextRun = Callable[[], RunRef]


def a_try(status: Status = Status.FAILED, **changes: Any) -> IntegrityRecord:
    """A record of a copy that never reached the destination."""
    given = NOTHING | {"error": "503", "finished_at": 1_795_000_500.0, "untouched": True} | changes
    return a_record(status=status, **given)


@pytest.fixture
def next_run(dsn: str, ref: RunRef, conn: Connection) -> NextRun:
    """The run after the last one, which copied `a_record()` where it was the first."""
    write_objects(conn, ref, [a_record(replaced_etag="theirs")])
    last = ref

    def start(kind: RunKind = RunKind.RUN) -> RunRef:
        nonlocal last
        release(conn, last)
        last = start_run(dsn, a_run(kind=kind))
        return last

    return start


def row(conn: Connection) -> dict[str, Any]:
    cursor = conn.execute("SELECT * FROM objects WHERE destination_key = %s", (KEY,))
    names = [column.name for column in cursor.description or ()]
    [found] = cursor.fetchall()
    return dict(zip(names, found, strict=True))


def proof(conn: Connection) -> dict[str, Any]:
    found = row(conn)
    return {name: found[name] for name in KEPT}


def proven(conn: Connection) -> tuple[int | None, float | None]:
    """By which run the object was verified, and when in seconds since the epoch."""
    found = row(conn)
    return found["verified_run"], found["verified_at"] and found["verified_at"].timestamp()


@pytest.mark.parametrize(
    "status", [Status.FAILED, Status.SOURCE_GONE, Status.SOURCE_CHANGED, Status.ARCHIVED, Status.MISMATCH]
)
def test_what_was_proven_stays_beside_the_status_of_the_try(
    next_run: NextRun, conn: Connection, status: Status
) -> None:
    before, ours = proof(conn), next_run()

    write_objects(conn, ours, [a_try(status)])

    after = row(conn)
    assert proof(conn) == before
    assert (after["status"], after["error"], after["run_id"]) == (status, "503", ours.run_id)
    assert after["finished_at"].timestamp() == 1_795_000_500.0
    assert proven(conn) == (ours.run_id - 1, a_record().finished_at)


def test_it_is_not_verified_and_the_next_run_copies_it_again(next_run: NextRun, conn: Connection) -> None:
    write_objects(conn, next_run(), [a_try()])

    later = next_run()
    assert verified_before(conn, later, [KEY], SERVER, SERVER) == {}
    assert unfinished_before(conn, later, [KEY]) == {KEY}


def test_a_try_that_may_have_written_leaves_nothing_proven(next_run: NextRun, conn: Connection) -> None:
    write_objects(conn, next_run(), [a_try(untouched=False)])

    after = row(conn)
    assert (after["sha256"], after["destination_etag"], after["destination_evidence"]) == (None, None, "none")
    assert proven(conn) == (None, None)


def test_a_try_after_one_that_may_have_written_brings_nothing_back(next_run: NextRun, conn: Connection) -> None:
    ours = next_run()
    write_objects(conn, ours, [a_try(untouched=False)])
    write_objects(conn, ours, [a_try()])
    write_objects(conn, next_run(), [a_try()])

    assert (row(conn)["sha256"], proven(conn)) == (None, (None, None))


@pytest.mark.parametrize(
    "change", [{"source_etag": "newer"}, {"source_version": "v2"}, {"size": 7}, {"source_key": "k"}]
)
def test_the_proof_of_another_state_of_the_source_does_not_stay(
    next_run: NextRun, conn: Connection, change: dict[str, Any]
) -> None:
    write_objects(conn, next_run(), [a_try(**change)])

    assert (row(conn)["sha256"], proven(conn)) == (None, (None, None))


def test_a_source_that_could_not_be_looked_at_is_not_another_one(next_run: NextRun, conn: Connection) -> None:
    before = proof(conn)

    write_objects(conn, next_run(), [a_try(Status.SOURCE_GONE, source_etag=None, size=0)])

    assert proof(conn) == before
    assert row(conn)["status"] == "SOURCE_GONE"


@pytest.mark.parametrize("wrong", [Status.MISMATCH, Status.DESTINATION_GONE])
def test_an_object_found_wrong_stays_wrong_until_it_is_copied(
    next_run: Callable[..., RunRef], conn: Connection, wrong: Status
) -> None:
    finding = a_record(status=wrong, **(NOTHING | {"error": "found"}))
    write_objects(conn, next_run(RunKind.VERIFY), [finding], Merge.FINDINGS)
    before, ours = row(conn), next_run()

    write_objects(conn, ours, [a_try()])

    assert row(conn) == before
    assert statuses(conn, ours) == {KEY: "FAILED"}
    write_objects(conn, ours, [a_record()])
    assert (row(conn)["status"], proven(conn)) == ("VERIFIED", (ours.run_id, a_record().finished_at))


def test_a_repeated_try_keeps_the_first_proof(next_run: NextRun, conn: Connection) -> None:
    before = proof(conn)
    for _ in range(2):
        ours = next_run()
        for _ in range(2):
            write_objects(conn, ours, [a_try()])

    assert proof(conn) == before
    assert proven(conn)[0] == ours.run_id - 2


def test_tries_and_copies_of_one_batch_each_do_their_own(next_run: NextRun, conn: Connection) -> None:
    write_objects(conn, next_run(), [a_try(), a_record(1), a_try(row_number=2, destination_key="new")])

    rows = conn.execute("SELECT row_number, status, sha256 IS NULL FROM objects ORDER BY row_number").fetchall()
    assert rows == [(0, "FAILED", False), (1, "VERIFIED", False), (2, "FAILED", True)]


def test_an_adopted_object_stays_adopted(next_run: Callable[..., RunRef], conn: Connection) -> None:
    theirs = a_record(destination_etag="another")
    write_objects(conn, next_run(RunKind.VERIFY), [theirs], Merge.ADOPTIONS)
    write_objects(conn, next_run(), [a_try()])

    assert (row(conn)["adopted"], row(conn)["destination_etag"]) == (True, "another")


class TestVerifiedBy:
    """Columns `verified_run` and `verified_at`."""

    @pytest.mark.parametrize("known", [False, True])
    def test_a_copy_names_its_own_run_whichever_way_its_row_goes(
        self, dsn: str, ref: RunRef, conn: Connection, known: bool
    ) -> None:
        records = [a_record(number) for number in range(600)]
        records[7] = records[7]._replace(status=Status.COPIED)
        records[500] = records[500]._replace(status=Status.FAILED, finished_at=0.0)
        if known:
            write_objects(conn, ref, records)
            release(conn, ref)
            ref = start_run(dsn, a_run())
        write_objects(conn, ref, records)

        rows = conn.execute(
            "SELECT row_number FROM objects WHERE (verified_run, verified_at) IS DISTINCT FROM (run_id, finished_at)"
            " ORDER BY row_number"
        )
        assert [number for (number,) in rows] == [7, 500]
        left = conn.execute("SELECT count(*) FROM objects WHERE verified_run IS NULL AND verified_at IS NULL")
        assert left.fetchone() == (2,)

    def test_a_copy_that_is_not_proven_ends_the_proof_of_what_it_replaced(
        self, next_run: NextRun, conn: Connection
    ) -> None:
        write_objects(conn, next_run(), [a_record(status=Status.COPIED)])
        assert proven(conn) == (None, None)

    @pytest.mark.parametrize("status", [Status.MISMATCH, Status.DESTINATION_GONE])
    def test_a_finding_does_not_take_it_away(
        self, next_run: Callable[..., RunRef], conn: Connection, status: Status
    ) -> None:
        looking = next_run(RunKind.VERIFY)
        write_objects(conn, looking, [a_record(status=status, **NOTHING)], Merge.FINDINGS)
        assert proven(conn) == (looking.run_id - 1, a_record().finished_at)

        again = next_run(RunKind.VERIFY)
        write_objects(conn, again, [a_record(finished_at=1_795_009_999.0)], Merge.FINDINGS)
        assert (row(conn)["status"], row(conn)["run_id"]) == ("VERIFIED", again.run_id)
        assert proven(conn) == (looking.run_id - 1, a_record().finished_at)

    def test_stronger_evidence_does_not_make_it_later(self, next_run: Callable[..., RunRef], conn: Connection) -> None:
        looking = next_run(RunKind.VERIFY)
        stronger = a_record(destination_evidence=DestinationEvidence.READBACK, finished_at=1_795_009_999.0)
        write_objects(conn, looking, [stronger], Merge.FINDINGS)
        assert (row(conn)["destination_evidence"], row(conn)["run_id"]) == ("readback", looking.run_id)
        assert proven(conn) == (looking.run_id - 1, a_record().finished_at)

    def test_a_copy_that_a_later_look_proves_was_verified_by_that(
        self, next_run: Callable[..., RunRef], conn: Connection
    ) -> None:
        write_objects(conn, next_run(), [a_record(status=Status.COPIED)])
        looking = next_run(RunKind.VERIFY)
        write_objects(conn, looking, [a_record(finished_at=1_795_009_999.0)], Merge.FINDINGS)
        assert proven(conn) == (looking.run_id, 1_795_009_999.0)

    def test_an_adopted_object_was_verified_by_who_adopted_it(
        self, next_run: Callable[..., RunRef], conn: Connection
    ) -> None:
        looking = next_run(RunKind.VERIFY)
        write_objects(conn, looking, [a_record(destination_etag="another")], Merge.ADOPTIONS)
        assert proven(conn) == (looking.run_id, a_record().finished_at)

    @pytest.mark.parametrize("merge", [Merge.COPIES, Merge.FINDINGS])
    def test_a_row_of_an_older_version_was_verified_by_the_run_that_wrote_it(
        self, next_run: Callable[..., RunRef], conn: Connection, merge: Merge
    ) -> None:
        conn.execute("UPDATE objects SET verified_run = NULL, verified_at = NULL")
        later = next_run(RunKind.RUN if merge is Merge.COPIES else RunKind.VERIFY)
        status = Status.FAILED if merge is Merge.COPIES else Status.DESTINATION_GONE
        write_objects(conn, later, [a_try(status)], merge)
        assert proven(conn) == (later.run_id - 1, a_record().finished_at)


class TestReplaced:
    """Columns `replaced_etag` and `replaced_version`."""

    @staticmethod
    def replaced(conn: Connection) -> list[tuple[Any, ...]]:
        return [
            conn.execute(f"SELECT replaced_etag, replaced_version FROM {table} ORDER BY run_id DESC").fetchall()[0]  # noqa: S608
            for table in ("attempts", "objects")
        ]

    @pytest.mark.parametrize("later", [("ours", None), (None, None)])
    def test_the_first_look_of_a_run_stays(
        self, ref: RunRef, conn: Connection, later: tuple[str | None, str | None]
    ) -> None:
        first = a_try(untouched=False, replaced_etag="theirs", replaced_version="v1")
        write_objects(conn, ref, [first])
        write_objects(conn, ref, [a_record(replaced_etag=later[0], replaced_version=later[1])])

        assert self.replaced(conn) == [("theirs", "v1")] * 2
        assert statuses(conn, ref) == statuses(conn, ref, "objects") == {KEY: "VERIFIED"}

    def test_a_look_is_the_first_where_none_was_made(self, ref: RunRef, conn: Connection) -> None:
        write_objects(conn, ref, [a_try()])
        write_objects(conn, ref, [a_record(replaced_etag="theirs", replaced_version="v1")])

        assert self.replaced(conn) == [("theirs", "v1")] * 2

    def test_each_run_has_its_own(self, next_run: NextRun, conn: Connection) -> None:
        ours = next_run()
        write_objects(conn, ours, [a_try(replaced_etag="ours")])
        assert self.replaced(conn) == [("ours", None), ("theirs", None)]

        write_objects(conn, ours, [a_record(replaced_etag="later")])
        assert self.replaced(conn) == [("ours", None)] * 2
