"""What of an object's headers goes along to the destination."""

from __future__ import annotations

from collections.abc import Mapping

CARRIED = frozenset(
    {
        "content-type",
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "expires",
    }
)

_USER = "x-amz-meta-"


def carried_headers(source: Mapping[str, str]) -> dict[str, str]:
    """The headers of a PUT that give the destination object the source's metadata.

    `aws-chunked` is dropped from Content-Encoding: it belongs to one transfer, not to the object.
    """
    headers = {name: value for name, value in source.items() if name.startswith(_USER) or (name in CARRIED and value)}
    if "content-encoding" in headers:
        kept = [part.strip() for part in headers["content-encoding"].split(",") if part.strip() != "aws-chunked"]
        headers["content-encoding"] = ", ".join(kept)
        if not kept:
            del headers["content-encoding"]
    return headers
