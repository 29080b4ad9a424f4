"""Fixtures of the integration tests: ledgers, users of the command line, proxies."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.fixtures.s3 import S3Server
from tests.integration.ferry import Ferry
from tests.integration.ledger import Ledger
from tests.integration.proxy import Proxy, proxy_before

MakeFerry = Callable[..., Ferry]
MakeProxy = Callable[[S3Server], Proxy]


def new_bucket(server: S3Server, *, versioned: bool = False) -> str:
    """A fresh bucket of a name never used before."""
    name = f"it-{uuid.uuid4().hex[:16]}"
    client = server.client()
    client.create_bucket(Bucket=name)
    if versioned:
        client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return name


@contextmanager
def fresh_ledger(server_uri: str) -> Iterator[Ledger]:
    """An empty database for one ledger; dropped at the end with whoever is still connected."""
    name = f"ledger_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server_uri, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        yield Ledger(make_conninfo(server_uri, dbname=name))
    finally:
        with psycopg.connect(server_uri, autocommit=True) as admin:
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="module")
def module_ledger(postgres_uri: str) -> Iterator[Ledger]:
    """One ledger for all tests of a module that describe the same runs."""
    with fresh_ledger(postgres_uri) as ledger:
        yield ledger


@pytest.fixture
def ledger(postgres_uri: str) -> Iterator[Ledger]:
    """A ledger of the test's own."""
    with fresh_ledger(postgres_uri) as ledger:
        yield ledger


@contextmanager
def ferries(folders: Callable[[], Path]) -> Iterator[MakeFerry]:
    """`make(source, destination, ledger, *flags)` makes users of the command line; what they leave is ended."""
    with ExitStack() as stack:

        def make(source: S3Server, destination: S3Server, ledger: Ledger | None, *flags: str) -> Ferry:
            ferry = Ferry(source, destination, ledger.dsn if ledger else None, folders(), flags)
            stack.callback(ferry.clear_up)
            return ferry

        yield make


@pytest.fixture
def ferry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeFerry]:
    """Makes users for one test."""
    with ferries(lambda: tmp_path_factory.mktemp("ferry")) as make:
        yield make


@pytest.fixture(scope="module")
def module_ferry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeFerry]:
    """Makes users for the runs of a whole module."""
    with ferries(lambda: tmp_path_factory.mktemp("ferry")) as make:
        yield make


@pytest.fixture
def proxied() -> Iterator[MakeProxy]:
    """`proxied(server)` starts a proxy before a server."""
    with ExitStack() as stack:
        yield lambda server: stack.enter_context(proxy_before(server))
