"""What changes something is sent only while it may be; what reads is always sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from model.errors import LeaseLost
from storage.client import S3Client
from storage.config import StoreConfig
from storage.control import make_control_client
from storage.credentials import make_session
from storage.limits import EndpointLimit
from storage.signing import UNSIGNED, Signer
from storage.transport_native import NativeTransport
from storage.transport_verbatim import VerbatimTransport
from tests.fixtures.s3 import S3Server

PIECE = bytes(1024 * 1024)


class Lease:
    """A permit for `left` more questions."""

    def __init__(self, left: int) -> None:
        self.left = left

    def __call__(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise LeaseLost("the lease is lost")


@pytest.fixture
def store(minio: S3Server, monkeypatch: pytest.MonkeyPatch) -> StoreConfig:
    for name, value in minio.environment("DESTINATION").items():
        monkeypatch.setenv(name, value)
    return StoreConfig("destination", minio.endpoint_url)


def client_of(store: StoreConfig, lease: Lease) -> S3Client:
    times = {"connect_timeout_s": 5.0, "idle_timeout_s": 5.0}
    signer = Signer(make_session(store), "us-east-1", store.side)
    fast, careful = NativeTransport(**times), VerbatimTransport(**times)
    return S3Client(store, str(store.endpoint_url), signer, fast, careful, EndpointLimit(10), lease)


async def pieces() -> AsyncIterator[bytes]:
    for _ in range(4):
        yield PIECE


@pytest.mark.parametrize("key", ["plain", "with/../dots"])
@pytest.mark.parametrize("allowed", [0, 3])
def test_a_body_is_not_sent_or_not_sent_to_its_end(
    minio: S3Server, bucket: Callable[..., str], store: StoreConfig, key: str, allowed: int
) -> None:
    name = bucket(minio)

    async def put() -> None:
        client = client_of(store, Lease(allowed))
        try:
            await client.put(name, key, pieces(), length=4 * len(PIECE), payload=UNSIGNED, headers={})
        finally:
            await client.close()

    with pytest.raises(LeaseLost):
        asyncio.run(put())
    assert "Contents" not in minio.client().list_objects_v2(Bucket=name)


def test_reading_needs_no_permit(minio: S3Server, bucket: Callable[..., str], store: StoreConfig) -> None:
    name = bucket(minio)
    minio.client().put_object(Bucket=name, Key="k", Body=b"there")

    async def head() -> str:
        client = client_of(store, Lease(0))
        try:
            return (await client.head(name, "k"))["content-length"]
        finally:
            await client.close()

    assert asyncio.run(head()) == "5"


def test_the_control_client_asks_too(minio: S3Server, bucket: Callable[..., str], store: StoreConfig) -> None:
    name = bucket(minio)
    minio.client().put_object(Bucket=name, Key="k", Body=b"there")
    control = make_control_client(store, make_session(store), Lease(0))
    assert control.list_objects_v2(Bucket=name)["KeyCount"] == 1
    for change in (
        lambda: control.delete_object(Bucket=name, Key="k"),
        lambda: control.copy_object(Bucket=name, Key="j", CopySource={"Bucket": name, "Key": "k"}),
        lambda: control.create_multipart_upload(Bucket=name, Key="k"),
    ):
        with pytest.raises(LeaseLost):
            change()
    assert control.list_objects_v2(Bucket=name)["KeyCount"] == 1
