"""Integrity records of objects that end before a byte of them is read."""

from __future__ import annotations

import time

from model.objects import ObjectRef
from model.records import IntegrityRecord
from model.status import SizeClass, Status
from transforms.context import JobContext

OTHER_OBJECT = "another object of this run has this destination key"


def unread_record(job: JobContext, ref: ObjectRef, kind: SizeClass, status: Status, error: str) -> IntegrityRecord:
    """The record of `ref` that ends now with `status`; `error` says why in one line."""
    now = time.time()
    return IntegrityRecord.of(
        ref,
        job.config.destination.bucket,
        kind,
        status,
        source_etag=ref.etag,
        attempts=1,
        started_at=now,
        finished_at=now,
        error=error,
        untouched=True,
    )
