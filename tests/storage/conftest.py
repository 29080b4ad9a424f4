"""Fixtures of the storage tests: the scripted server and each transport in turn."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import Any

import pytest
import uvloop

from storage import transports
from storage.transport import Transport
from storage.transport_verbatim import VerbatimTransport
from tests.storage.ferry import Ferry, running_ferry
from tests.storage.scripted_server import ScriptedServer, scripted_server

TRANSPORTS: dict[str, Callable[..., Transport]] = {
    **{name: partial(transports.make_transport, name) for name in transports.TRANSPORTS},
    "verbatim": VerbatimTransport,
}
"""Every implementation; the conformance suite runs once for each."""


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A server that does what the test says."""
    with scripted_server() as running:
        yield running


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> Callable[..., Transport]:
    """Makes one transport of the implementation under test; times in seconds."""
    factory = TRANSPORTS[request.param]

    def make(
        *, connect_timeout_s: float = 10.0, idle_timeout_s: float = 10.0, ca_bundle: str | None = None
    ) -> Transport:
        return factory(connect_timeout_s=connect_timeout_s, idle_timeout_s=idle_timeout_s, ca_bundle=ca_bundle)

    return make


@pytest.fixture
def run() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Runs one coroutine on an event loop of its own, as the engine's."""
    return uvloop.run


@pytest.fixture(scope="session")
def ferry() -> Iterator[Ferry]:
    """An engine and all that is opened on it."""
    with running_ferry() as running:
        yield running
