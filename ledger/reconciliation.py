"""Where the accounts of a run do not add up, by queries a user can repeat: one for each kind of gap.

Each gives a row for each gap, with one set of columns, and none where there is no gap.
"""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from ledger.connect import Connection
from ledger.leases import RunRef
from ledger.runs import partition
from model.outcome import Gap, GapKind
from model.status import COUNTED_ONLY, SizeClass, Status

_UNREAD = sql.SQL("""
SELECT file_number, NULL AS size_class, NULL AS status,
  CASE WHEN max(expected_rows) IS NULL THEN 'files' ELSE 'rows' END AS unit,
  coalesce(max(expected_rows), 1) AS expected, sum(rows)::bigint AS found
FROM manifest_files WHERE run_id = {run}
GROUP BY file_number
HAVING max(bad_reason) IS NULL
  AND (sum(rows) <> max(expected_rows) OR (max(expected_rows) IS NULL AND max(slice) < 0))
ORDER BY 1
""")

# Bytes only where rows agree. None at all where no row states a size, or sizes are those of what is there now.
_UNACCOUNTED = sql.SQL("""
SELECT file_number, NULL AS size_class, NULL AS status, unit, expected, found
FROM (SELECT file_number, sum(rows)::bigint AS rows, sum(object_bytes)::bigint AS bytes
      FROM manifest_files WHERE run_id = {run} GROUP BY 1) AS seen
FULL JOIN (SELECT file_number, sum(objects)::bigint AS rows, sum(object_bytes)::bigint AS bytes
      FROM manifest_counts WHERE run_id = {run} GROUP BY 1) AS ended USING (file_number)
CROSS JOIN LATERAL (VALUES
  ('rows', coalesce(seen.rows, 0), coalesce(ended.rows, 0)),
  ('bytes', coalesce(seen.bytes, 0), coalesce(ended.bytes, 0))) AS sums (unit, expected, found)
WHERE expected <> found AND (unit = 'rows' OR (seen.rows = ended.rows AND seen.bytes > 0
  AND NOT EXISTS (SELECT FROM runs WHERE run_id = {run} AND options -> 'copy' ->> 'on_change' = 'copy')))
ORDER BY 1
""")

# Dead letters have neither class nor size: they fill up what a class lacks, and are compared by status.
_UNRECORDED = sql.SQL("""
WITH counted AS (
  SELECT file_number, size_class, status, sum(objects)::bigint AS rows, sum(object_bytes)::bigint AS bytes
  FROM manifest_counts WHERE run_id = {run} AND status <> ALL({counted_only}::object_status[]) GROUP BY 1, 2, 3),
kept AS (
  SELECT file_number, size_class, status, count(*) AS rows, sum(size)::bigint AS bytes
  FROM {partition} GROUP BY 1, 2, 3),
letters AS (
  SELECT file_number, status, count(*) AS rows FROM dead_letters AS letter
  WHERE run_id = {run} AND status <> ALL({counted_only}::object_status[]) AND NOT EXISTS (SELECT FROM {partition} AS a
    WHERE (a.file_number, a.row_number) = (letter.file_number, letter.row_number)) GROUP BY 1, 2),
classes AS (
  SELECT file_number, status, size_class, coalesce(counted.rows, 0) AS rows, coalesce(kept.rows, 0) AS kept_rows,
    coalesce(counted.bytes, 0) AS bytes, coalesce(kept.bytes, 0) AS kept_bytes
  FROM counted FULL JOIN (SELECT file_number, size_class::text, status, rows, bytes FROM kept) AS kept
    USING (file_number, size_class, status)),
compared AS (
  SELECT file_number, status, size_class, coalesce(classes.rows, 0) AS rows, coalesce(kept_rows, 0) AS kept_rows,
    coalesce(bytes, 0) AS bytes, coalesce(kept_bytes, 0) AS kept_bytes, coalesce(letters.rows, 0) AS letters
  FROM classes FULL JOIN letters USING (file_number, status))
SELECT file_number, size_class, status, unit, expected, found
FROM compared CROSS JOIN LATERAL (VALUES
  ('rows', rows, kept_rows, rows < kept_rows OR (rows > kept_rows AND letters = 0)),
  ('bytes', bytes, kept_bytes,
    (rows = kept_rows AND bytes <> kept_bytes) OR (rows > kept_rows AND letters > 0 AND bytes < kept_bytes)))
  AS sums (unit, expected, found, is_gap)
WHERE is_gap
UNION ALL
SELECT file_number, NULL, status, 'rows', sum(rows)::bigint, (sum(kept_rows) + max(letters))::bigint
FROM compared WHERE letters > 0 GROUP BY file_number, status HAVING sum(rows) <> sum(kept_rows) + max(letters)
ORDER BY 1, 3, 2, 4 DESC
""")

_QUERIES = {GapKind.UNREAD: _UNREAD, GapKind.UNACCOUNTED: _UNACCOUNTED, GapKind.UNRECORDED: _UNRECORDED}


def reconcile(conn: Connection, ref: RunRef) -> list[Gap]:
    """Where this run's accounts do not add up, in order of input file; empty when they do. Repeatable.

    Per file of the manifest that is not recorded as bad: that it was read, with as many rows as were counted before.
    Per file: rows, and where they agree bytes, read against the sum of all statuses. Per file, class and status that is
    kept row by row: rows and bytes counted against those in `attempts`; rows that could not be kept are in
    `dead_letters`. Reads the whole partition: give it a statement time-out of minutes.
    """
    gaps = [
        Gap(file, expected, found, kind, unit, size_class and SizeClass(size_class), status and Status(status))
        for kind in GapKind
        for file, size_class, status, unit, expected, found in conn.execute(_query(ref.run_id, kind)).fetchall()
    ]
    return sorted(gaps, key=lambda gap: gap.file_number)


def gap_queries(run_id: int, gaps: Sequence[Gap]) -> list[str]:
    """What shows a user these gaps, and others of their kinds: SQL, each on one line."""
    kinds = {gap.kind for gap in gaps}
    return [" ".join(_query(run_id, kind).as_string(None).split()) + ";" for kind in GapKind if kind in kinds]


def gap_lines(run_id: int, gaps: Sequence[Gap]) -> list[str]:
    """What to say of gaps: each of them, then the queries that show them."""
    return [
        *(f"the accounts do not balance: {gap}" for gap in gaps),
        *(f"the ledger shows it: {query}" for query in gap_queries(run_id, gaps)),
    ]


def _query(run_id: int, kind: GapKind) -> sql.Composed:
    return _QUERIES[kind].format(
        run=sql.Literal(run_id),
        partition=partition(run_id),
        counted_only=sql.Literal(sorted(status.value for status in COUNTED_ONLY)),
    )
