"""A moto server for reading inventories from S3; one per test process, on a free port."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def client_for() -> Callable[[str], Any]:
    """A boto3 S3 client for an endpoint, without retries of its own."""
    import boto3
    from botocore.config import Config

    def make(url: str) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"max_attempts": 0}, s3={"addressing_style": "path"}, read_timeout=5),
        )

    return make


@pytest.fixture
def s3(moto_url: str, client_for: Callable[[str], Any]) -> Any:
    return client_for(moto_url)


@pytest.fixture
def bucket(s3: Any) -> str:
    name = f"inv-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=name)
    return name
