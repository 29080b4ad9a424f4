"""The accounts of a run per input file: rows expected, read, and counted by how they ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from ledger.connect import Connection
from ledger.leases import RunRef, fenced
from ledger.objects import CLAIMED
from ledger.rows import storable
from model.records import Tally
from model.status import SizeClass, Status

_UNCLASSED = "none"
_BEFORE = -1
"""The slice of what is known of a file before any of it is read."""


class InputFile(NamedTuple):
    """One file of the inventory: its key or path, size in bytes, and MD5 in hex where the manifest states it."""

    file_number: int
    file_key: str
    size: int
    md5: str | None


class ExpectedFile(NamedTuple):
    """An input file before it is read: its rows where they were counted, or why it is left out as a bad file."""

    file: InputFile
    rows: int | None = None
    bad_reason: str | None = None


class ClassCount(NamedTuple):
    """Rows of one size class (None: it took no branch) that ended one way, over the whole run."""

    size_class: SizeClass | None
    status: Status
    objects: int
    object_bytes: int


def expect_files(conn: Connection, ref: RunRef, expected: Sequence[ExpectedFile]) -> None:
    """Notes which input files the run is to read; what was noted of one before goes. Repeatable.

    Raises LeaseLost when fenced off.
    """
    with fenced(conn, ref):
        conn.execute(
            "INSERT INTO manifest_files"
            " (run_id, slice, file_number, file_key, size, md5, rows, object_bytes, expected_rows, bad_reason)"
            " SELECT %s, %s, file_number, file_key, size, md5, 0, 0, expected_rows, bad_reason"
            " FROM unnest(%s::int[], %s::text[], %s::bigint[], %s::text[], %s::bigint[], %s::text[])"
            " AS expected (file_number, file_key, size, md5, expected_rows, bad_reason) ORDER BY file_number"
            " ON CONFLICT (run_id, file_number, slice) DO UPDATE SET expected_rows = excluded.expected_rows,"
            " bad_reason = excluded.bad_reason",
            (
                ref.run_id,
                _BEFORE,
                [one.file.file_number for one in expected],
                [one.file.file_key for one in expected],
                [one.file.size for one in expected],
                [one.file.md5 for one in expected],
                [one.rows for one in expected],
                [one.bad_reason and storable(one.bad_reason) for one in expected],
            ),
        )


def note_bad_file(conn: Connection, ref: RunRef, file: InputFile, reason: str) -> None:
    """Notes that the file is left out, found bad where it was to be read; its expected rows stay. Repeatable.

    Raises LeaseLost when fenced off.
    """
    with fenced(conn, ref):
        conn.execute(
            "INSERT INTO manifest_files"
            " (run_id, slice, file_number, file_key, size, md5, rows, object_bytes, bad_reason)"
            " VALUES (%s, %s, %s, %s, %s, %s, 0, 0, %s)"
            " ON CONFLICT (run_id, file_number, slice) DO UPDATE SET bad_reason = excluded.bad_reason",
            (ref.run_id, _BEFORE, *file, storable(reason)),
        )


def write_counts(
    conn: Connection, ref: RunRef, slice_number: int, files: Sequence[InputFile], tallies: Sequence[Tally]
) -> None:
    """Puts a slice's counts in the place of what an earlier call wrote for that slice; repeatable.

    Tallies without status are rows read; tallies that say the same thing are added up. Raises ValueError
    for rows read from a file that is not among `files`, LeaseLost when fenced off.
    """
    read, counted = _added_up(tallies)
    unknown = read.keys() - {file.file_number for file in files}
    if unknown:
        raise ValueError(f"rows were read from input files {sorted(unknown)}, which are not among the slice's files")
    key = (ref.run_id, slice_number)
    with fenced(conn, ref, after_release=True), conn.cursor() as cursor:
        cursor.execute("DELETE FROM manifest_files WHERE run_id = %s AND slice = %s", key)
        cursor.execute("DELETE FROM manifest_counts WHERE run_id = %s AND slice = %s", key)
        cursor.executemany(
            "INSERT INTO manifest_files (run_id, slice, file_number, file_key, size, md5, rows, object_bytes)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
            [(*key, *file, *read.get(file.file_number, (0, 0))) for file in files],
        )
        cursor.executemany(
            "INSERT INTO manifest_counts (run_id, slice, file_number, size_class, status, objects, object_bytes)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s)",
            [(*key, *what, *amounts) for what, amounts in counted.items()],
        )


def bad_files(conn: Connection, run_id: int) -> int:
    """How many input files of the run were left out because they are bad. A read."""
    row = conn.execute(
        "SELECT count(*) FROM (SELECT FROM manifest_files WHERE run_id = %s GROUP BY file_number"
        " HAVING max(bad_reason) IS NOT NULL AND (max(slice) < 0 OR sum(rows) < max(expected_rows))) AS bad",
        (run_id,),
    ).fetchone()
    return row[0] if row else 0


def rows_without_key(conn: Connection, run_id: int) -> int:
    """How many rows of the run stand for an object whose destination key the ledger does not hold. A read."""
    row = conn.execute(
        "SELECT count(*) FROM dead_letters WHERE run_id = %s AND reason <> %s", (run_id, CLAIMED)
    ).fetchone()
    return row[0] if row else 0


def summary_counts(conn: Connection, run_id: int) -> list[ClassCount]:
    """The run's rows per size class and status, as `write_counts` left them."""
    rows = conn.execute(
        "SELECT size_class, status, sum(objects)::bigint, sum(object_bytes)::bigint FROM manifest_counts"
        " WHERE run_id = %s GROUP BY 1, 2 ORDER BY array_position(ARRAY['small', 'medium', 'large'], size_class), 2",
        (run_id,),
    ).fetchall()
    return [
        ClassCount(
            None if size_class == _UNCLASSED else SizeClass(size_class),
            Status(status),
            objects,
            object_bytes,
        )
        for size_class, status, objects, object_bytes in rows
    ]


def _added_up(
    tallies: Sequence[Tally],
) -> tuple[dict[int, tuple[int, int]], dict[tuple[int, str, str], tuple[int, int]]]:
    """(objects, bytes) read per file, and counted per (file, size class, status)."""
    read: Counter[tuple[int, int]] = Counter()
    counted: Counter[tuple[tuple[int, str, str], int]] = Counter()
    for tally in tallies:
        for index, amount in enumerate((tally.objects, tally.object_bytes)):
            if tally.status is None:
                read[tally.file_number, index] += amount
            else:
                what = (tally.file_number, tally.size_class or _UNCLASSED, tally.status.value)
                counted[what, index] += amount
    return (
        {file: (read[file, 0], read[file, 1]) for file, _ in read},
        {what: (counted[what, 0], counted[what, 1]) for what, _ in counted},
    )
