"""The fast transports by name. A library is imported only when its transport is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from storage.config import StoreConfig
from storage.transport import Transport
from storage.transport_verbatim import VerbatimTransport


class MakeTransport(Protocol):
    """The constructor of every implementation. Times in seconds; `ca_bundle` is a PEM file."""

    def __call__(
        self, *, connect_timeout_s: float, idle_timeout_s: float, ca_bundle: str | None = None
    ) -> Transport: ...


def _native() -> MakeTransport:
    from storage.transport_native import NativeTransport  # noqa: PLC0415 - loaded when asked for, as the others

    return NativeTransport


def _pyreqwest() -> MakeTransport:
    from storage.transport_pyreqwest import PyreqwestTransport  # noqa: PLC0415 - a heavy import

    return PyreqwestTransport


def _aiohttp() -> MakeTransport:
    from storage.transport_aiohttp import AiohttpTransport  # noqa: PLC0415 - a heavy import

    return AiohttpTransport


TRANSPORTS: Mapping[str, Callable[[], MakeTransport]] = {
    "native": _native,
    "pyreqwest": _pyreqwest,
    "aiohttp": _aiohttp,
}
"""What loads each implementation."""
VERBATIM = frozenset({"native"})
"""Those that keep every byte of a path and of a header value, and so carry every request there is."""


class Transports(NamedTuple):
    """How one endpoint is reached: the fast way, and the one that keeps every byte of a request."""

    fast: Transport
    careful: Transport


def make_transports(store: StoreConfig) -> Transports:
    """Those of one endpoint; errors as `load_transport`."""
    settings: dict[str, Any] = {
        "connect_timeout_s": store.connect_timeout_s,
        "idle_timeout_s": store.idle_timeout_s,
        "ca_bundle": store.ca_bundle,
    }
    fast = make_transport(store.transport, **settings)
    return Transports(fast, fast if store.transport in VERBATIM else VerbatimTransport(**settings))


def may_share(one: StoreConfig, other: StoreConfig) -> bool:
    """Whether both endpoints are reached alike, so that two that are one share its connections."""
    return _wire(one) == _wire(other)


def _wire(store: StoreConfig) -> tuple[str, float, float, str | None]:
    return store.transport, store.connect_timeout_s, store.idle_timeout_s, store.ca_bundle


def load_transport(name: str) -> MakeTransport:
    """Import the implementation `name` with its library. Raises KeyError for a name that is not in TRANSPORTS."""
    return TRANSPORTS[name]()


def make_transport(
    name: str, *, connect_timeout_s: float, idle_timeout_s: float, ca_bundle: str | None = None
) -> Transport:
    """A transport of the implementation `name`; errors as `load_transport`."""
    make = load_transport(name)
    return make(connect_timeout_s=connect_timeout_s, idle_timeout_s=idle_timeout_s, ca_bundle=ca_bundle)
