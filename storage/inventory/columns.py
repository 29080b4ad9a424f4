"""The documented columns of an inventory: their name in each format and their kind.

Source: S3 user guide, «Amazon S3 Inventory list» and «Locating your inventory list» (CSV names in the
manifest's `fileSchema`; snake_case names in Parquet and ORC).
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class InventoryFormat(StrEnum):
    """How the files of an inventory are written; the first three are the manifest's own `fileFormat` words."""

    CSV = "CSV"
    PARQUET = "Parquet"
    ORC = "ORC"
    BATCH_OPERATIONS_CSV = "BatchOperationsCSV"


class Kind(StrEnum):
    """What a column holds."""

    TEXT = "text"
    BOOLEAN = "boolean"
    INTEGER = "integer"
    TIMESTAMP = "timestamp"


class Column(NamedTuple):
    """One documented column: `name` in Parquet and ORC, `csv_name` in a CSV manifest's fileSchema."""

    name: str
    csv_name: str
    kind: Kind = Kind.TEXT


COLUMNS = (
    Column("bucket", "Bucket"),
    Column("key", "Key"),
    Column("version_id", "VersionId"),
    Column("is_latest", "IsLatest", Kind.BOOLEAN),
    Column("is_delete_marker", "IsDeleteMarker", Kind.BOOLEAN),
    Column("size", "Size", Kind.INTEGER),
    Column("last_modified_date", "LastModifiedDate", Kind.TIMESTAMP),
    Column("e_tag", "ETag"),
    Column("storage_class", "StorageClass"),
    Column("is_multipart_uploaded", "IsMultipartUploaded", Kind.BOOLEAN),
    Column("replication_status", "ReplicationStatus"),
    Column("encryption_status", "EncryptionStatus"),
    Column("object_lock_retain_until_date", "ObjectLockRetainUntilDate", Kind.TIMESTAMP),
    Column("object_lock_mode", "ObjectLockMode"),
    Column("object_lock_legal_hold_status", "ObjectLockLegalHoldStatus"),
    Column("intelligent_tiering_access_tier", "IntelligentTieringAccessTier"),
    Column("bucket_key_status", "BucketKeyStatus"),
    Column("checksum_algorithm", "ChecksumAlgorithm"),
    Column("object_access_control_list", "ObjectAccessControlList"),
    Column("object_owner", "ObjectOwner"),
)

BY_NAME = {column.name: column for column in COLUMNS}

REQUIRED = ("bucket", "key")

READ = (
    "bucket",
    "key",
    "version_id",
    "is_latest",
    "is_delete_marker",
    "size",
    "e_tag",
    "storage_class",
    "intelligent_tiering_access_tier",
    "last_modified_date",
)
"""The columns a row is made of, in the order of `InventoryRow`'s fields after file and row number."""

BATCH_OPERATIONS_COLUMNS = ("Bucket", "Key", "VersionId")
"""S3BatchOperations_CSV_20180820; the last column may be absent (user guide, «Specifying a manifest»)."""
