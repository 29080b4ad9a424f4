"""The schemas of exported Avro and Parquet files; docs/export.md lists their fields.

A field is only ever added, with a null in older files, and then the version rises.
"""

from __future__ import annotations

from typing import Any, NamedTuple

RECORD_VERSION = 1
DEAD_LETTER_VERSION = 1
NAMESPACE = "s3ferry"


class Field(NamedTuple):
    """One field. `kind` is text, int, long or time (microseconds since the epoch, UTC)."""

    name: str
    kind: str
    nullable: bool
    doc: str


RECORD_FIELDS = (
    Field("job", "text", False, "job in the ledger"),
    Field("run_id", "long", False, "run in the ledger"),
    Field("file_number", "int", False, "input file, from 0"),
    Field("row_number", "long", False, "row of that file, from 0"),
    Field("source_bucket", "text", False, "source bucket"),
    Field("source_key", "text", False, "source key"),
    Field("source_version", "text", True, "source version, where the inventory names one"),
    Field("destination_bucket", "text", False, "destination bucket"),
    Field("destination_key", "text", False, "destination key"),
    Field("size", "long", False, "bytes"),
    Field("size_class", "text", False, "small, medium or large"),
    Field("source_etag", "text", True, "source ETag without quotes"),
    Field("destination_etag", "text", True, "destination ETag without quotes"),
    Field("destination_version", "text", True, "version written at the destination"),
    Field("md5", "text", True, "MD5, lower-case hex"),
    Field("sha256", "text", True, "SHA-256, lower-case hex"),
    Field("crc64nvme", "text", True, "CRC64NVME, base64"),
    Field("crc32c", "text", True, "CRC32C, base64"),
    Field("status", "text", False, "how the row ended"),
    Field("source_evidence", "text", False, "why the bytes read are believed to be the source's"),
    Field("destination_evidence", "text", False, "why the destination is believed to hold them"),
    Field("attempts", "int", False, "tries"),
    Field("started_at", "time", True, "begin of the transfer"),
    Field("finished_at", "time", True, "end of the transfer"),
    Field("error", "text", True, "what went wrong, as it was recorded; secrets are masked before"),
    Field("replaced_etag", "text", True, "ETag of what the destination held before, where the run looked"),
    Field("replaced_version", "text", True, "its version"),
)
"""An integrity record: job and run, then the columns of `attempts` in the order of `ledger.rows.COLUMNS`."""

DEAD_LETTER_FIELDS = (
    Field("job", "text", False, "job in the ledger"),
    Field("run_id", "long", False, "run in the ledger"),
    Field("file_number", "int", False, "input file, from 0"),
    Field("row_number", "long", False, "row of that file, from 0"),
    Field("status", "text", False, "how the row ended"),
    Field("reason", "text", False, "why, secrets masked"),
    Field("attempts", "int", False, "tries; 0 where none was made"),
    Field("source_bucket", "text", True, "source bucket"),
    Field("source_key", "text", True, "source key"),
    Field("source_version", "text", True, "source version, where the inventory names one"),
    Field("destination_bucket", "text", True, "destination bucket"),
    Field("destination_key", "text", True, "destination key"),
    Field("size", "long", True, "bytes"),
    Field("size_class", "text", True, "small, medium or large"),
    Field("source_etag", "text", True, "source ETag without quotes"),
    Field("started_at", "time", True, "begin of the last try"),
    Field("finished_at", "time", True, "end of the last try"),
    Field("text", "text", True, "the row as it was read, where it has no usable key; secrets masked"),
)
"""A dead letter: job and run, then the fields of `ledger.exports.DeadRow`."""

_AVRO: dict[str, Any] = {
    "text": "string",
    "int": "int",
    "long": "long",
    "time": {"type": "long", "logicalType": "timestamp-micros"},
}


def avro_schema(name: str, fields: tuple[Field, ...]) -> dict[str, Any]:
    """The Avro schema of records `name` (Avro 1.11 specification)."""
    return {
        "type": "record",
        "namespace": NAMESPACE,
        "name": name,
        "fields": [
            {
                "name": field.name,
                "type": ["null", _AVRO[field.kind]] if field.nullable else _AVRO[field.kind],
                "doc": field.doc,
                **({"default": None} if field.nullable else {}),
            }
            for field in fields
        ],
    }


def parquet_schema(fields: tuple[Field, ...], metadata: dict[str, str]) -> Any:
    """The same fields as an Arrow schema, with `metadata` for the file."""
    import pyarrow as pa  # noqa: PLC0415 - heavy, and only --format=parquet needs it

    kinds = {"text": pa.string(), "int": pa.int32(), "long": pa.int64(), "time": pa.timestamp("us", tz="UTC")}
    return pa.schema([pa.field(f.name, kinds[f.kind], nullable=f.nullable) for f in fields], metadata=metadata)
