"""Memory does not grow with the size or the number of objects."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.s3 import S3Server
from tests.storage.ferry import Ferry
from tests.storage.pairs import MakeBucket

MIB = 1024 * 1024
ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from Linux's /proc")


def rise(minio: S3Server, source: str, destination: str, **asked: Any) -> tuple[int, int]:
    """(objects verified, bytes of memory above idle) of a copy in a process of its own."""
    question = {"endpoint_url": minio.endpoint_url, "source": source, "destination": destination, **asked}
    ended = subprocess.run(
        [sys.executable, "-m", "tests.storage.memory_child"],
        input=json.dumps(question),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=240,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    return found["copied"], found["peak"] - found["idle"]


def put_large(client: Any, bucket: str, key: str, blocks: int, block: bytes) -> tuple[str, int, str]:
    """An object of `blocks` times `block`, stored by parts: (key, size, ETag)."""
    upload_id = client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    named = {"Bucket": bucket, "Key": key, "UploadId": upload_id}
    parts = [
        {"PartNumber": number, "ETag": client.upload_part(**named, PartNumber=number, Body=block)["ETag"]}
        for number in range(1, blocks + 1)
    ]
    done = client.complete_multipart_upload(**named, MultipartUpload={"Parts": parts})
    return key, blocks * len(block), done["ETag"].strip('"')


def test_a_2_gib_object_by_parts_takes_at_most_90_mib(ferry: Ferry, minio: S3Server, bucket: MakeBucket) -> None:
    client, source, destination = ferry.boto(minio), bucket(minio), bucket(minio)
    large = put_large(client, source, "large", 64, os.urandom(32 * MIB))
    copied, risen = rise(minio, source, destination, large=large)
    client.delete_object(Bucket=source, Key="large")
    client.delete_object(Bucket=destination, Key="copy")
    assert copied == 1
    assert risen <= 90 * MIB, f"{risen / MIB:.1f} MiB"


def test_ten_times_as_many_small_objects_take_no_more(ferry: Ferry, minio: S3Server, bucket: MakeBucket) -> None:
    client, source, destination = ferry.boto(minio), bucket(minio), bucket(minio)
    small = []
    for number in range(100):
        body = os.urandom(20_000)
        etag = client.put_object(Bucket=source, Key=f"small/{number}", Body=body)["ETag"].strip('"')
        small.append((f"small/{number}", len(body), etag))
    few, few_risen = rise(minio, source, destination, small=small, times=3)
    many, many_risen = rise(minio, source, destination, small=small, times=30)
    assert (few, many) == (300, 3000)
    assert many_risen <= few_risen + 8 * MIB, f"{few_risen / MIB:.1f} MiB, then {many_risen / MIB:.1f} MiB"
