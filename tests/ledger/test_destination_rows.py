"""The destination's inventory in the ledger."""

from __future__ import annotations

import pytest

from ledger.connect import Connection
from ledger.destination_rows import Extras, ListedObject, extras, keep_listed, listed, make_room
from ledger.leases import RunRef, release
from ledger.runs import start_run
from ledger.writer import write_objects
from model.outcome import RunKind
from tests.ledger.examples import a_record, a_run

OBJECTS = [ListedObject('a "quoted\\ key', 5, "etag"), ListedObject("ä+ ", 0, None)]


@pytest.fixture
def looking(dsn: str, conn: Connection) -> RunRef:
    """A run that verifies, with room for the destination's inventory."""
    ref = start_run(dsn, a_run(kind=RunKind.VERIFY))
    make_room(conn, ref)
    return ref


def test_what_was_kept_is_found_by_its_key(looking: RunRef, conn: Connection) -> None:
    keep_listed(conn, looking, OBJECTS)
    keys = [*(one.destination_key for one in OBJECTS), "elsewhere", "nul\0"]
    assert listed(conn, looking, keys) == {one.destination_key: one for one in OBJECTS}


def test_a_file_that_is_read_twice_is_kept_once(looking: RunRef, conn: Connection) -> None:
    for _ in range(2):
        make_room(conn, looking)
        keep_listed(conn, looking, OBJECTS)
    assert conn.execute("SELECT count(*) FROM destination_rows").fetchone() == (2,)


def test_extras_are_what_no_row_of_the_run_stands_for(looking: RunRef, conn: Connection) -> None:
    keep_listed(conn, looking, [*OBJECTS, ListedObject(a_record().destination_key, 1, "etag")])
    write_objects(conn, looking, [a_record()])
    assert extras(conn, looking) == Extras(2, tuple(one.destination_key for one in OBJECTS))


def test_the_next_verification_of_the_job_drops_the_rows_of_the_one_before(
    looking: RunRef, dsn: str, conn: Connection
) -> None:
    keep_listed(conn, looking, OBJECTS)
    release(conn, looking)
    make_room(conn, start_run(dsn, a_run(kind=RunKind.VERIFY)))
    assert conn.execute("SELECT count(*) FROM destination_rows").fetchone() == (0,)
