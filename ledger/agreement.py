"""Whether the rows of `objects` are what the records say of them.

A copy is its record. A try that wrote nothing, and a finding, leave values of earlier records in the row: each must
be one that a record of that key tells. What the records of a run that was dropped told cannot be compared any more.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import LiteralString, NamedTuple

from psycopg import sql

from ledger.connect import Connection
from ledger.rows import COLUMNS
from ledger.runs import RunStatus, partition
from ledger.untouched import KEPT
from model.outcome import RunKind

EXAMPLES = 3

_BY_FINDING = ("file_number", "row_number", "destination_key", "status", "error", "started_at", "finished_at")
"""What a finding sets in a row it meets."""
_BY_TRY = tuple(name for name in COLUMNS if name not in KEPT)
_TOLD = tuple(name for name in COLUMNS if name not in _BY_FINDING)
"""What may be of an earlier record."""

_JUDGED = """
SELECT coalesce(shown.destination_key, mine.destination_key) AS key, shown.run_id AS run,
  CASE
    WHEN shown.destination_key IS NULL THEN CASE WHEN {is_finding} AND NOT {adopts} THEN 'fine' ELSE 'off' END
    WHEN shown.run_id < {run} THEN CASE
      WHEN {is_finding} AND mine.status NOT IN ('MISMATCH', 'DESTINATION_GONE') THEN 'fine'
      WHEN NOT {is_finding} AND mine.status NOT IN ('VERIFIED', 'COPIED')
        AND shown.status IN ('MISMATCH', 'DESTINATION_GONE') THEN 'fine'
      ELSE 'off' END
    WHEN writer.run_id IS NULL THEN 'off'
    WHEN writer.run_id = ANY({dropped}) THEN 'fine'
    WHEN record.destination_key IS NULL THEN 'off'
    WHEN ({shown}) IS NOT DISTINCT FROM ({record}) AND (
      shown.verified_run IS NULL AND shown.verified_at IS NULL
      OR shown.status = 'VERIFIED'
        AND (shown.verified_run, shown.verified_at) IS NOT DISTINCT FROM (shown.run_id, shown.finished_at)) THEN 'fine'
    WHEN writer.kind = 'run' AND (record.status IN ('VERIFIED', 'COPIED')
      OR ({shown_by_try}) IS DISTINCT FROM ({record_by_try})) THEN 'off'
    WHEN ({shown_by_finding}) IS DISTINCT FROM ({record_by_finding}) THEN 'off'
    ELSE 'mixed'
  END AS verdict
FROM (SELECT destination_key, status FROM {partition} WHERE run_id = {run}) AS mine
FULL JOIN (SELECT * FROM objects WHERE job = {job}) AS shown ON shown.destination_key = mine.destination_key
LEFT JOIN attempts AS record ON record.run_id = shown.run_id AND record.destination_key = shown.destination_key
  AND record.run_id = ANY({writers})
LEFT JOIN runs AS writer ON writer.run_id = shown.run_id AND writer.job = {job}
WHERE mine.destination_key IS NOT NULL OR shown.run_id = {run}
"""

_OFF = """
WITH judged AS MATERIALIZED (SELECT * FROM ({judged}) AS each WHERE verdict <> 'fine'),
told AS (
  SELECT mixed.key
  FROM judged AS mixed JOIN objects AS shown ON shown.job = {job} AND shown.destination_key = mixed.key
  LEFT JOIN attempts AS record
    ON record.destination_key = mixed.key AND record.run_id <= mixed.run AND record.run_id = ANY({runs})
  WHERE mixed.verdict = 'mixed' AND NOT mixed.run > ANY({dropped})
  GROUP BY mixed.key
  HAVING NOT (({told}) AND ({verified})) IS TRUE
)
SELECT count(*), (array_agg(key ORDER BY key COLLATE "C"))[1:{examples}]
FROM (SELECT key FROM judged WHERE verdict = 'off' UNION ALL SELECT key FROM told) AS found
"""

_VERIFIED = """bool_or(
  shown.verified_run IS NULL AND shown.verified_at IS NULL
  OR (shown.verified_run, shown.verified_at, 'VERIFIED')
    IS NOT DISTINCT FROM (record.run_id, record.finished_at, record.status::text))"""


class Disagreement(NamedTuple):
    """Destination keys whose row of `objects` is not what the records say: how many, and the first few."""

    objects: int
    examples: tuple[str, ...]


def disagreement(conn: Connection, run: RunStatus) -> Disagreement:
    """Compares the rows of `objects` that the run was the last to write, or has a record of, with the records.

    Repeatable; in a snapshot that lets statements take long.
    """
    runs = _runs(conn, run.job)
    kept = [run_id for run_id, there in runs if there]
    values = {
        "run": sql.Literal(run.run_id),
        "job": sql.Literal(run.job),
        "is_finding": sql.Literal(run.kind is RunKind.VERIFY),
        "adopts": sql.Literal(_adopts(run)),
        "partition": partition(run.run_id),
        "writers": _array(run_id for run_id in kept if run_id >= run.run_id),
        "dropped": _array(run_id for run_id, there in runs if not there),
        "runs": _array(kept),
        "examples": sql.Literal(EXAMPLES),
        "told": _each("bool_or(shown.{name} IS NOT DISTINCT FROM record.{name})", _TOLD),
        "verified": sql.SQL(_VERIFIED),
        "shown": _columns("shown", COLUMNS),
        "record": _columns("record", COLUMNS),
        "shown_by_try": _columns("shown", _BY_TRY),
        "record_by_try": _columns("record", _BY_TRY),
        "shown_by_finding": _columns("shown", _BY_FINDING),
        "record_by_finding": _columns("record", _BY_FINDING),
    }
    judged = sql.SQL(_JUDGED).format(**values)
    row = conn.execute(sql.SQL(_OFF).format(judged=judged, **values)).fetchone()
    return Disagreement(row[0], tuple(row[1] or ())) if row else Disagreement(0, ())


def _adopts(run: RunStatus) -> bool:
    """Whether each record of a verification has a row of `objects`."""
    verify = run.options.get("verify")
    return isinstance(verify, dict) and bool(verify.get("adopt"))


def _runs(conn: Connection, job: str) -> list[tuple[int, bool]]:
    """The runs of the job, and whether their records are still there."""
    rows = conn.execute(
        "SELECT run_id, to_regclass('attempts_' || run_id) IS NOT NULL FROM runs WHERE job = %s ORDER BY run_id", (job,)
    )
    return [(run_id, there) for run_id, there in rows]


def _array(run_ids: Iterable[int]) -> sql.Composable:
    return sql.SQL("{}::bigint[]").format(sql.Literal(list(run_ids)))


def _columns(table: str, names: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(table, name) for name in names)


def _each(condition: LiteralString, names: Iterable[str]) -> sql.Composed:
    return sql.SQL(" AND ").join(sql.SQL(condition).format(name=sql.Identifier(name)) for name in names)
