"""Claims: one source object for a destination key, for as long as a run lasts."""

from __future__ import annotations

import threading

import pytest

from ledger.claims import claim, make_room
from ledger.connect import Connection, connect
from ledger.leases import RunRef, release
from ledger.runs import drop_history, start_run
from model.errors import LeaseLost
from model.objects import ObjectRef
from tests.ledger.examples import a_run


def an_object(bucket: str, key: str = "a", version: str | None = None, row: int = 0) -> ObjectRef:
    return ObjectRef(0, row, bucket, key, version, 5, "etag", f"backup/{key}")


@pytest.fixture
def copying(dsn: str, conn: Connection) -> RunRef:
    """A run whose rows may meet."""
    ref = start_run(dsn, a_run())
    make_room(conn, ref)
    return ref


def test_the_first_object_has_the_key(copying: RunRef, conn: Connection) -> None:
    first, second = an_object("one"), an_object("two", row=1)
    assert claim(conn, copying, [first]) == set()
    assert claim(conn, copying, [second, an_object("two", "b")]) == {second}


def test_of_two_in_one_batch_the_first_has_the_key(copying: RunRef, conn: Connection) -> None:
    first, second = an_object("one"), an_object("two", row=1)
    assert claim(conn, copying, [first, second]) == {second}


def test_a_claim_that_is_repeated_gives_what_it_gave(copying: RunRef, conn: Connection) -> None:
    both = [an_object("one"), an_object("two", row=1)]
    assert claim(conn, copying, both) == claim(conn, copying, both) == {both[1]}


def test_two_rows_of_one_object_share_its_claim(copying: RunRef, conn: Connection) -> None:
    assert claim(conn, copying, [an_object("one"), an_object("one", row=1)]) == set()


def test_another_version_is_another_object(copying: RunRef, conn: Connection) -> None:
    older = an_object("one", version="v1", row=1)
    assert claim(conn, copying, [an_object("one", version="v2"), older]) == {older}


def test_a_key_postgresql_cannot_hold_is_claimed_too(copying: RunRef, conn: Connection) -> None:
    second = an_object("two", "nul\0\udcff", row=1)
    assert claim(conn, copying, [an_object("one", "nul\0\udcff"), second]) == {second}


def test_only_one_of_those_who_ask_at_the_same_time_has_a_key(copying: RunRef, dsn: str) -> None:
    keys = [f"{number:04}" for number in range(500)]
    start, late = threading.Barrier(4), []

    def ask(bucket: str, order: int) -> None:
        with connect(dsn, bucket) as own:
            start.wait()
            for place in range(0, len(keys), 50):
                batch = [an_object(bucket, key) for key in keys[place : place + 50][::order]]
                late.extend(claim(own, copying, batch))

    threads = [threading.Thread(target=ask, args=(f"b{n}", 1 if n % 2 else -1)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    losers = [one.key for one in late]
    assert all(losers.count(key) == 3 for key in keys)


def test_the_next_run_of_the_job_begins_without_claims(copying: RunRef, dsn: str, conn: Connection) -> None:
    claim(conn, copying, [an_object("one")])
    release(conn, copying)
    following = start_run(dsn, a_run())
    make_room(conn, following)
    assert conn.execute("SELECT count(*) FROM claims").fetchone() == (0,)
    assert claim(conn, following, [an_object("two")]) == set()


def test_claims_go_with_the_history_of_a_run(copying: RunRef, conn: Connection) -> None:
    claim(conn, copying, [an_object("one")])
    release(conn, copying)
    drop_history(conn, copying.run_id)
    assert conn.execute("SELECT count(*) FROM claims").fetchone() == (0,)


def test_nothing_is_claimed_without_the_lease(copying: RunRef, dsn: str, conn: Connection) -> None:
    release(conn, copying)
    start_run(dsn, a_run())
    with pytest.raises(LeaseLost):
        claim(conn, copying, [an_object("one")])
