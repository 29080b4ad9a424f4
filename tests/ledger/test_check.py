"""A run's records are still those of its end, or the check says that they are not."""

from __future__ import annotations

import hashlib

import pytest

from ledger.accounting import InputFile, write_counts
from ledger.check import check_run
from ledger.connect import Connection
from ledger.digest import ENCODING, ENCODINGS, canonical_copy, records_digest, seal, stored_digest
from ledger.leases import RunRef, release
from ledger.rows import COLUMNS
from ledger.runs import drop_history, finish_run
from ledger.writer import write_objects
from model.errors import InvalidInput
from model.outcome import Outcome
from model.records import IntegrityRecord, Tally
from model.status import Status
from tests.ledger.examples import a_record

ODD = "tab\t line\n back\\slash \r \b\f\v ä"


def records() -> list[IntegrityRecord]:
    return [
        a_record(1, destination_key="b"),
        a_record(2, destination_key="a"),
        a_record(3, destination_key="B", status=Status.FAILED, error=ODD, sha256=None),
        a_record(4, destination_key=ODD),
    ]


@pytest.fixture
def closed(ref: RunRef, conn: Connection) -> RunRef:
    """Run 1 at its end: three verified, one failed."""
    write_objects(conn, ref, records())
    ended = [Tally(0, record.size_class, record.status, 1, record.size) for record in records()]
    read = Tally(0, None, None, 4, sum(tally.object_bytes for tally in ended))
    write_counts(conn, ref, 0, [InputFile(0, "0.csv.gz", 1, None)], [read, *ended])
    finish_run(conn, ref, Outcome.FAILED, 1, {})
    release(conn, ref)
    seal(conn, ref.run_id)
    return ref


def canonical(record: IntegrityRecord) -> bytes:
    """The encoding of docs/export.md, written a second time."""
    escapes = {"\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}
    values = []
    for name in ENCODINGS[ENCODING]:
        value = getattr(record, name)
        if value is None:
            values.append("\\N")
        elif name in ("started_at", "finished_at"):
            values.append(str(round(value * 1_000_000)))
        else:
            values.append("".join(escapes.get(character, character) for character in str(value)))
    return "\t".join(values).encode() + b"\n"


def test_the_digest_is_over_the_records_in_the_order_of_their_keys(closed: RunRef, conn: Connection) -> None:
    ordered = sorted(records(), key=lambda record: record.destination_key.encode())

    digest = records_digest(conn, closed.run_id)

    assert (digest.records, digest.sha256) == (4, hashlib.sha256(b"".join(map(canonical, ordered))).hexdigest())
    assert stored_digest(conn, closed.run_id) == digest


def test_the_settings_of_a_session_do_not_change_the_digest(closed: RunRef, conn: Connection) -> None:
    before = records_digest(conn, closed.run_id)

    conn.execute("SET TimeZone = 'Asia/Kathmandu'; SET DateStyle = 'German'; SET IntervalStyle = 'iso_8601'")

    assert records_digest(conn, closed.run_id) == before


def test_a_new_column_of_the_records_has_a_new_encoding() -> None:
    assert ENCODINGS[ENCODING] == COLUMNS


def test_records_nobody_touched_are_those_of_the_end(closed: RunRef, conn: Connection) -> None:
    check = check_run(conn, closed.run_id)

    assert (check.same, check.gaps, check.others) == (True, (), 0)


@pytest.mark.parametrize("column", COLUMNS)
def test_a_change_of_any_column_is_found(column: str, closed: RunRef, conn: Connection) -> None:
    other = {
        "size_class": "'large'",
        "status": "'COPIED'",
        "source_evidence": "'length'",
        "destination_evidence": "'readback'",
        "started_at": "started_at + interval '1 microsecond'",
        "finished_at": "NULL",
        "error": "''",
    }.get(column, f"coalesce({column}, {column}) || '1'")
    if column in ("file_number", "row_number", "size", "attempts"):
        other = f"{column} + 1"
    if column in ("source_version", "destination_version", "replaced_etag", "replaced_version"):
        other = "''"
    conn.execute(f"UPDATE attempts SET {column} = {other} WHERE destination_key = 'a'")  # noqa: S608

    check = check_run(conn, closed.run_id)

    assert not check.same
    assert check.found != check.stored
    assert check.others


def test_a_row_that_is_gone_is_found_and_its_file_and_status_named(closed: RunRef, conn: Connection) -> None:
    conn.execute("DELETE FROM attempts WHERE destination_key = 'a'")

    check = check_run(conn, closed.run_id)

    assert (check.stored and check.stored.records, check.found and check.found.records) == (4, 3)
    assert [(gap.file_number, gap.status, gap.expected, gap.found) for gap in check.gaps] == [
        (0, Status.VERIFIED, 3, 2)
    ]
    assert check.examples == ("a",)


def test_a_row_that_was_added_is_found(closed: RunRef, conn: Connection) -> None:
    conn.execute(
        'INSERT INTO attempts SELECT (jsonb_populate_record(a, \'{"destination_key": "new", "row_number": 9}\')).*'
        " FROM attempts a WHERE status = 'VERIFIED' LIMIT 1"
    )

    check = check_run(conn, closed.run_id)

    assert (check.stored and check.stored.records, check.found and check.found.records) == (4, 5)
    assert [str(gap) for gap in check.gaps] == ["input file 0: 3 rows counted small VERIFIED, 4 in the ledger"]


def test_a_change_of_objects_alone_is_found(closed: RunRef, conn: Connection) -> None:
    conn.execute("UPDATE objects SET sha256 = repeat('f', 64), status = 'VERIFIED' WHERE destination_key = 'B'")

    check = check_run(conn, closed.run_id)

    assert check.found == check.stored
    assert (check.same, check.others, check.examples) == (False, 1, ("B",))


def test_history_that_was_dropped_is_told_apart_from_a_change(closed: RunRef, conn: Connection) -> None:
    drop_history(conn, closed.run_id)

    check = check_run(conn, closed.run_id)

    assert check.stored is not None
    assert (check.found, check.same) == (None, False)


def test_a_run_that_is_still_going_is_refused(ref: RunRef, conn: Connection) -> None:
    with pytest.raises(InvalidInput, match="still going"):
        check_run(conn, ref.run_id)


def test_a_run_without_an_end_has_nothing_to_compare_with(ref: RunRef, conn: Connection) -> None:
    conn.execute("UPDATE leases SET expires_at = clock_timestamp() - interval '1 second'")

    assert check_run(conn, ref.run_id).stored is None


def test_an_encoding_of_a_newer_version_is_refused(closed: RunRef, conn: Connection) -> None:
    conn.execute("UPDATE runs SET records_encoding = %s", (ENCODING + 1,))

    with pytest.raises(InvalidInput, match="install a newer s3ferry"):
        check_run(conn, closed.run_id)


def test_psql_and_sha256sum_find_the_same(closed: RunRef, conn: Connection) -> None:
    with conn.cursor() as cursor, cursor.copy(canonical_copy(closed.run_id)) as rows:
        printed = b"".join(map(bytes, rows))

    digest = stored_digest(conn, closed.run_id)
    assert digest is not None
    assert hashlib.sha256(printed).hexdigest() == digest.sha256
