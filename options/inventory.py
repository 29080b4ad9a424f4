"""What to read: the manifest and its files."""

from __future__ import annotations

import argparse

from options import values
from options.config import InventoryOptions
from options.errors import UsageError
from options.flags import Flag, add_flags, choice_flag, switch
from options.redaction import shown

KEY_ENCODINGS = ("plus", "percent", "none")
_DEFAULT = InventoryOptions()

INVENTORY_FLAGS = (
    Flag(
        "manifest",
        "manifest.json of an S3 Inventory, a Batch Operations CSV, or .../latest for the newest complete inventory; "
        "s3://bucket/key (read with the source's endpoint and credentials), or a local path unless on a cluster; "
        "may be given several times",
        values.manifest,
        shown_default="none, required",
        metavar="PLACE",
        repeatable=True,
    ),
    choice_flag(
        "csv_key_encoding",
        _DEFAULT.csv_key_encoding,
        "how keys are encoded in CSV files; plus: %XX and + for a blank, percent: %XX only, none: as they stand",
        values.one_of(*KEY_ENCODINGS),
        KEY_ENCODINGS,
    ),
    switch(
        "skip_bad_files", "count an inventory file that is corrupt or missing and go on, instead of stopping the run"
    ),
    Flag(
        "spool_dir",
        "local folder where inventory files are kept while they are read",
        values.text_value,
        shown_default="the temporary folder",
        metavar="FOLDER",
    ),
)


def add_inventory_flags(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of this theme."""
    add_flags(parser, "inventory", INVENTORY_FLAGS)


def read_inventory(given: argparse.Namespace) -> InventoryOptions:
    """The flags of this theme. Raises UsageError where the manifest is missing."""
    if not given.manifest:
        raise UsageError("--manifest", "it is missing; give s3://bucket/.../manifest.json or a local path")
    twice = next((place for place in given.manifest if given.manifest.count(place) > 1), None)
    if twice is not None:
        raise UsageError("--manifest", f"{shown(twice)} is given twice; its rows would all be duplicates: give it once")
    return InventoryOptions(
        manifests=tuple(given.manifest),
        csv_key_encoding=given.csv_key_encoding,
        skip_bad_files=given.skip_bad_files,
        spool_dir=given.spool_dir,
    )
