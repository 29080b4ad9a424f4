"""The embedded S3: what it keeps over a restart, what it refuses, and how it treats bodies and connections."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.s3_process import running_s3
from local.workload import AWKWARD_KEYS
from tests.fixtures.s3 import S3Server

MIB = 1024 * 1024
UNSIGNED = {"x-amz-content-sha256": "UNSIGNED-PAYLOAD", "Authorization": "any"}


def client_of(url: str) -> Any:
    return S3Server("moto", url).client()


def listed(client: Any, bucket: str) -> dict[str, tuple[str, int, Any]]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return {o["Key"]: (o["ETag"], o["Size"], o["LastModified"]) for page in pages for o in page.get("Contents", [])}


def upload_in_parts(client: Any, bucket: str, key: str, parts: list[bytes]) -> str:
    upload = client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    for number, body in enumerate(parts, 1):
        client.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=number, Body=body)
    done = client.list_parts(Bucket=bucket, Key=key, UploadId=upload)["Parts"]
    etags = [{"PartNumber": part["PartNumber"], "ETag": part["ETag"]} for part in done]
    answer = client.complete_multipart_upload(Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": etags})
    return str(answer["ETag"])


def connection_to(url: str) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(url.removeprefix("http://"), timeout=20)


def test_objects_etags_times_and_metadata_survive_a_restart(tmp_path: Path) -> None:
    with running_s3(tmp_path) as url:
        client = client_of(url)
        client.create_bucket(Bucket="kept")
        client.put_object(Bucket="kept", Key="plain", Body=b"value", ContentType="text/x", Metadata={"a": "b"})
        client.put_object(Bucket="kept", Key="empty", Body=b"")
        etag = upload_in_parts(client, "kept", "parts", [b"a" * 5 * MIB, b"b"])
        before = listed(client, "kept")
    with running_s3(tmp_path) as url:
        client = client_of(url)
        assert listed(client, "kept") == before
        assert before["parts"][0] == etag
        assert etag.endswith('-2"')
        head = client.head_object(Bucket="kept", Key="plain")
        assert (head["ContentType"], head["Metadata"]) == ("text/x", {"a": "b"})
        assert client.get_object(Bucket="kept", Key="parts")["Body"].read() == b"a" * 5 * MIB + b"b"


def test_the_endpoint_survives_a_restart(tmp_path: Path) -> None:
    with running_s3(tmp_path) as url:
        first = url
    with running_s3(tmp_path) as url:
        assert url == first


def test_open_uploads_survive_a_restart(tmp_path: Path) -> None:
    with running_s3(tmp_path) as url:
        client = client_of(url)
        client.create_bucket(Bucket="kept")
        upload = client.create_multipart_upload(Bucket="kept", Key="k")["UploadId"]
        client.upload_part(Bucket="kept", Key="k", UploadId=upload, PartNumber=2, Body=b"x")
    with running_s3(tmp_path) as url:
        parts = client_of(url).list_parts(Bucket="kept", Key="k", UploadId=upload)["Parts"]
        assert [(part["PartNumber"], part["Size"]) for part in parts] == [(2, 1)]


def test_versions_and_delete_markers_survive_a_restart(tmp_path: Path) -> None:
    def versions(client: Any) -> list[tuple[str, bool]]:
        page = client.list_object_versions(Bucket="kept")
        return [(v["VersionId"], v["IsLatest"]) for v in page["Versions"] + page["DeleteMarkers"]]

    with running_s3(tmp_path) as url:
        client = client_of(url)
        client.create_bucket(Bucket="kept")
        client.put_bucket_versioning(Bucket="kept", VersioningConfiguration={"Status": "Enabled"})
        for body in (b"1", b"2"):
            client.put_object(Bucket="kept", Key="k", Body=body)
        client.delete_object(Bucket="kept", Key="k")
        before = versions(client)
    with running_s3(tmp_path) as url:
        assert versions(client_of(url)) == before


def start_detached(folder: Path) -> tuple[subprocess.Popen[bytes], Any]:
    port_file = folder / "port"
    port_file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "local.s3_server", "--data", str(folder), "--port-file", str(port_file)]
    process = subprocess.Popen(command)
    while not port_file.exists():
        assert process.poll() is None
        time.sleep(0.02)
    return process, client_of(f"http://127.0.0.1:{port_file.read_text().strip()}")


def test_a_killed_server_comes_back_as_it_was_last_saved(tmp_path: Path) -> None:
    with running_s3(tmp_path) as url:
        client_of(url).create_bucket(Bucket="kept")
        client_of(url).put_object(Bucket="kept", Key="k", Body=b"saved")
    process, client = start_detached(tmp_path)
    client.put_object(Bucket="kept", Key="k", Body=b"lost")
    client.put_object(Bucket="kept", Key="new", Body=b"lost")
    process.send_signal(signal.SIGKILL)
    process.wait()
    with running_s3(tmp_path) as url:
        assert list(listed(client_of(url), "kept")) == ["k"]
        assert client_of(url).get_object(Bucket="kept", Key="k")["Body"].read() == b"saved"


def test_sigterm_saves_and_exits_with_0(tmp_path: Path) -> None:
    process, client = start_detached(tmp_path)
    client.create_bucket(Bucket="kept")
    process.terminate()
    assert process.wait(20) == 0
    assert [entry["name"] for entry in json.loads((tmp_path / "index.json").read_text())["buckets"]] == ["kept"]


@pytest.mark.parametrize("damage", ["a truncated index", "a missing value", "a short value"])
def test_a_store_that_is_not_whole_is_not_used(tmp_path: Path, damage: str) -> None:
    with running_s3(tmp_path) as url:
        client_of(url).create_bucket(Bucket="kept")
        client_of(url).put_object(Bucket="kept", Key="k", Body=b"value")
    value = next((tmp_path / "values").glob("??/*"))
    if damage == "a truncated index":
        os.truncate(tmp_path / "index.json", 40)
    elif damage == "a missing value":
        value.unlink()
    else:
        os.truncate(value, 1)
    with running_s3(tmp_path) as url:
        assert client_of(url).list_buckets()["Buckets"] == []


def test_overwritten_values_leave_the_disk(tmp_path: Path) -> None:
    with running_s3(tmp_path) as url:
        client = client_of(url)
        client.create_bucket(Bucket="kept")
        for _ in range(5):
            client.put_object(Bucket="kept", Key="k", Body=b"value")
        assert len(list((tmp_path / "values").glob("??/*"))) == 1


def test_awkward_keys_arrive_under_their_own_names(moto: S3Server, bucket: Callable[..., str]) -> None:
    name, client = bucket(moto), moto.client()
    for key in AWKWARD_KEYS:
        client.put_object(Bucket=name, Key=key, Body=key.encode())
    assert set(listed(client, name)) == set(AWKWARD_KEYS)
    for key in AWKWARD_KEYS:
        assert client.get_object(Bucket=name, Key=key)["Body"].read() == key.encode()


def test_a_copy_made_by_the_server_has_the_checksum_asked_for(moto: S3Server, bucket: Callable[..., str]) -> None:
    client, name = moto.client(), bucket(moto)
    put = client.put_object(Bucket=name, Key="one", Body=b"bytes", ChecksumAlgorithm="CRC64NVME")
    source = {"Bucket": name, "Key": "one"}
    copied = client.copy_object(Bucket=name, Key="two", CopySource=source, ChecksumAlgorithm="CRC64NVME")
    assert copied["CopyObjectResult"]["ChecksumCRC64NVME"] == put["ChecksumCRC64NVME"]
    assert client.get_object(Bucket=name, Key="two")["Body"].read() == b"bytes"


def test_a_range_is_the_bytes_asked_for_across_parts(moto: S3Server, bucket: Callable[..., str]) -> None:
    name, client = bucket(moto), moto.client()
    parts = [os.urandom(5 * MIB), os.urandom(5 * MIB), os.urandom(100)]
    upload_in_parts(client, name, "k", parts)
    whole = b"".join(parts)
    for first, last in ((0, 0), (5 * MIB - 1, 5 * MIB), (4 * MIB, 10 * MIB + 5), (10 * MIB, len(whole) - 1)):
        answer = client.get_object(Bucket=name, Key="k", Range=f"bytes={first}-{last}")
        assert answer["Body"].read() == whole[first : last + 1]
        assert answer["ContentRange"] == f"bytes {first}-{last}/{len(whole)}"


def test_a_body_that_is_not_the_signed_one_is_refused(moto: S3Server, bucket: Callable[..., str]) -> None:
    name = bucket(moto)
    connection = connection_to(moto.endpoint_url)
    connection.request("PUT", f"/{name}/k", b"hello", {"x-amz-content-sha256": "0" * 64, "Authorization": "any"})
    answer = connection.getresponse()
    assert (answer.status, b"XAmzContentSHA256Mismatch" in answer.read()) == (400, True)
    assert listed(moto.client(), name) == {}


@pytest.mark.parametrize(("crc", "status"), [("AAAAAAAAAAA=", 400), ("M3eFcAZSQlc=", 200)])
def test_a_trailing_checksum_is_checked(moto: S3Server, bucket: Callable[..., str], crc: str, status: int) -> None:
    name = bucket(moto)
    headers = {
        "Authorization": "any",
        "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "x-amz-decoded-content-length": "5",
        "x-amz-trailer": "x-amz-checksum-crc64nvme",
    }
    body = f"5\r\nhello\r\n0\r\nx-amz-checksum-crc64nvme:{crc}\r\n\r\n".encode()
    connection = connection_to(moto.endpoint_url)
    connection.request("PUT", f"/{name}/k", body, headers)
    assert connection.getresponse().status == status
    if status == 200:
        answer = moto.client().get_object(Bucket=name, Key="k", ChecksumMode="ENABLED")
        assert (answer["ChecksumCRC64NVME"], answer["Body"].read()) == (crc, b"hello")


def test_a_wrong_full_object_checksum_is_refused_at_complete(moto: S3Server, bucket: Callable[..., str]) -> None:
    name, client = bucket(moto), moto.client()
    options = {"ChecksumAlgorithm": "CRC64NVME", "ChecksumType": "FULL_OBJECT"}
    upload = client.create_multipart_upload(Bucket=name, Key="k", **options)["UploadId"]
    etag = client.upload_part(Bucket=name, Key="k", UploadId=upload, PartNumber=1, Body=b"hello")["ETag"]
    complete = {
        "Bucket": name,
        "Key": "k",
        "UploadId": upload,
        "MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": etag}]},
        "ChecksumType": "FULL_OBJECT",
    }
    with pytest.raises(ClientError, match="BadDigest"):
        client.complete_multipart_upload(**complete, ChecksumCRC64NVME="AAAAAAAAAAA=")
    client.complete_multipart_upload(**complete, ChecksumCRC64NVME="M3eFcAZSQlc=")
    assert client.get_object(Bucket=name, Key="k")["Body"].read() == b"hello"


def test_a_body_cut_short_makes_no_object(moto: S3Server, bucket: Callable[..., str]) -> None:
    name = bucket(moto)
    connection = connection_to(moto.endpoint_url)
    connection.putrequest("PUT", f"/{name}/k")
    for header, value in {**UNSIGNED, "Content-Length": "100"}.items():
        connection.putheader(header, value)
    connection.endheaders(b"only a part")
    connection.close()
    assert listed(moto.client(), name) == {}


def test_a_connection_serves_one_request_after_another(moto: S3Server, bucket: Callable[..., str]) -> None:
    name = bucket(moto)
    connection = connection_to(moto.endpoint_url)
    connection.request("PUT", f"/{name}/k", iter([b"one ", b"two"]), UNSIGNED, encode_chunked=True)
    connection.getresponse().read()
    socket = connection.sock
    connection.request("GET", f"/{name}/missing", headers=UNSIGNED)
    assert connection.getresponse().read().count(b"NoSuchKey") == 1
    connection.request("GET", f"/{name}/k", headers=UNSIGNED)
    assert connection.getresponse().read() == b"one two"
    assert connection.sock is socket


def test_an_object_may_be_overwritten_while_it_is_read(moto: S3Server, bucket: Callable[..., str]) -> None:
    name, client = bucket(moto), moto.client()
    old = os.urandom(20 * MIB)
    client.put_object(Bucket=name, Key="k", Body=old)
    body = client.get_object(Bucket=name, Key="k")["Body"]
    start = body.read(10)
    client.put_object(Bucket=name, Key="k", Body=b"new")
    assert start + body.read() == old
