"""`python -m bench.boto3_loop`: the reference, a verified copy as it is usually written with boto3 and threads.

Every object is read whole (large ones by parts), hashed with MD5 and SHA-256, written, and the ETags of plain
objects are compared with the MD5 on both sides. Digests go to a file. Large objects have SHA-256 per part.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_THREADS = 32
_PART = 16 << 20
_MOST_WHOLE = 100 << 20
_WAITING = 4 * _THREADS


@dataclass(frozen=True, slots=True)
class _Place:
    client: Any
    bucket: str


def _place(url: str) -> _Place:
    import boto3  # noqa: PLC0415 - heavy
    from botocore.config import Config  # noqa: PLC0415

    endpoint, _, bucket = url.rpartition("/")
    config = Config(
        s3={"addressing_style": "path"},
        max_pool_connections=_THREADS,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return _Place(boto3.client("s3", endpoint_url=endpoint, config=config), bucket)


def _listed(place: _Place) -> Iterator[dict[str, Any]]:
    for page in place.client.get_paginator("list_objects_v2").paginate(Bucket=place.bucket):
        yield from page.get("Contents", [])


def _copy(source: _Place, destination: _Place, key: str) -> str:
    """One plain object; its line of digests."""
    answer = source.client.get_object(Bucket=source.bucket, Key=key)
    body = answer["Body"].read()
    md5 = hashlib.md5(body, usedforsecurity=False).hexdigest()
    sha256 = hashlib.sha256(body).hexdigest()
    put = destination.client.put_object(
        Bucket=destination.bucket,
        Key=key,
        Body=body,
        ContentType=answer["ContentType"],
        Metadata=answer.get("Metadata", {}),
    )
    for side, etag in (("source", answer["ETag"]), ("destination", put["ETag"])):
        if "-" not in etag and etag.strip('"') != md5:
            raise RuntimeError(f"{key}: the {side}'s ETag is not the MD5 of the bytes")
    return f"{key}\t{md5}\t{sha256}\n"


def _copy_large(pool: ThreadPoolExecutor, source: _Place, destination: _Place, key: str, size: int) -> str:
    """One object by parts, on all threads."""
    target = {"Bucket": destination.bucket, "Key": key}
    upload = destination.client.create_multipart_upload(**target)["UploadId"]

    def part(number: int) -> tuple[dict[str, Any], str]:
        last = min(size, number * _PART) - 1
        span = f"bytes={(number - 1) * _PART}-{last}"
        body = source.client.get_object(Bucket=source.bucket, Key=key, Range=span)["Body"].read()
        put = destination.client.upload_part(**target, UploadId=upload, PartNumber=number, Body=body)
        if put["ETag"].strip('"') != hashlib.md5(body, usedforsecurity=False).hexdigest():
            raise RuntimeError(f"{key}: the ETag of part {number} is not the MD5 of its bytes")
        return {"PartNumber": number, "ETag": put["ETag"]}, hashlib.sha256(body).hexdigest()

    made = list(pool.map(part, range(1, -(-size // _PART) + 1)))
    parts = [entry for entry, _ in made]
    destination.client.complete_multipart_upload(**target, UploadId=upload, MultipartUpload={"Parts": parts})
    return f"{key}\t-\t{','.join(digest for _, digest in made)}\n"


def copy_all(source: _Place, destination: _Place, digests: Path) -> None:
    """Copies the whole bucket. Raises on the first failure."""
    with ThreadPoolExecutor(_THREADS) as pool, digests.open("w") as out:
        listed = _listed(source)
        while batch := list(itertools.islice(listed, _WAITING)):
            plain = [entry["Key"] for entry in batch if entry["Size"] <= _MOST_WHOLE]
            out.writelines(pool.map(lambda key: _copy(source, destination, key), plain))
            for entry in batch:
                if entry["Size"] > _MOST_WHOLE:
                    out.write(_copy_large(pool, source, destination, entry["Key"], entry["Size"]))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.boto3_loop", allow_abbrev=False, description=__doc__)
    parser.add_argument("--source", required=True, metavar="URL", help="endpoint/bucket to copy from")
    parser.add_argument("--destination", required=True, metavar="URL", help="endpoint/bucket to copy to")
    parser.add_argument("--digests", required=True, type=Path, metavar="FILE", help="file that gets the digests")
    options = parser.parse_args()
    copy_all(_place(options.source), _place(options.destination), options.digests)


if __name__ == "__main__":
    main()
