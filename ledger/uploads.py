"""Multipart uploads and their parts: what makes a large object resumable."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection
from enum import StrEnum
from typing import Any, NamedTuple, cast

from ledger.connect import Connection, transaction
from ledger.leases import RunRef, fenced
from model.records import PartRecord


class UploadState(StrEnum):
    """How an upload stands. Only an open one has parts to go on with."""

    OPEN = "open"
    COMPLETED = "completed"
    ABORTED = "aborted"


class Place(NamedTuple):
    """Where an object is copied from and to, whatever it is there at the moment."""

    source_endpoint: str
    source_bucket: str
    source_key: str
    destination_endpoint: str
    destination_bucket: str
    destination_key: str


class StoredUpload(NamedTuple):
    """One row of `uploads`. `identity` is `model.records.upload_identity`'s, sizes are in bytes.

    `started_at` is in seconds since the epoch, ETags are without quotes. An empty `upload_id` says that
    the upload is about to be created: see `settle_upload`.
    """

    identity: str
    upload_id: str
    source_endpoint: str
    source_bucket: str
    source_key: str
    source_version: str | None
    source_etag: str
    destination_endpoint: str
    destination_bucket: str
    destination_key: str
    size: int
    part_size: int
    part_count: int
    full_object_crc: bool
    started_at: float
    state: UploadState = UploadState.OPEN

    @property
    def place(self) -> Place:
        return Place(*(getattr(self, name) for name in Place._fields))


class LeftUpload(NamedTuple):
    """An upload that stands open in the ledger. `live`: a run of its job is under way.

    `started_at` is in seconds since the epoch; an empty `upload_id` as in `StoredUpload`.
    """

    identity: str
    upload_id: str
    destination_endpoint: str
    destination_key: str
    job: str
    run_id: int
    started_at: float
    live: bool


_TO_PLACE = " AND ".join(f"{name} = %({name})s" for name in Place._fields if name.startswith("destination"))
_AT_PLACE = " AND ".join(f"{name} = %({name})s" for name in Place._fields)
_FIELDS = StoredUpload._fields[:-2]
_IS_LIVE = "EXISTS (SELECT FROM leases l WHERE l.job = u.job AND l.expires_at > clock_timestamp())"
_ROW = ", ".join([*(f"u.{name}" for name in _FIELDS), "extract(epoch FROM u.started_at)::float8", "u.state"])
_SELECT = f"SELECT {_ROW} FROM uploads u"  # noqa: S608
_OF_ITS_OBJECT = (
    "(o.source_bucket, o.source_key, o.source_etag, o.size) = (u.source_bucket, u.source_key, u.source_etag, u.size)"
)
_OF_ITS_UPLOAD = "coalesce(p.upload_id, u.upload_id) = u.upload_id"
_INSERT = (
    f"INSERT INTO uploads AS kept (job, run_id, state, started_at, {', '.join(_FIELDS)})"  # noqa: S608
    " VALUES (%(job)s, %(run_id)s, 'open', to_timestamp(%(started_at)s), "
    + ", ".join(f"%({name})s" for name in _FIELDS)
    + ") ON CONFLICT (identity) DO UPDATE SET job = excluded.job, run_id = excluded.run_id, state = excluded.state,"
    " started_at = excluded.started_at, closed_at = NULL, "
    + ", ".join(f"{name} = excluded.{name}" for name in _FIELDS)
    + " WHERE kept.state <> 'open' RETURNING upload_id"
)


def find_upload(conn: Connection, identity: str) -> StoredUpload | None:
    """The upload of that identity, whatever its state, or None."""
    row = conn.execute(f"{_SELECT} WHERE identity = %s", (identity,)).fetchone()
    if row is None:
        return None
    return _stored(row)


def _stored(row: tuple[Any, ...]) -> StoredUpload:
    *fields, state = row
    return StoredUpload._make((*fields, UploadState(state)))


def adopt_upload(conn: Connection, ref: RunRef, upload: StoredUpload) -> StoredUpload:
    """Stores `upload` as open, or gives back the open one that was there first: abort your own then.

    A completed or aborted one of the same identity is replaced and its parts forgotten. Repeatable. Raises
    LeaseLost when fenced off.
    """
    with fenced(conn, ref):
        values = {**upload._asdict(), "job": ref.job, "run_id": ref.run_id}
        if conn.execute(_INSERT, values).fetchone():
            conn.execute("DELETE FROM parts WHERE identity = %s", (upload.identity,))
            return upload._replace(state=UploadState.OPEN)
        return cast("StoredUpload", find_upload(conn, upload.identity))


def take_up(conn: Connection, ref: RunRef, identity: str) -> None:
    """Makes the open upload of that identity this run's. Repeatable. Raises LeaseLost when fenced off."""
    with fenced(conn, ref):
        conn.execute(
            "UPDATE uploads SET job = %s, run_id = %s WHERE identity = %s AND state = 'open'",
            (ref.job, ref.run_id, identity),
        )


def open_before(
    conn: Connection, ref: RunRef, place: Place, kept: tuple[str | None, str, int] | None
) -> list[StoredUpload]:
    """The open uploads from and to that place that earlier runs began, of whatever ETag and parts. A read.

    And those this run began of the source version of `kept` (version, ETag, size) when it was not what it is now.
    """
    version, etag, size = kept or (None, None, None)
    rows = conn.execute(
        f"{_SELECT} WHERE {_AT_PLACE} AND state = 'open' AND (run_id <> %(run)s OR"
        " source_version IS NOT DISTINCT FROM %(version)s::text AND (source_etag, size) <> (%(etag)s::text, %(size)s))",
        {**place._asdict(), "run": ref.run_id, "version": version, "etag": etag, "size": size},
    )
    return [_stored(row) for row in rows]


def superseded(conn: Connection, ref: RunRef, destination_endpoint: str) -> list[tuple[StoredUpload, bool]]:
    """The open uploads of the job at that endpoint whose destination key got its object after they were begun. A read.

    With each, whether that object is of the same state of the source: then the upload may be what it was made of.
    """
    rows = conn.execute(
        f"SELECT {_ROW}, {_OF_ITS_OBJECT} AND o.source_version IS NOT DISTINCT FROM u.source_version"  # noqa: S608
        " FROM uploads u JOIN objects o USING (job, destination_bucket, destination_key)"
        " WHERE job = %(job)s AND u.state = 'open' AND u.destination_endpoint = %(endpoint)s"
        " AND o.status IN ('VERIFIED', 'COPIED') AND o.finished_at > u.started_at",
        {"job": ref.job, "endpoint": destination_endpoint},
    )
    return [(_stored(tuple(upload)), is_same is True) for *upload, is_same in rows]


def known_ids(conn: Connection, place: Place, identity: str) -> set[str]:
    """The ids of uploads of other identities than `identity` to that destination key. A read."""
    rows = conn.execute(
        f"SELECT upload_id FROM uploads WHERE {_TO_PLACE} AND identity <> %(identity)s",  # noqa: S608
        {**place._asdict(), "identity": identity},
    )
    return {upload_id for (upload_id,) in rows if upload_id}


def announce_upload(conn: Connection, ref: RunRef, identity: str, *, full_object_crc: bool) -> None:
    """Says of an upload without an id how it is about to be created. Repeatable. Raises LeaseLost when fenced off."""
    with fenced(conn, ref):
        conn.execute(
            "UPDATE uploads SET full_object_crc = %s WHERE identity = %s AND state = 'open' AND upload_id = ''",
            (full_object_crc, identity),
        )


def settle_upload(conn: Connection, ref: RunRef, identity: str, upload_id: str) -> StoredUpload:
    """Gives the open upload of that identity its id, unless it has one: returns it as it stands. Repeatable.

    Raises LeaseLost when fenced off.
    """
    with fenced(conn, ref):
        conn.execute(
            "UPDATE uploads SET upload_id = %s WHERE identity = %s AND state = 'open' AND upload_id = ''",
            (upload_id, identity),
        )
        return cast("StoredUpload", find_upload(conn, identity))


def parts_of(conn: Connection, identities: Collection[str]) -> dict[str, tuple[PartRecord, ...]]:
    """The recorded parts of each upload that has any, by number; not those of one that it took the place of."""
    found: defaultdict[str, list[PartRecord]] = defaultdict(list)
    rows = conn.execute(
        "SELECT identity, part_number, p.size, etag, md5, sha256, crc64nvme, crc32c"  # noqa: S608
        " FROM parts p JOIN uploads u USING (identity)"
        f" WHERE identity = ANY(%s) AND {_OF_ITS_UPLOAD} ORDER BY identity, part_number",
        (list(identities),),
    )
    for identity, *part in rows:
        found[identity].append(PartRecord(*part))
    return {identity: tuple(parts) for identity, parts in found.items()}


def recorded_part(conn: Connection, identity: str, upload_id: str, part_number: int) -> PartRecord | None:
    """The part as recorded, if it is of the upload `upload_id` and that is still open; else None."""
    row = conn.execute(
        "SELECT part_number, p.size, etag, md5, sha256, crc64nvme, crc32c FROM parts p JOIN uploads u USING (identity)"  # noqa: S608
        f" WHERE identity = %s AND part_number = %s AND u.upload_id = %s AND state = 'open' AND {_OF_ITS_UPLOAD}",
        (identity, part_number, upload_id),
    ).fetchone()
    return PartRecord(*row) if row else None


def forget_parts(conn: Connection, ref: RunRef, identity: str, parts: Collection[PartRecord]) -> None:
    """Removes these parts, unless they have been sent again meanwhile. Repeatable. Raises LeaseLost when fenced off."""
    with fenced(conn, ref):
        conn.execute(
            "DELETE FROM parts p USING unnest(%s::int[], %s::text[]) AS gone (part_number, etag)"
            " WHERE p.identity = %s AND p.part_number = gone.part_number AND p.etag = gone.etag",
            ([part.number for part in parts], [part.etag for part in parts], identity),
        )


def close_upload(conn: Connection, ref: RunRef, identity: str, upload_id: str, state: UploadState) -> None:
    """Marks the upload completed or aborted; repeatable, and nothing if another upload took its place."""
    with fenced(conn, ref):
        conn.execute(
            "UPDATE uploads SET state = %s, closed_at = clock_timestamp() WHERE identity = %s AND upload_id = %s",
            (state.value, identity, upload_id),
        )


def left_uploads(conn: Connection, bucket: str, prefix: str) -> list[LeftUpload]:
    """The uploads that stand open below `prefix` of a bucket of that name, whatever endpoint and job. A read."""
    rows = conn.execute(
        "SELECT identity, upload_id, destination_endpoint, destination_key, job, run_id,"  # noqa: S608
        f" extract(epoch FROM started_at)::float8, {_IS_LIVE} FROM uploads u"
        " WHERE state = 'open' AND destination_bucket = %s AND starts_with(destination_key, %s)",
        (bucket, prefix),
    )
    return [LeftUpload._make(row) for row in rows]


def end_left(conn: Connection, left: LeftUpload, abort: Callable[[], None]) -> bool:
    """Aborts an upload by `abort` and marks it so; False, and nothing done, once a run has taken it up again.

    The row is locked meanwhile, so that no run takes it up in between. Repeatable where `abort` is.
    """
    with transaction(conn):
        row = conn.execute(
            f"SELECT FROM uploads u WHERE identity = %s AND upload_id = %s AND state = 'open' AND NOT {_IS_LIVE}"
            " FOR UPDATE OF u",
            (left.identity, left.upload_id),
        ).fetchone()
        if row is None:
            return False
        abort()
        conn.execute(
            "UPDATE uploads SET state = 'aborted', closed_at = clock_timestamp() WHERE identity = %s",
            (left.identity,),
        )
    return True


def forget_uploads(conn: Connection, run_id: int) -> None:
    """Deletes the run's closed uploads and their parts. Repeatable.

    Open ones stay, and those of objects whose row in `objects` is still of the source state that was uploaded: no other
    table has the digests of their parts.
    """
    conn.execute(
        "WITH forgotten AS (DELETE FROM uploads u WHERE run_id = %s AND (state = 'aborted' OR (state = 'completed'"  # noqa: S608
        " AND NOT EXISTS (SELECT FROM objects o WHERE o.job = u.job AND o.destination_key = u.destination_key"
        f" AND {_OF_ITS_OBJECT}))) RETURNING identity)"
        " DELETE FROM parts USING forgotten WHERE parts.identity = forgotten.identity",
        (run_id,),
    )
