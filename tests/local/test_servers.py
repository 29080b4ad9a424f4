"""The servers the tests run against are there and are what they say."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from local.workload import PART, WorkObject, content, seed, with_metadata
from tests.fixtures.s3 import S3Server


def test_every_server_holds_the_workload(s3_server: S3Server, bucket: Callable[..., str]) -> None:
    name, client = bucket(s3_server), s3_server.client()
    objects = [*with_metadata(), WorkObject("plain", 100_000), WorkObject("empty", 0), WorkObject("parts", PART + 1)]
    rows = seed(client, name, objects)
    assert [(row["key"], row["size"]) for row in rows] == [(item.key, item.size) for item in objects]
    for item in objects:
        body = client.get_object(Bucket=name, Key=item.key)["Body"].read()
        assert body == b"".join(content(item.key, item.size))


def test_every_server_keeps_the_metadata_of_the_workload(s3_server: S3Server, bucket: Callable[..., str]) -> None:
    name, client = bucket(s3_server), s3_server.client()
    item = with_metadata()[0]
    seed(client, name, [item])
    head = client.head_object(Bucket=name, Key=item.key)
    assert {field: head[field] for field in item.metadata} == item.metadata


def test_every_server_keeps_the_checksum_of_an_object_in_parts(s3_server: S3Server, bucket: Callable[..., str]) -> None:
    name, client = bucket(s3_server), s3_server.client()
    seed(client, name, [WorkObject("parts", PART + 1)])
    head = client.head_object(Bucket=name, Key="parts", ChecksumMode="ENABLED")
    assert len(head["ChecksumCRC64NVME"]) == 12
    assert head["ChecksumType"] == "FULL_OBJECT"


def test_every_server_keeps_versions(s3_server: S3Server, bucket: Callable[..., str]) -> None:
    name, client = bucket(s3_server, versioned=True), s3_server.client()
    first = client.put_object(Bucket=name, Key="k", Body=b"1")["VersionId"]
    client.put_object(Bucket=name, Key="k", Body=b"2")
    assert client.get_object(Bucket=name, Key="k", VersionId=first)["Body"].read() == b"1"


def test_bucket_names_are_fresh(moto: S3Server, bucket: Callable[..., str]) -> None:
    assert len({bucket(moto) for _ in range(3)}) == 3


def test_a_missing_tool_skips_by_name_but_fails_in_ci(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    from tests.fixtures.tools import tool

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="minio is not installed: run tests"):
        tool("minio")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="minio is not installed"):
        tool("minio")
