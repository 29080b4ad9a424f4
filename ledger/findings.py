"""What a later look does to `objects`, as SQL over the table `incoming` of one batch of findings.

Digests and evidence of earlier runs stay: a finding changes a status, or adds evidence that is stronger. An object
at the destination that is not the one recorded was written by another tool: it comes in only when it is adopted.
"""

from __future__ import annotations

from ledger.rows import COLUMNS, LIST, VERIFIED_BY_RECORD, strength_sql
from model.status import DestinationEvidence, SourceEvidence

_DIGESTS = ("md5", "sha256", "crc64nvme", "crc32c")


def same_source(new: str) -> str:
    """Whether the row is about the source object, and the state of it, that the finding is about."""
    return (
        f"((kept.source_bucket, kept.source_key, kept.size) = ({new}.source_bucket, {new}.source_key, {new}.size)"
        f" AND (kept.source_version, kept.source_etag) IS NOT DISTINCT FROM ({new}.source_version, {new}.source_etag))"
    )


def _same_object(new: str) -> str:
    """Whether the destination holds the very object the row is about."""
    return (
        f"(kept.destination_etag = {new}.destination_etag"
        f" AND coalesce(kept.destination_version = {new}.destination_version, true))"
    )


def _stronger(column: str, kind: type[SourceEvidence] | type[DestinationEvidence]) -> str:
    return f"{strength_sql(f'new.{column}', kind)} > {strength_sql(f'kept.{column}', kind)}"


_STRONGER_SOURCE = _stronger("source_evidence", SourceEvidence)
_STRONGER_DESTINATION = _stronger("destination_evidence", DestinationEvidence)
_NEW_DIGEST = " OR ".join(f"(kept.{name} IS NULL AND new.{name} IS NOT NULL)" for name in _DIGESTS)
_MEETS = "kept.job = %(job)s AND kept.destination_key = new.destination_key AND kept.run_id <= %(run)s"
# A row that says VERIFIED and names no run is of an older version: the run that wrote it verified it.
_VERIFIED_RUN = (
    "CASE WHEN kept.status = 'VERIFIED' THEN coalesce(kept.verified_run, kept.run_id) ELSE kept.verified_run END"
)
_VERIFIED_AT = (
    "CASE WHEN kept.status = 'VERIFIED' AND kept.verified_run IS NULL THEN kept.finished_at ELSE kept.verified_at END"
)
STILL_VERIFIED = f"verified_run = {_VERIFIED_RUN}, verified_at = {_VERIFIED_AT}"
"""Who proved the object, and when, stays, whoever looks at it later."""
_VERIFIED_NOW = (
    f"verified_run = coalesce({_VERIFIED_RUN}, %(run)s),"
    f" verified_at = CASE WHEN {_VERIFIED_RUN} IS NULL THEN new.finished_at ELSE {_VERIFIED_AT} END"
)
_WHEN = (
    "run_id = %(run)s, started_at = new.started_at, finished_at = new.finished_at,"
    " file_number = new.file_number, row_number = new.row_number"
)

LOWER = f"""
UPDATE objects AS kept SET status = new.status, error = new.error, {_WHEN}, {STILL_VERIFIED}
FROM incoming AS new
WHERE {_MEETS} AND new.status IN ('MISMATCH', 'DESTINATION_GONE')
"""  # noqa: S608 - column names of this package
"""What is wrong is the object's status now; what was proven of it stays beside it."""

RAISE = f"""
UPDATE objects AS kept SET status = new.status, error = NULL, {_WHEN}, {_VERIFIED_NOW},
  {", ".join(f"{name} = coalesce(kept.{name}, new.{name})" for name in (*_DIGESTS, "destination_version"))},
  source_evidence = CASE WHEN {_STRONGER_SOURCE} THEN new.source_evidence ELSE kept.source_evidence END,
  destination_evidence = CASE WHEN {_STRONGER_DESTINATION} THEN new.destination_evidence
    ELSE kept.destination_evidence END
FROM incoming AS new
WHERE {_MEETS} AND new.status = 'VERIFIED' AND {same_source("new")} AND {_same_object("new")}
  AND (kept.status <> 'VERIFIED' OR {_STRONGER_SOURCE} OR {_STRONGER_DESTINATION} OR {_NEW_DIGEST})
"""  # noqa: S608 - as above
"""What is still the recorded object gains what is new: a better status, stronger evidence, digests it lacked."""


def _taken(name: str) -> str:
    if name in _DIGESTS:
        return f"{name} = coalesce(excluded.{name}, CASE WHEN {same_source('excluded')} THEN kept.{name} END)"
    return f"{name} = excluded.{name}"


ADOPT = f"""
INSERT INTO objects AS kept (job, run_id, adopted, verified_run, verified_at, {LIST})
SELECT %(job)s, %(run)s, true, {VERIFIED_BY_RECORD}, {LIST} FROM incoming ORDER BY destination_key
ON CONFLICT (job, destination_key) DO UPDATE SET {", ".join(_taken(name) for name in COLUMNS)},
  run_id = excluded.run_id, adopted = true, verified_run = excluded.verified_run, verified_at = excluded.verified_at
WHERE kept.run_id <= excluded.run_id AND excluded.status = 'VERIFIED'
  AND ({same_source("excluded")} AND {_same_object("excluded")}) IS NOT TRUE
"""  # noqa: S608 - as above
"""Objects the job does not know come in as they were found; a known one is replaced by another that is proven."""
