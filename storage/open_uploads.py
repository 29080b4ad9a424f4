"""Multipart uploads that a bucket holds open: listed, weighed, aborted. Blocking, by the control plane; repeatable."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from model.errors import UploadGone
from storage.config import DESTINATION
from storage.errors import map_boto


class OpenUpload(NamedTuple):
    """One upload the destination holds open. `initiated` is in seconds since the epoch, by the server's clock."""

    key: str
    upload_id: str
    initiated: float


def list_uploads(control: Any, bucket: str, prefix: str) -> Iterator[OpenUpload]:
    """The open uploads whose keys start with `prefix`, page after page.

    MinIO lists only the uploads of one key, where `prefix` is that key, or, where it is empty, those begun since the
    server's start. Raises by meaning, as `map_boto` does.
    """
    # a list made inside, so that an error of any page is mapped
    pages = map_boto(
        lambda: list(control.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix)),
        side=DESTINATION,
        what=f"ListMultipartUploads {bucket}/{prefix}",
    )
    for page in pages:
        for upload in page.get("Uploads", []):
            yield OpenUpload(upload["Key"], str(upload["UploadId"]), upload["Initiated"].timestamp())


def uploads_of(control: Any, bucket: str, key: str, since: float) -> list[OpenUpload]:
    """The open uploads under exactly `key` initiated at `since` or later, oldest first."""
    found = [one for one in list_uploads(control, bucket, key) if one.key == key and one.initiated >= since]
    return sorted(found, key=lambda one: (one.initiated, one.upload_id))


def list_parts(control: Any, bucket: str, key: str, upload_id: str) -> dict[int, tuple[str, int]]:
    """(ETag without quotes, bytes) of each part an upload holds, by number. Raises UploadGone, and by meaning."""
    parts: dict[int, tuple[str, int]] = {}
    named = {"Bucket": bucket, "Key": key, "UploadId": upload_id}
    marker = 0
    while True:
        page = map_boto(
            lambda after=marker: control.list_parts(**named, PartNumberMarker=after),  # type: ignore[misc]
            side=DESTINATION,
            what=f"ListParts {bucket}/{key}",
        )
        for part in page.get("Parts", []):
            parts[part["PartNumber"]] = (part["ETag"].strip('"'), part["Size"])
        following = page.get("NextPartNumberMarker")
        if not page.get("IsTruncated") or not following:
            return parts
        marker = int(following)


def held_bytes(control: Any, bucket: str, upload: OpenUpload) -> int | None:
    """Bytes of the parts an upload holds; None where it is gone. Raises by meaning."""
    try:
        parts = list_parts(control, bucket, upload.key, upload.upload_id)
    except UploadGone:
        return None
    return sum(size for _, size in parts.values())


def abort_upload(control: Any, bucket: str, key: str, upload_id: str) -> None:
    """Abort an upload; one that is gone already is fine. Raises by meaning."""
    try:
        map_boto(
            lambda: control.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id),
            side=DESTINATION,
            what=f"AbortMultipartUpload {bucket}/{key}",
        )
    except UploadGone:
        return
