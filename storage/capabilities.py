"""What an endpoint can do, found out before the first object is copied.

The destination is asked through a multipart upload that is always aborted, so nothing is ever left
there, whatever the server accepts and whatever the bucket's versioning or lock.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from typing import Any

from model.errors import (
    AccessDenied,
    DestinationGone,
    Mismatch,
    Refused,
    RunBroken,
    SourceGone,
    TransferError,
    Transient,
)
from storage.checksums import CRC64NVME, Digests, etag_of
from storage.client import S3Client, part_query
from storage.config import Capabilities
from storage.errors import map_boto
from storage.retry import repeated
from storage.signing import UNSIGNED_TRAILER
from storage.tee import framed_length

PROBE_NAME = ".s3ferry-probe"
_BODY = b"s3ferry probe"
_OTHER = b"s3ferry other"
_ABSENT = ".s3ferry-probe-absent"
_ATTEMPTS = 5


async def probe_destination(client: S3Client, control: Any, bucket: str, prefix: str) -> Capabilities:
    """The capabilities of a destination. Repeatable.

    Raises RunBroken where the bucket does not exist or may not be written, or nothing answers.
    """
    key = f"{prefix}{PROBE_NAME}"
    try:
        upload_id, full_object_crc = await asyncio.to_thread(_create, control, bucket, key)
        can = Capabilities(full_object_crc=full_object_crc)
        try:
            return await _probe_parts(client, bucket, key, upload_id, can)
        finally:
            await asyncio.to_thread(_abort, control, bucket, key, upload_id)
    except Transient as error:
        raise RunBroken(f"{error.message}: the endpoint gives no answer") from None


async def probe_writes(control: Any, bucket: str, prefix: str) -> None:
    """Find out whether these credentials may write there. Repeatable.

    Raises RunBroken where they may not, the bucket does not exist or nothing answers.
    """
    key = f"{prefix}{PROBE_NAME}"
    try:
        upload_id, _ = await asyncio.to_thread(_create, control, bucket, key)
        await asyncio.to_thread(_abort, control, bucket, key, upload_id)
    except Transient as error:
        raise RunBroken(f"{error.message}: the endpoint gives no answer") from None
    except TransferError as error:
        raise RunBroken(error.message) from None


async def probe_reads(client: S3Client, bucket: str) -> Capabilities:
    """The capabilities of an endpoint that is only read: whether it bears checksum mode. Repeatable.

    Asks for a key that is not there: 404 and 403 are answers, another refusal is of the checksum mode.
    Raises RunBroken where the bucket does not exist, the credentials are wrong or nothing answers.
    """
    try:
        await repeated(lambda: client.head(bucket, _ABSENT, checksum_mode=True), _ATTEMPTS)
    except (SourceGone, DestinationGone, AccessDenied):
        return Capabilities(checksum_mode=True)
    except Refused:
        return Capabilities(checksum_mode=False)
    except Transient as error:
        raise RunBroken(f"{error.message}: the endpoint gives no answer") from None
    return Capabilities(checksum_mode=True)


def _create(control: Any, bucket: str, key: str) -> tuple[str, bool]:
    what = f"CreateMultipartUpload {bucket}/{key}"
    try:
        answer = map_boto(
            lambda: control.create_multipart_upload(
                Bucket=bucket, Key=key, ChecksumAlgorithm="CRC64NVME", ChecksumType="FULL_OBJECT"
            ),
            side="destination",
            what=what,
        )
        return answer["UploadId"], answer.get("ChecksumType") == "FULL_OBJECT"
    except AccessDenied as error:
        raise RunBroken(
            f"{error.message}: the destination's credentials may not write there; grant s3:PutObject and "
            "s3:AbortMultipartUpload on the bucket and prefix"
        ) from None
    except TransferError:
        answer = map_boto(
            lambda: control.create_multipart_upload(Bucket=bucket, Key=key), side="destination", what=what
        )
        return answer["UploadId"], False


def _abort(control: Any, bucket: str, key: str, upload_id: str) -> None:
    map_boto(
        lambda: control.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id),
        side="destination",
        what=f"AbortMultipartUpload {bucket}/{key}",
    )


async def _probe_parts(client: S3Client, bucket: str, key: str, upload_id: str, can: Capabilities) -> Capabilities:
    query = part_query(1, upload_id)

    async def trailing(body: bytes, summed: bytes) -> Any:
        digests = Digests(frozenset({CRC64NVME}))
        digests.update(summed)
        crc = (digests.base64(CRC64NVME) or "").encode()
        wire = b"%x\r\n%b\r\n0\r\nx-amz-checksum-crc64nvme:%b\r\n\r\n" % (len(body), body, crc)
        headers = {"x-amz-trailer": "x-amz-checksum-crc64nvme", "x-amz-decoded-content-length": str(len(body))}
        if len(wire) != framed_length(len(body), len(body)):
            raise AssertionError("the frame is as long as announced")
        return await client.put(
            bucket, key, wire, length=len(wire), payload=UNSIGNED_TRAILER, headers=headers, query=query
        )

    async def signed(body: bytes, summed: bytes) -> Any:
        digests = Digests(frozenset({CRC64NVME}))
        digests.update(body)
        headers = {"x-amz-checksum-crc64nvme": digests.base64(CRC64NVME) or ""} if can.full_object_crc else {}
        return await client.put(
            bucket,
            key,
            body,
            length=len(body),
            payload=hashlib.sha256(summed).hexdigest(),
            headers=headers,
            query=query,
        )

    signed_body = await _tells_apart(signed)
    trailing_checksum = await _tells_apart(trailing)
    answer = await (signed if signed_body or not trailing_checksum else trailing)(_BODY, _BODY)
    md5 = hashlib.md5(_BODY, usedforsecurity=False).hexdigest()
    return replace(
        can,
        signed_body=signed_body,
        trailing_checksum=trailing_checksum,
        full_object_crc=can.full_object_crc and trailing_checksum,
        etag_is_md5=etag_of(answer) == md5,
    )


async def _tells_apart(send: Any) -> bool:
    """Whether the server takes a right body and refuses a wrong one as a mismatch."""
    try:
        await repeated(lambda: send(_BODY, _BODY), _ATTEMPTS)
    except Refused:
        return False
    try:
        await repeated(lambda: send(_BODY, _OTHER), _ATTEMPTS)
    except Mismatch:
        return True
    except Refused:
        return False
    return False
