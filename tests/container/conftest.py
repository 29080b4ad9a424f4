"""Fixtures of the image tests: both images, built once a session, and users of the job's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.container.images import Builder, Container, Image, builder, need_builder
from tests.fixtures.pgbouncer import pgbouncer_before
from tests.fixtures.s3 import S3Server
from tests.integration.conftest import ledger, proxied
from tests.integration.ledger import Ledger

__all__ = ["ledger", "proxied"]

Run = Callable[..., Container]


@pytest.fixture(scope="session")
def images() -> Iterator[Builder]:
    """A builder that has the base image."""
    need_builder()
    with builder() as built:
        built.make_base()
        yield built


@pytest.fixture(scope="session")
def job_image(images: Builder) -> Iterator[Image]:
    """What a plain build makes."""
    images.build("localhost/s3ferry")
    with images.opened("localhost/s3ferry") as image:
        yield image


@pytest.fixture(scope="session")
def worker_image(images: Builder) -> Iterator[Image]:
    """The target `worker`."""
    images.build("localhost/s3ferry-worker", "--target=worker")
    with images.opened("localhost/s3ferry-worker") as image:
        yield image


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Run]:
    """`start(image, *arguments, environment=...)` runs an image; what is left of it is ended after the test."""
    with ExitStack() as stack:
        started: list[Container] = []

        def begin(image: Image, *arguments: str, **how: Any) -> Container:
            folder = tmp_path / f"container-{len(started)}"
            container = image.start(*arguments, folder=folder, **{"environment": {}, **how})
            started.append(container)
            stack.callback(container.kill)
            return container

        yield begin


@pytest.fixture
def job_environment(minio: S3Server, ledger: Ledger, postgres_uri: str, tmp_path: Path) -> Iterator[dict[str, str]]:
    """What a run is given. A container sees none of the machine's sockets: PostgreSQL is reached by PgBouncer."""
    with pgbouncer_before(postgres_uri, tmp_path, pool_size=20) as pooler:
        sides = minio.environment("SOURCE") | minio.environment("DESTINATION")
        yield {"LEDGER_DSN": pooler.dsn(ledger.dsn), "AWS_EC2_METADATA_DISABLED": "true", **sides}
