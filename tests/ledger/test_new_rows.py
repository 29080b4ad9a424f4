"""Rows of keys the ledger does not know go in by COPY; what is known, or gets known meanwhile, is merged."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from psycopg.conninfo import make_conninfo

from ledger.connect import Connection, connect
from ledger.leases import RunRef, release
from ledger.objects import CLAIMED, RowOutcome
from ledger.queries import finished_in_run
from ledger.rows import text_array
from ledger.runs import start_run
from ledger.writer import write_objects
from model.status import Status
from tests.ledger.examples import a_record, a_run, statuses
from tests.ledger.sessions import VERIFIED, until

AWKWARD = [
    'say "hi"',
    "back\\slash",
    "{a,b}",
    "comma, semicolon;",
    "tab\tline\nreturn\r",
    "NULL",
    "",
    " ",
    "größe/日本/🗝",
]


def test_new_and_known_rows_of_one_batch_end_alike(ref: RunRef, conn: Connection) -> None:
    write_objects(conn, ref, [a_record(number, status=Status.FAILED) for number in range(0, 40, 2)])
    records = [a_record(number) for number in range(40)]
    assert write_objects(conn, ref, records) == [VERIFIED] * 40
    for table in ("attempts", "objects"):
        assert statuses(conn, ref, table) == {record.destination_key: "VERIFIED" for record in records}


def test_a_run_repeats_what_an_earlier_one_wrote_beside_what_is_new(dsn: str, ref: RunRef, conn: Connection) -> None:
    write_objects(conn, ref, [a_record(number) for number in range(20)])
    release(conn, ref)
    newer = start_run(dsn, a_run())
    assert write_objects(conn, newer, [a_record(number) for number in range(10, 30)]) == [VERIFIED] * 20
    assert len(statuses(conn, newer)) == len(statuses(conn, newer, "objects")) == 20
    assert len(statuses(conn, ref, "objects")) == 10


@pytest.mark.parametrize(
    ("theirs", "outcome"),
    [
        ({}, VERIFIED),
        ({"row_number": 9}, RowOutcome(Status.DUPLICATE)),
        ({"row_number": 9, "source_key": "another"}, RowOutcome(Status.FAILED, CLAIMED)),
    ],
    ids=["the same row", "the same source", "another source"],
)
def test_a_key_another_writer_takes_after_the_look_is_merged(
    dsn: str, ref: RunRef, conn: Connection, theirs: dict[str, Any], outcome: RowOutcome
) -> None:
    taken = a_record(5)._replace(**theirs)
    with connect(dsn, "other") as other, ThreadPoolExecutor(1) as pool:
        with other.transaction():
            write_objects(other, ref, [taken])
            # the other's row is not committed: it is invisible to the look, and the COPY waits for it
            mine = pool.submit(write_objects, conn, ref, [a_record(number) for number in range(10)])
            until(lambda: other.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone())
        outcomes = mine.result(60)
    assert outcomes == [*[VERIFIED] * 5, outcome, *[VERIFIED] * 4]
    for table in ("attempts", "objects"):
        assert len(statuses(conn, ref, table)) == 10
        rows = conn.execute(f"SELECT row_number FROM {table} WHERE destination_key = %s", (taken.destination_key,))  # noqa: S608
        assert rows.fetchall() == [(taken.row_number,)]


def test_a_row_that_only_one_of_the_tables_has_is_merged(ref: RunRef, conn: Connection) -> None:
    records = [a_record(number) for number in range(10)]
    write_objects(conn, ref, records)
    conn.execute("DELETE FROM objects WHERE destination_key = %s", (records[3].destination_key,))
    assert write_objects(conn, ref, records) == write_objects(conn, ref, records[3:4]) * 10 == [VERIFIED] * 10
    assert len(statuses(conn, ref)) == len(statuses(conn, ref, "objects")) == 10


def test_a_row_that_cannot_be_stored_does_not_cost_rows_the_ledger_knows(ref: RunRef, conn: Connection) -> None:
    records = [a_record(number) for number in range(20)]
    write_objects(conn, ref, records)
    records[7] = records[7]._replace(source_key="nul\0")
    outcomes = write_objects(conn, ref, records)
    assert [number for number, outcome in enumerate(outcomes) if outcome != VERIFIED] == [7]
    assert conn.execute("SELECT row_number FROM dead_letters").fetchall() == [(7,)]


@pytest.mark.parametrize("known", [False, True])
def test_all_values_come_back_whichever_way_they_went(ref: RunRef, conn: Connection, known: bool) -> None:
    records = [
        a_record(
            number,
            destination_key=f"backup/{AWKWARD[number % len(AWKWARD)]}/{number}",
            source_key=f"{AWKWARD[number % len(AWKWARD)]}/{number}",
            source_version=f"v{number}" if number % 3 else None,
            source_etag="" if number % 2 else None,
            size=number * 2**40,
            error=AWKWARD[number % len(AWKWARD)] if number % 4 else None,
            started_at=1_795_000_000 + number / 64,
            finished_at=0.0 if number % 5 else 1_795_000_000.015625,
        )
        for number in range(600)
    ]
    if known:
        write_objects(conn, ref, [record._replace(status=Status.FAILED) for record in records])
    assert write_objects(conn, ref, records) == [VERIFIED] * 600
    found = finished_in_run(conn, ref, [record.destination_key for record in records])
    assert found == {record.destination_key: record._replace(recorded=True) for record in records}


@pytest.mark.parametrize("texts", [[], AWKWARD], ids=["none", "awkward"])
def test_texts_come_back_from_an_array(conn: Connection, texts: list[str]) -> None:
    assert conn.execute("SELECT %s::text[]", (text_array(texts),)).fetchone() == (texts,)


def test_times_are_those_to_timestamp_makes(ref: RunRef, conn: Connection) -> None:
    times = [1.7e9 + number * 1.0000007 for number in range(300)]
    write_objects(conn, ref, [a_record(number, started_at=time) for number, time in enumerate(times)])
    rows = conn.execute(
        "SELECT a.started_at = to_timestamp(t) FROM attempts a"
        " JOIN unnest(%s::float8[]) WITH ORDINALITY AS given (t, n) ON a.row_number = n - 1",
        (times,),
    ).fetchall()
    assert rows == [(True,)] * 300


def test_keys_are_kept_whatever_encoding_the_client_is_set_to(dsn: str) -> None:
    ref = start_run(dsn, a_run())
    record = a_record(1, source_key="größe", destination_key="größe")
    with connect(make_conninfo(dsn, client_encoding="LATIN1"), "test") as conn:
        assert write_objects(conn, ref, [record]) == [VERIFIED]
    with connect(dsn, "test") as conn:
        assert set(finished_in_run(conn, ref, ["größe"])) == {"größe"}


@pytest.mark.parametrize("moment", [float("nan"), float("inf")])
def test_a_time_that_is_none_costs_its_own_row_only(ref: RunRef, conn: Connection, moment: float) -> None:
    records = [a_record(1), a_record(2, started_at=moment), a_record(3)]
    assert [outcome.status for outcome in write_objects(conn, ref, records)] == [
        Status.VERIFIED,
        Status.FAILED,
        Status.VERIFIED,
    ]
