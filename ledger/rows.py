"""Integrity records as rows: the columns of `attempts` and `objects`, and the SQL made from them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from operator import attrgetter
from typing import cast

from model.records import IntegrityRecord
from model.status import DestinationEvidence, SizeClass, SourceEvidence, Status, rank

COLUMNS = (
    "file_number",
    "row_number",
    "source_bucket",
    "source_key",
    "source_version",
    "destination_bucket",
    "destination_key",
    "size",
    "size_class",
    "source_etag",
    "destination_etag",
    "destination_version",
    "md5",
    "sha256",
    "crc64nvme",
    "crc32c",
    "status",
    "source_evidence",
    "destination_evidence",
    "attempts",
    "started_at",
    "finished_at",
    "error",
)
"""What a record and a row have in common, under the same names."""

_TIMES = ("started_at", "finished_at")
_INCOMING_TYPES = {
    "file_number": "integer",
    "row_number": "bigint",
    "size": "bigint",
    "size_class": "size_class",
    "status": "object_status",
    "source_evidence": "source_evidence",
    "destination_evidence": "destination_evidence",
    "attempts": "integer",
    "started_at": "double precision",
    "finished_at": "double precision",
    "source_key": 'text COLLATE "C"',
    "destination_key": 'text COLLATE "C"',
}

_values = attrgetter(*COLUMNS[:-1])

LIST = ", ".join(COLUMNS)
"""The columns as a list for SQL."""

CREATE_INCOMING = (
    "CREATE TEMPORARY TABLE incoming (ord integer NOT NULL, "
    + ", ".join(f"{name} {_INCOMING_TYPES.get(name, 'text')}" for name in COLUMNS)
    + ") ON COMMIT DROP"
)
COPY_INCOMING = f"COPY incoming (ord, {LIST}) FROM STDIN"

FROM_INCOMING = ", ".join(f"to_timestamp(nullif({name}, 0))" if name in _TIMES else name for name in COLUMNS)
"""The columns as `incoming` gives them to the tables; a time of 0 means none was taken."""

UPDATE_ALL = ", ".join(f"{name} = excluded.{name}" for name in COLUMNS if name != "destination_key")


def rank_sql(expression: str) -> str:
    """`model.status.rank` of a status column, as SQL."""
    ranked = " ".join(f"WHEN '{status.value}' THEN {rank(status)}" for status in Status if rank(status))
    return f"(CASE {expression} {ranked} ELSE 0 END)"


def copy_row(ord_: int, record: IntegrityRecord) -> tuple[object, ...]:
    """`record` as one row of `incoming`. Its error text may hold anything: it is told, not matched."""
    error = record.error
    return (ord_, *_values(record), None if error is None else storable(error))


def storable(text: str) -> str:
    """`text` with what PostgreSQL cannot hold, NUL and lone surrogates, written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def record_from_row(row: Sequence[object]) -> IntegrityRecord:
    """The record a row of COLUMNS tells of, marked as recorded."""
    values = dict(zip(COLUMNS, row, strict=True))
    values["size_class"] = SizeClass(str(values["size_class"]))
    values["status"] = Status(str(values["status"]))
    values["source_evidence"] = SourceEvidence(str(values["source_evidence"]))
    values["destination_evidence"] = DestinationEvidence(str(values["destination_evidence"]))
    for name in _TIMES:
        moment = cast("datetime | None", values[name])
        values[name] = moment.timestamp() if moment else 0.0
    return IntegrityRecord(**values, recorded=True)  # type: ignore[arg-type]  # the columns are the record's fields
