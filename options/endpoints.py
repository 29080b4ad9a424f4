"""The two sides of the copy: where objects come from, where they go, and how each is reached."""

from __future__ import annotations

import argparse
import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

from options import values
from options.config import DestinationOptions, EndpointOptions
from options.errors import UsageError
from options.flags import Flag, add_flags, choice_flag

ADDRESSING = ("auto", "path", "virtual")
SIDES = ("source", "destination")


def _endpoint_flags(side: str) -> tuple[Flag, ...]:
    return (
        Flag(
            f"{side}_endpoint_url",
            f"S3 endpoint of the {side}, http(s)://host[:port], no credentials in it",
            values.endpoint_url,
            shown_default="AWS",
            metavar="URL",
        ),
        Flag(
            f"{side}_region",
            f"region of the {side}",
            values.region,
            shown_default="the environment's, else the AWS chain's",
            metavar="NAME",
        ),
        Flag(
            f"{side}_profile",
            f"profile of the AWS configuration files for the {side}; on a cluster: of each worker's files",
            values.text_value,
            shown_default="the environment's credentials, else the AWS chain's",
            metavar="NAME",
        ),
        Flag(f"{side}_role_arn", f"IAM role to assume for the {side}", values.role_arn, metavar="ARN"),
        choice_flag(
            f"{side}_addressing",
            EndpointOptions(side).addressing,
            f"how the {side} bucket is named in requests; auto: path with an endpoint URL, else virtual",
            values.one_of(*ADDRESSING),
            ADDRESSING,
        ),
        Flag(
            f"{side}_ca_bundle",
            f"file of CA certificates (PEM) that the {side} endpoint is checked against",
            values.text_value,
            shown_default="the system's",
            metavar="FILE",
        ),
    )


DESTINATION = Flag(
    "destination",
    "s3://bucket[/prefix] to copy to; the destination key is the prefix as it stands, then the source key, "
    "so end a folder's prefix with a slash",
    values.destination,
    shown_default="none, required",
    metavar="URL",
)
SOURCE_FLAGS = _endpoint_flags("source")
DESTINATION_FLAGS = (DESTINATION, *_endpoint_flags("destination"))


def add_endpoint_flags(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of both sides."""
    add_flags(parser, "source", SOURCE_FLAGS)
    add_flags(parser, "destination", DESTINATION_FLAGS)


def read_endpoint(side: str, given: argparse.Namespace) -> EndpointOptions:
    """The flags of one side. Raises UsageError for a combination that cannot work."""
    endpoint = EndpointOptions(
        side=side,
        endpoint_url=getattr(given, f"{side}_endpoint_url"),
        region=getattr(given, f"{side}_region"),
        profile=getattr(given, f"{side}_profile"),
        role_arn=getattr(given, f"{side}_role_arn"),
        addressing=getattr(given, f"{side}_addressing"),
        ca_bundle=getattr(given, f"{side}_ca_bundle"),
    )
    url = urlsplit(endpoint.endpoint_url or "")
    if endpoint.ca_bundle and url.scheme == "http":
        raise UsageError(
            f"--{side}_ca_bundle", f"--{side}_endpoint_url is plain http; use https there or leave the bundle out"
        )
    if endpoint.addressing == "virtual" and _is_address(url.hostname):
        raise UsageError(
            f"--{side}_addressing", f"virtual needs a host name and --{side}_endpoint_url is an address; use path"
        )
    return endpoint


def _is_address(host: str | None) -> bool:
    try:
        ipaddress.ip_address(host or "")
    except ValueError:
        return False
    return True


def read_destination(given: argparse.Namespace) -> DestinationOptions:
    """`--destination`. Raises UsageError where it is missing."""
    if given.destination is None:
        raise UsageError("--destination", "it is missing; give s3://bucket/prefix")
    return DestinationOptions(bucket=given.destination.bucket, prefix=given.destination.key)


def endpoint_flags() -> Sequence[Flag]:
    """All flags of this theme."""
    return (*SOURCE_FLAGS, *DESTINATION_FLAGS)
