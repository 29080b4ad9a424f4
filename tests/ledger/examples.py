"""Values the ledger's tests start from."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from typing import Any

from ledger.connect import Connection
from ledger.leases import RunRef
from ledger.runs import RunStart
from ledger.uploads import StoredUpload
from model.records import IntegrityRecord
from model.status import DestinationEvidence, SizeClass, SourceEvidence, Status


def a_run(**changes: Any) -> RunStart:
    start = RunStart(
        job="nightly",
        manifest="s3://inventory/source/cfg/2026-11-22T00-00Z/manifest.json",
        manifest_checksum="d41d8cd98f00b204e9800998ecf8427e",
        package_version="0.1.0",
        options={"destination": "s3://copies/backup/"},
        destination_endpoint="https://s3.example.org",
        destination_bucket="copies",
        destination_prefix="backup/",
    )
    return replace(start, **changes)


def a_record(row_number: int = 0, **changes: Any) -> IntegrityRecord:
    sha256 = hashlib.sha256(str(row_number).encode()).hexdigest()
    key = f"data/month={row_number % 12:02d}/{sha256[:16]}/part-{row_number:09d}.parquet"
    record = IntegrityRecord(
        file_number=0,
        row_number=row_number,
        source_bucket="originals",
        source_key=key,
        source_version=None,
        destination_bucket="copies",
        destination_key=f"backup/{key}",
        size=100_000 + row_number,
        size_class=SizeClass.SMALL,
        status=Status.VERIFIED,
        source_etag=sha256[:32],
        destination_etag=sha256[:32],
        md5=sha256[:32],
        sha256=sha256,
        crc64nvme=base64.b64encode(bytes.fromhex(sha256[:16])).decode(),
        crc32c=base64.b64encode(bytes.fromhex(sha256[:8])).decode(),
        source_evidence=SourceEvidence.ETAG_MD5,
        destination_evidence=DestinationEvidence.SIGNED_BODY,
        attempts=1,
        started_at=1_795_000_000.25,
        finished_at=1_795_000_001.5,
    )
    return record._replace(**changes)


def an_upload(**changes: Any) -> StoredUpload:
    upload = StoredUpload(
        identity="a" * 64,
        upload_id="upload-1",
        source_endpoint="https://source.example.org",
        source_bucket="originals",
        source_key="video.mkv",
        source_version=None,
        source_etag="e" * 32,
        destination_endpoint="https://s3.example.org",
        destination_bucket="copies",
        destination_key="backup/video.mkv",
        size=300_000_000,
        part_size=33_554_432,
        part_count=9,
        full_object_crc=True,
        started_at=1_795_000_000.25,
    )
    return upload._replace(**changes)


def statuses(conn: Connection, ref: RunRef, table: str = "attempts") -> dict[str, str]:
    """Status by destination key of what `ref` left in `attempts` or `objects`."""
    rows = conn.execute(f"SELECT destination_key, status FROM {table} WHERE run_id = %s", (ref.run_id,))  # noqa: S608
    return dict(rows.fetchall())
