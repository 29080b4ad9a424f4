"""What of an object's headers goes along to the destination."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CARRIED = (
    "content-type",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "expires",
)

_USER = "x-amz-meta-"

_BOTO_NAMES = {
    "content-type": "ContentType",
    "cache-control": "CacheControl",
    "content-disposition": "ContentDisposition",
    "content-encoding": "ContentEncoding",
    "content-language": "ContentLanguage",
    "expires": "Expires",
}


def carried_headers(source: Mapping[str, str]) -> dict[str, str]:
    """The headers of a PUT that give the destination object the source's metadata.

    `aws-chunked` is dropped from Content-Encoding: it belongs to one transfer, not to the object.
    """
    headers = {name: source[name] for name in CARRIED if source.get(name)}
    if "content-encoding" in headers:
        kept = [part.strip() for part in headers["content-encoding"].split(",") if part.strip() != "aws-chunked"]
        headers["content-encoding"] = ", ".join(kept)
        if not kept:
            del headers["content-encoding"]
    headers.update((name, value) for name, value in source.items() if name.startswith(_USER))
    return headers


def create_arguments(headers: Mapping[str, str]) -> dict[str, Any]:
    """The same as keyword arguments of boto3's create_multipart_upload."""
    arguments: dict[str, Any] = {_BOTO_NAMES[name]: headers[name] for name in CARRIED if name in headers}
    metadata = {name[len(_USER) :]: value for name, value in headers.items() if name.startswith(_USER)}
    return {**arguments, "Metadata": metadata}
