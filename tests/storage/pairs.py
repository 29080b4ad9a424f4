"""Two buckets between which the storage tests copy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from storage.copier import CopyContext
from tests.fixtures.compare import differences
from tests.fixtures.s3 import S3Server
from tests.storage.ferry import PREFIX, Endpoint, Ferry

MakeBucket = Callable[..., str]


@dataclass
class Pair:
    """A source and a destination bucket on one server."""

    server: S3Server
    client: Any
    source_bucket: str
    destination_bucket: str
    source: Endpoint
    destination: Endpoint

    def differences(self, **options: Any) -> list[str]:
        """How the destination is not the source, as `tests.fixtures.compare` sees it."""
        return differences(
            (self.client, self.source_bucket),
            (self.client, self.destination_bucket),
            destination_prefix=PREFIX,
            **options,
        )

    def context(self, ferry: Ferry, **options: Any) -> CopyContext:
        """A context from source to destination; `options` as in `Ferry.context`."""
        return ferry.context(self.source, self.source_bucket, self.destination, self.destination_bucket, **options)


def make_pair(ferry: Ferry, server: S3Server, bucket: MakeBucket, versioned: bool = False) -> Pair:
    """Two fresh buckets on `server`."""
    return Pair(
        server,
        ferry.boto(server),
        bucket(server, "from", versioned=versioned),
        bucket(server, "to", versioned=versioned),
        ferry.endpoint(server, "source"),
        ferry.endpoint(server, "destination"),
    )
