"""Rows in against rows accounted for: counts per input file, their reconciliation and their sums."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from psycopg import sql

from ledger.connect import Connection
from ledger.leases import RunRef, fenced
from ledger.runs import partition
from model.records import Tally
from model.status import COUNTED_ONLY, SizeClass, Status

_UNCLASSED = "none"


class InputFile(NamedTuple):
    """One file of the inventory: its key or path, size in bytes, and MD5 in hex where the manifest states it."""

    file_number: int
    file_key: str
    size: int
    md5: str | None


class Gap(NamedTuple):
    """A difference that keeps a run from being a success. `status` None: rows read against rows counted.

    With a status: rows counted as it (`expected`) against rows the ledger holds (`found`). `unit` says what is counted.
    """

    file_number: int
    status: Status | None
    expected: int
    found: int
    unit: str = "rows"

    def __str__(self) -> str:
        if self.status is None:
            return f"input file {self.file_number}: {self.expected} {self.unit} read, {self.found} accounted for"
        return f"input file {self.file_number}: {self.expected} rows counted {self.status}, {self.found} in the ledger"


class ClassCount(NamedTuple):
    """Rows of one size class (None: it took no branch) that ended one way, over the whole run."""

    size_class: SizeClass | None
    status: Status
    objects: int
    object_bytes: int


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


def gap_query(run_id: int) -> str:
    """What shows a user the gaps of a run, file by file, in SQL on one line."""
    return (
        "SELECT file_number, min(file_key) AS file, sum(rows) AS rows_read, (SELECT sum(objects) FROM manifest_counts c"  # noqa: S608
        " WHERE c.run_id = f.run_id AND c.file_number = f.file_number) AS accounted_for FROM manifest_files f"
        f" WHERE run_id = {run_id} GROUP BY run_id, file_number ORDER BY file_number;"
    )


def reconcile(conn: Connection, ref: RunRef) -> list[Gap]:
    """Where this run's rows do not add up, in order of input file; empty when all do. Repeatable.

    Per file: rows read against the sum of all statuses, and, where they agree, bytes likewise. Bytes missing are a gap,
    but rows may come without a size, and with `--on_change=copy` a size is that of what is there now. Per file and
    status that is kept row by row: rows counted against rows in `attempts`, or in `dead_letters` where they could not
    be kept. Reads the whole partition: give it a statement time-out of minutes.
    """
    rows = conn.execute(
        "SELECT coalesce(f.file_number, c.file_number), coalesce(f.rows, 0), coalesce(c.objects, 0), f.bytes, c.bytes"
        " FROM (SELECT file_number, sum(rows)::bigint AS rows, sum(object_bytes)::bigint AS bytes FROM manifest_files"
        " WHERE run_id = %(run)s GROUP BY 1) f"
        " FULL JOIN (SELECT file_number, sum(objects)::bigint AS objects, sum(object_bytes)::bigint AS bytes"
        " FROM manifest_counts WHERE run_id = %(run)s GROUP BY 1) c USING (file_number)"
        " WHERE coalesce(f.rows, 0) <> coalesce(c.objects, 0) OR (c.bytes < f.bytes AND NOT EXISTS (SELECT FROM runs"
        " WHERE run_id = %(run)s AND options -> 'copy' ->> 'on_change' = 'copy')) ORDER BY 1",
        {"run": ref.run_id},
    ).fetchall()
    gaps = [
        Gap(file, None, read, counted) if read != counted else Gap(file, None, bytes_read, bytes_counted, "bytes")
        for file, read, counted, bytes_read, bytes_counted in rows
    ]
    rows = conn.execute(
        sql.SQL(
            "WITH kept AS (SELECT file_number, row_number, status FROM {partition} UNION ALL"
            " SELECT file_number, row_number, status FROM dead_letters d WHERE run_id = %(run)s AND NOT EXISTS"
            " (SELECT FROM {partition} a WHERE (a.file_number, a.row_number) = (d.file_number, d.row_number))),"
            " found AS (SELECT file_number, status, count(*) AS objects FROM kept GROUP BY 1, 2),"
            " counted AS (SELECT file_number, status, sum(objects)::bigint AS objects FROM manifest_counts"
            " WHERE run_id = %(run)s GROUP BY 1, 2)"
            " SELECT file_number, status, coalesce(c.objects, 0), coalesce(f.objects, 0)"
            " FROM counted c FULL JOIN found f USING (file_number, status)"
            " WHERE status <> ALL(%(counted_only)s::object_status[])"
            " AND coalesce(c.objects, 0) <> coalesce(f.objects, 0)"
            " ORDER BY 1, 2"
        ).format(partition=partition(ref.run_id)),
        {"run": ref.run_id, "counted_only": [status.value for status in COUNTED_ONLY]},
    ).fetchall()
    return gaps + [Gap(file, Status(status), want, have) for file, status, want, have in rows]


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
