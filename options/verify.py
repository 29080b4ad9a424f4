"""What `s3ferry verify` looks at, and what becomes of what it finds."""

from __future__ import annotations

import argparse

from options import values
from options.config import VerifyOptions
from options.errors import UsageError
from options.flags import Flag, add_flags, switch
from options.run import CLUSTER_RUNNERS

VERIFY_FLAGS = (
    Flag(
        "destination_manifest",
        "inventory of the destination, as --manifest but read with the destination's endpoint and credentials; "
        "joined with the source's, so that only objects it does not settle are asked for",
        values.manifest,
        shown_default="none, a HEAD of every object",
        metavar="PLACE",
    ),
    switch(
        "list_destination",
        "list the destination (a request for 1,000 objects) and use that in place of an inventory of it",
    ),
    switch("deep", "read every object at the destination again and hash it"),
    switch(
        "adopt",
        "take objects that another tool wrote into the ledger: what is proven becomes VERIFIED, and run skips it",
    ),
)


def add_verify_flags(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of this theme."""
    add_flags(parser, "verify", VERIFY_FLAGS)


def read_verify(given: argparse.Namespace) -> VerifyOptions:
    """The flags of this theme. Raises UsageError for a combination that cannot work."""
    manifest = given.destination_manifest
    joined = "--destination_manifest" if manifest is not None else "--list_destination"
    if given.list_destination and manifest is not None:
        raise UsageError("--list_destination", "--destination_manifest says what is there already; give one of them")
    if given.deep and (manifest is not None or given.list_destination):
        raise UsageError("--deep", f"it reads every object, whatever {joined} says; give one of them")
    if given.evidence == "readback" and not given.deep:
        raise UsageError("--evidence", "readback means that every object is read; add --deep or ask for less")
    if manifest is not None and values.is_local(manifest) and given.runner in CLUSTER_RUNNERS:
        raise UsageError(
            "--destination_manifest",
            f"a local path cannot be read by the workers of {given.runner}; put it in S3 and give s3://bucket/key",
        )
    return VerifyOptions(
        destination_manifest=manifest,
        list_destination=given.list_destination,
        deep=given.deep,
        adopt=given.adopt,
    )
