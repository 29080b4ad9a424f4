"""Which source object a run copies to a destination key, settled before a byte is written there.

Only where the rows of a run may hold several objects for one key (`Manifest.keys_may_meet`): a key that is written
twice at the same time would hold the one object while the ledger holds the other.
"""

from __future__ import annotations

from collections.abc import Sequence

from ledger.connect import Connection
from ledger.leases import RunRef, fenced
from ledger.rows import storable, text_array
from model.objects import ObjectRef

_CLAIM = """
INSERT INTO claims (run_id, destination_key, source_bucket, source_key, source_version)
SELECT %s, destination_key, source_bucket, source_key, nullif(source_version, '')
FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[]) WITH ORDINALITY
  AS wanted (destination_key, source_bucket, source_key, source_version, place)
ORDER BY destination_key, place ON CONFLICT DO NOTHING
"""
"""In order of the keys, so that two who claim the same ones wait for one another, and never in a circle."""


def make_room(conn: Connection, ref: RunRef) -> None:
    """Makes the run's partition of `claims`, and drops those of the job's earlier runs. Repeatable."""
    with fenced(conn, ref):
        conn.execute("SELECT make_claims(%s)", (ref.run_id,))


def claim(conn: Connection, ref: RunRef, objects: Sequence[ObjectRef]) -> set[ObjectRef]:
    """Claims the destination keys of `objects`; those that come too late, for a key another object has. Repeatable.

    The first to ask has a key for the whole run. A second row of the same object shares its claim.
    """
    if not objects:
        return set()
    wanted = [
        (storable(one.destination_key), storable(one.bucket), storable(one.key), one.version_id or "")
        for one in objects
    ]
    columns = [text_array(column) for column in zip(*wanted, strict=True)]
    with fenced(conn, ref):
        conn.execute(_CLAIM, (ref.run_id, *columns))
        holders = {
            key: tuple(source)
            for key, *source in conn.execute(
                "SELECT destination_key, source_bucket, source_key, coalesce(source_version, '') FROM claims"
                " WHERE run_id = %s AND destination_key = ANY(%s::text[])",
                (ref.run_id, columns[0]),
            )
        }
    return {one for one, (key, *source) in zip(objects, wanted, strict=True) if holders[key] != tuple(source)}
