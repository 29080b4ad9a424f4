"""The destination's inventory in the ledger, while and after a run verifies against it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from psycopg import sql

from ledger import accounting
from ledger.connect import Connection
from ledger.leases import RunRef, fenced
from ledger.queries import key_chunks
from ledger.rows import text_array
from ledger.runs import partition
from model.outcome import Gap, why_not_whole

_EXAMPLES = 3


class ListedObject(NamedTuple):
    """One current object of the destination inventory; `size` in bytes, `etag` without quotes."""

    destination_key: str
    size: int
    etag: str | None


class Extras(NamedTuple):
    """Objects at the destination that no row of the source's inventory stands for, and the first few keys."""

    objects: int
    examples: tuple[str, ...]


def make_room(conn: Connection, ref: RunRef) -> None:
    """Makes the run's partition of `destination_rows`, and drops those of the job's earlier runs. Repeatable."""
    with fenced(conn, ref):
        conn.execute("SELECT make_destination_rows(%s)", (ref.run_id,))


def keep_listed(conn: Connection, ref: RunRef, objects: Sequence[ListedObject]) -> None:
    """Keeps objects of the destination inventory; of a key that comes twice, the first. Repeatable."""
    with fenced(conn, ref):
        conn.execute(
            sql.SQL(
                "INSERT INTO {} (run_id, destination_key, size, etag)"
                " SELECT %s, key, size, nullif(etag, '') FROM unnest(%s::text[], %s::bigint[], %s::text[])"
                " AS listed (key, size, etag) ORDER BY key ON CONFLICT DO NOTHING"
            ).format(part(ref.run_id)),
            (
                ref.run_id,
                text_array(one.destination_key for one in objects),
                [one.size for one in objects],
                text_array(one.etag or "" for one in objects),
            ),
        )


def listed(conn: Connection, ref: RunRef, destination_keys: Sequence[str]) -> dict[str, ListedObject]:
    """What the destination inventory says of these keys; without those it does not have."""
    query = sql.SQL(
        "SELECT destination_key, size, etag FROM {} WHERE run_id = %s AND destination_key = ANY(%s::text[])"
    )
    found: dict[str, ListedObject] = {}
    for keys in key_chunks(destination_keys):
        rows = conn.execute(query.format(part(ref.run_id)), (ref.run_id, text_array(keys)))
        found.update((row[0], ListedObject(*row)) for row in rows)
    return found


def extras(conn: Connection, ref: RunRef) -> Extras:
    """Objects of the destination inventory without an attempt of this run. Reads both partitions whole."""
    among = among_extras(ref.run_id)
    row = conn.execute(sql.SQL("SELECT count(*) {}").format(among)).fetchone()
    examples = conn.execute(
        sql.SQL("SELECT destination_key {} ORDER BY destination_key LIMIT %s").format(among), (_EXAMPLES,)
    ).fetchall()
    return Extras(row[0] if row else 0, tuple(key for (key,) in examples))


def seen_extras(conn: Connection, ref: RunRef, code: int, bad_files: int, gaps: Sequence[Gap]) -> Extras | None:
    """`extras`, of a run that ends with exit code `code`; None where it did not see its whole inventory."""
    if why_not_whole(code, bad_files, gaps, accounting.rows_without_key(conn, ref.run_id)):
        return None
    return extras(conn, ref)


def among_extras(run_id: int) -> sql.Composed:
    """The FROM and WHERE of the rows `extras` counts."""
    return sql.SQL("FROM {} d WHERE NOT EXISTS (SELECT FROM {} a WHERE a.destination_key = d.destination_key)").format(
        part(run_id), partition(run_id)
    )


def part(run_id: int) -> sql.Identifier:
    """The name of the partition of `destination_rows` that belongs to `run_id`."""
    return sql.Identifier(f"destination_rows_{int(run_id)}")
