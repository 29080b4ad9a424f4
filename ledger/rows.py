"""Integrity records as rows: the columns of `attempts` and `objects`, and the SQL made from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import cast

from model.records import IntegrityRecord
from model.status import DestinationEvidence, SizeClass, SourceEvidence, Status, rank, strength

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
    "replaced_etag",
    "replaced_version",
)
"""What a record and a row have in common, under the same names."""

TYPES = {
    "file_number": "integer",
    "row_number": "bigint",
    "size": "bigint",
    "size_class": "size_class",
    "status": "object_status",
    "source_evidence": "source_evidence",
    "destination_evidence": "destination_evidence",
    "attempts": "integer",
    "started_at": "timestamptz",
    "finished_at": "timestamptz",
    "source_key": 'text COLLATE "C"',
    "destination_key": 'text COLLATE "C"',
}
"""The types of the columns that are not just text."""

LIST = ", ".join(COLUMNS)
"""The columns as a list for SQL."""

VERIFIED_COLUMNS = ("verified_run", "verified_at")
"""Columns of `objects` beside those of its record: who proved the object that stands there, and when."""

VERIFIED_BY_RECORD = (
    "CASE WHEN status = 'VERIFIED' THEN %(run)s END, CASE WHEN status = 'VERIFIED' THEN finished_at END"
)
"""The values of VERIFIED_COLUMNS that a record of the run gives, as SQL."""

_REPLACED = ("replaced_etag", "replaced_version")

UPDATE_ALL = ", ".join(f"{name} = excluded.{name}" for name in COLUMNS if name != "destination_key")

UPDATE_ATTEMPT = ", ".join(
    # the first look of a run saw what the run replaced, a later one may see what the run wrote
    f"{name} = CASE WHEN kept.replaced_etag IS NULL THEN excluded.{name} ELSE kept.{name} END"
    if name in _REPLACED
    else f"{name} = excluded.{name}"
    for name in COLUMNS
    if name != "destination_key"
)


def rank_sql(expression: str) -> str:
    """`model.status.rank` of a status column, as SQL."""
    ranked = " ".join(f"WHEN '{status.value}' THEN {rank(status)}" for status in Status if rank(status))
    return f"(CASE {expression} {ranked} ELSE 0 END)"


def strength_sql(expression: str, kind: type[SourceEvidence] | type[DestinationEvidence]) -> str:
    """`model.status.strength` of an evidence column, as SQL."""
    ranked = " ".join(f"WHEN '{word.value}' THEN {strength(word)}" for word in kind)
    return f"(CASE {expression} {ranked} END)"


def text_array(texts: Iterable[str]) -> str:
    """`texts` as the literal of a text[], which psycopg takes many times as long to make of a list.

    PostgreSQL manual, «Arrays», «Array Input and Output Syntax».
    """
    quoted = [text.replace("\\", "\\\\").replace('"', '\\"') for text in texts]
    return '{"' + '","'.join(quoted) + '"}' if quoted else "{}"


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
    for name in ("started_at", "finished_at"):
        moment = cast("datetime | None", values[name])
        values[name] = moment.timestamp() if moment else 0.0
    return IntegrityRecord(**values, recorded=True)  # type: ignore[arg-type]  # the columns are the record's fields
