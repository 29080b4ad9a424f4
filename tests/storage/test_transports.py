"""The transports by name."""

from __future__ import annotations

import subprocess
import sys

import pytest

from options.config import CopyPolicy
from options.copying import TRANSPORT
from storage.config import StoreConfig
from storage.transports import TRANSPORTS, load_transport, may_share

LOADED = """
import sys
from storage.transports import TRANSPORTS, load_transport
if sys.argv[1:]:
    load_transport(sys.argv[1])
print(*[name for name in TRANSPORTS if name in sys.modules])
"""


def loaded(*names: str) -> list[str]:
    """The libraries a fresh process has loaded after asking for the transport named."""
    done = subprocess.run([sys.executable, "-c", LOADED, *names], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_the_flag_offers_every_transport_there_is() -> None:
    assert tuple(TRANSPORTS) == TRANSPORT


def test_sides_that_are_reached_alike_share_their_connections() -> None:
    source = StoreConfig("source", endpoint_url="http://one", region="here")
    assert may_share(source, StoreConfig("destination", endpoint_url="http://two", profile="other"))
    for other in ({"ca_bundle": "own.pem"}, {"idle_timeout_s": 1.0}, {"transport": "aiohttp"}):
        assert not may_share(source, StoreConfig("destination", **other))


def test_the_default_is_the_same_for_a_job_and_an_endpoint() -> None:
    assert CopyPolicy().transport == StoreConfig("source").transport


def test_no_library_is_loaded_before_its_transport_is_asked_for() -> None:
    assert loaded() == []


@pytest.mark.parametrize(
    ("name", "libraries"), [("native", []), ("pyreqwest", ["pyreqwest"]), ("aiohttp", ["aiohttp"])]
)
def test_only_the_library_of_the_transport_asked_for_is_loaded(name: str, libraries: list[str]) -> None:
    assert loaded(name) == libraries


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(KeyError):
        load_transport("carrier-pigeon")
