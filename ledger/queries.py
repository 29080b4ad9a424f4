"""What the steps of a run and the commands ask the ledger. Reads only, so all may be repeated."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from psycopg import sql

from ledger.connect import Connection
from ledger.leases import RunRef
from ledger.rows import LIST, record_from_row, text_array
from ledger.runs import partition
from model.records import IntegrityRecord
from model.status import DestinationEvidence, Status

KEYS_PER_QUERY = 1_000
_SMALL_TABLE_ROWS = 100_000
_OVERSAMPLING = 20


class VerifiedRow(NamedTuple):
    """What an earlier run left VERIFIED at `destination_key`: the source as it was, and what was written.

    `size` is in bytes, ETags are without quotes.
    """

    destination_bucket: str
    destination_key: str
    source_bucket: str
    source_key: str
    source_version: str | None
    source_etag: str | None
    size: int
    destination_etag: str | None
    destination_version: str | None


_VERIFIED = f"SELECT {', '.join(VerifiedRow._fields)} FROM objects"  # noqa: S608 - column names of this package


def finished_in_run(conn: Connection, ref: RunRef, destination_keys: Sequence[str]) -> dict[str, IntegrityRecord]:
    """Records this run has already finished, by destination key, marked `recorded`; FAILED ones are not finished.

    A record's row id tells whether the row asked for, or another one, has the key. One query per 1,000 keys.
    """
    query = sql.SQL(
        f"SELECT {LIST} FROM {{}} WHERE run_id = %s AND destination_key = ANY(%s::text[]) AND status <> 'FAILED'"  # noqa: S608
    ).format(partition(ref.run_id))
    found: dict[str, IntegrityRecord] = {}
    for keys in key_chunks(destination_keys):
        for row in conn.execute(query, (ref.run_id, text_array(keys))):
            record = record_from_row(row)
            found[record.destination_key] = record
    return found


def verified_before(
    conn: Connection,
    ref: RunRef,
    destination_keys: Sequence[str],
    evidence: Collection[DestinationEvidence],
    adopted: Collection[DestinationEvidence],
) -> dict[str, VerifiedRow]:
    """What other runs of the job left VERIFIED on one of the kinds of `evidence`, by destination key.

    Objects that another tool wrote need one of the kinds `adopted`. This run's own rows are not among them: a
    step that is repeated must count them as it did. One query per 1,000 keys.
    """
    found: dict[str, VerifiedRow] = {}
    words, adopted_words = ([kind.value for kind in kinds] for kinds in (evidence, adopted))
    for keys in key_chunks(destination_keys):
        rows = conn.execute(
            f"{_VERIFIED} WHERE job = %s AND destination_key = ANY(%s::text[]) AND status = 'VERIFIED'"
            " AND destination_evidence = ANY(CASE WHEN adopted THEN %s ELSE %s END::destination_evidence[])"
            " AND run_id <> %s",
            (ref.job, text_array(keys), adopted_words, words, ref.run_id),
        )
        found.update((row[1], VerifiedRow(*row)) for row in rows)
    return found


def unfinished_before(conn: Connection, ref: RunRef, destination_keys: Sequence[str]) -> set[str]:
    """Those keys whose object the job left neither VERIFIED nor COPIED. One query per 1,000 keys.

    What this run itself has ended counts too, so that a step that is repeated gives what it gave.
    """
    found: set[str] = set()
    for keys in key_chunks(destination_keys):
        rows = conn.execute(
            "SELECT destination_key FROM objects WHERE job = %s AND destination_key = ANY(%s::text[])"
            " AND (status NOT IN ('VERIFIED', 'COPIED') OR run_id = %s)",
            (ref.job, text_array(keys), ref.run_id),
        )
        found.update(key for (key,) in rows)
    return found


def recorded(conn: Connection, ref: RunRef, destination_keys: Sequence[str]) -> dict[str, IntegrityRecord]:
    """What `objects` holds of these keys of the job, by destination key. One query per 1,000 keys."""
    found: dict[str, IntegrityRecord] = {}
    for keys in key_chunks(destination_keys):
        rows = conn.execute(
            f"SELECT {LIST} FROM objects WHERE job = %s AND destination_key = ANY(%s::text[])",  # noqa: S608
            (ref.job, text_array(keys)),
        )
        found.update((record.destination_key, record) for record in map(record_from_row, rows))
    return found


def same_but_not_verified(conn: Connection, ref: RunRef) -> int:
    """Objects this run found to be the same that are not those which `objects` holds VERIFIED: not adopted yet."""
    row = conn.execute(
        sql.SQL(
            "SELECT count(*) FROM {} a WHERE status = 'VERIFIED' AND NOT EXISTS (SELECT FROM objects o"
            " WHERE o.job = %s AND o.destination_key = a.destination_key AND o.status = 'VERIFIED'"
            " AND o.destination_etag IS NOT DISTINCT FROM a.destination_etag)"
        ).format(partition(ref.run_id)),
        (ref.job,),
    ).fetchone()
    return row[0] if row else 0


def sample_verified(conn: Connection, job: str, n: int) -> list[VerifiedRow]:
    """Up to `n` VERIFIED objects of the job, at random.

    From a table too big to sort it takes random blocks (TABLESAMPLE SYSTEM), so neighbours come together;
    when those hold too few of this job's objects it reads them all.
    """
    known = conn.execute("SELECT reltuples::bigint FROM pg_class WHERE oid = 'objects'::regclass").fetchone()
    rows_in_table = known[0] if known else 0
    sample: list[VerifiedRow] = []
    if rows_in_table > _SMALL_TABLE_ROWS:
        percent = min(100.0, 100.0 * n * _OVERSAMPLING / rows_in_table)
        sample = _verified(conn, f"TABLESAMPLE SYSTEM ({percent:.6f})", job, n)
    return sample if len(sample) >= n else _verified(conn, "", job, n)


def failures(conn: Connection, run_id: int) -> int:
    """Rows of the run that stand FAILED or MISMATCH now; cheap, from an index of nothing but those."""
    row = conn.execute(
        sql.SQL(
            "SELECT (SELECT count(*) FROM {partition} WHERE status IN ('FAILED', 'MISMATCH'))"
            " + (SELECT count(*) FROM dead_letters d WHERE run_id = %s AND status IN ('FAILED', 'MISMATCH')"
            " AND NOT EXISTS (SELECT FROM {partition} a WHERE a.status IN ('FAILED', 'MISMATCH')"
            " AND (a.file_number, a.row_number) = (d.file_number, d.row_number)))"
        ).format(partition=partition(run_id)),
        (run_id,),
    ).fetchone()
    return row[0] if row else 0


def progress(conn: Connection, run_id: int) -> dict[str, int]:
    """The sums of the counters the run's workers report with their heartbeats."""
    rows = conn.execute(
        "SELECT name, sum(value::bigint)::bigint FROM workers, jsonb_each_text(counters) AS counter (name, value)"
        " WHERE run_id = %s GROUP BY name ORDER BY name",
        (run_id,),
    )
    return dict(rows.fetchall())


def first_start(conn: Connection, run_id: int) -> float | None:
    """When the run began its first object, in seconds since the epoch; None where it has none.

    Looked for among the first rows written, which is near enough and does not read the whole partition.
    """
    row = conn.execute(
        sql.SQL(
            "SELECT extract(epoch FROM min(started_at))::float8"
            " FROM (SELECT started_at FROM {} LIMIT 10000) AS first_rows"
        ).format(partition(run_id))
    ).fetchone()
    return row[0] if row else None


def example_row(conn: Connection, run_id: int) -> dict[str, object] | None:
    """One row of `objects` the run wrote, by column in the table's order; a VERIFIED one if there is any."""
    query = sql.SQL(
        "SELECT o.* FROM objects o JOIN runs r USING (job) JOIN {} a USING (destination_key)"
        " WHERE r.run_id = %(run)s AND o.run_id = %(run)s AND a.status = ANY(%(statuses)s::object_status[]) LIMIT 1"
    ).format(partition(run_id))
    with conn.cursor() as cursor:
        row = None
        for statuses in (["VERIFIED"], list(Status)):
            row = row or cursor.execute(query, {"run": run_id, "statuses": statuses}).fetchone()
        names = [column.name for column in cursor.description or ()]
    return dict(zip(names, row, strict=True)) if row else None


def _verified(conn: Connection, sampling: str, job: str, n: int) -> list[VerifiedRow]:
    rows = conn.execute(
        f"{_VERIFIED} {sampling} WHERE job = %s AND status = '{Status.VERIFIED}' ORDER BY random() LIMIT %s",
        (job, n),
    )
    return [VerifiedRow(*row) for row in rows]


def key_chunks(keys: Sequence[str]) -> list[list[str]]:
    """`keys`, each once, in lists one query takes, without those no row can have (PostgreSQL refuses even to ask)."""
    possible = [key for key in dict.fromkeys(keys) if _storable(key)]
    return [possible[start : start + KEYS_PER_QUERY] for start in range(0, len(possible), KEYS_PER_QUERY)]


def _storable(key: str) -> bool:
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in key
