"""The control plane: boto3 clients for what is rare (create, list, complete, abort, delete, buckets)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from storage.client import CHANGING, Permit, always
from storage.config import StoreConfig
from storage.credentials import region_of

if TYPE_CHECKING:
    import botocore.session

_CONTROL_READ_TIMEOUT_S = 300.0
"""CompleteMultipartUpload of 10,000 parts may take minutes before its answer starts."""


CONTROL_ATTEMPTS = 5
"""How often the client itself tries a request that may be repeated."""


def make_control_client(
    store: StoreConfig,
    session: botocore.session.Session,
    permit: Permit = always,
    *,
    attempts: int = CONTROL_ATTEMPTS,
) -> Any:
    """A thread-safe boto3 S3 client of one side. With one of `attempts` it repeats nothing.

    `permit` is asked before each sending of what changes something.

    Checksums are sent only where we put them ourselves: SDK defaults break several S3-compatible
    servers (boto3 issue 4400).
    """
    import boto3  # noqa: PLC0415 - a heavy import
    from botocore.config import Config  # noqa: PLC0415

    addressing = store.addressing
    if addressing == "auto":
        addressing = "path" if store.endpoint_url else "virtual"
    client = boto3.session.Session(botocore_session=session).client(
        "s3",
        endpoint_url=store.endpoint_url,
        region_name=region_of(store, session),
        verify=store.ca_bundle,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": addressing},
            retries={"mode": "standard", "total_max_attempts": attempts},
            connect_timeout=store.connect_timeout_s,
            read_timeout=_CONTROL_READ_TIMEOUT_S,
            max_pool_connections=32,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )

    def ask(request: Any, **_: object) -> None:
        if request.method in CHANGING:
            permit()

    client.meta.events.register("before-send.s3", ask)
    return client
