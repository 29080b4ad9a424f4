"""A migrated ledger, a run in it and a connection to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ledger.connect import Connection, connect
from ledger.leases import RunRef
from ledger.runs import start_run
from ledger.schema import migrate
from tests.ledger.examples import a_run


@pytest.fixture
def dsn(ledger_dsn: str) -> str:
    migrate(ledger_dsn)
    return ledger_dsn


@pytest.fixture
def ref(dsn: str) -> RunRef:
    return start_run(dsn, a_run())


@pytest.fixture
def conn(dsn: str) -> Iterator[Connection]:
    with connect(dsn, "test") as connection:
        yield connection
