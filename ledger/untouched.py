"""What records that left the destination as it was do to the rows of `objects` they meet, as SQL over `incoming`.

What was proven of the object stays beside the status of the last try, as long as the record is about the same state
of the source. An object that was found wrong, or gone, stays so: its row waits for another copy, or another look.
"""

from __future__ import annotations

from ledger.findings import STILL_VERIFIED, same_source
from ledger.rows import rank_sql

# A source that could not be looked at has no ETag, and no size where the inventory gave none.
_NEVER_SEEN = (
    "((kept.source_bucket, kept.source_key) = (new.source_bucket, new.source_key)"
    " AND kept.source_version IS NOT DISTINCT FROM new.source_version"
    " AND new.source_etag IS NULL AND new.size IN (0, kept.size))"
)
_MEETS = (
    "kept.job = %(job)s AND kept.destination_key = new.destination_key"
    " AND new.destination_key = ANY(%(untouched)s::text[])"
    f" AND ({same_source('new')} OR {_NEVER_SEEN})"
    " AND (kept.run_id < %(run)s"
    f" OR (kept.run_id = %(run)s AND {rank_sql('kept.status')} <= {rank_sql('new.status')}))"
)

KEPT = (
    "destination_etag",
    "destination_version",
    "md5",
    "sha256",
    "crc64nvme",
    "crc32c",
    "source_evidence",
    "destination_evidence",
    "replaced_etag",
    "replaced_version",
    "source_etag",
    "size",
    "size_class",
)
"""What of a row may be of an earlier record."""

TRY = f"""
UPDATE objects AS kept SET status = new.status, error = new.error, run_id = %(run)s, attempts = new.attempts,
  started_at = new.started_at, finished_at = new.finished_at, file_number = new.file_number,
  row_number = new.row_number, {STILL_VERIFIED}
FROM incoming AS new
WHERE {_MEETS} AND kept.status NOT IN ('MISMATCH', 'DESTINATION_GONE')
"""  # noqa: S608 - column names of this package

SETTLE = f"DELETE FROM incoming AS new USING objects AS kept WHERE {_MEETS}"  # noqa: S608 - as above
"""Nothing is left to do for those: the upsert that follows takes the place of what it meets."""
