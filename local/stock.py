"""`python -m local.stock`: fills a source with the objects of the demonstration and writes their inventory beside them.

For trying the job out between S3 servers of one's own. Credentials: SOURCE_AWS_* and DESTINATION_AWS_*, as for a run.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from local.inventory import write_inventory
from local.workload import WorkObject, demonstration, make_bucket, seed

SOURCE, DESTINATION, INVENTORY = "source", "destination", "inventory"
"""Buckets: of the objects, for their copies, and of the inventory; the last is on the source's server."""


def stock(source: Any, destination: Any, format: str, objects: Sequence[WorkObject]) -> str:
    """Fills the source bucket, writes its inventory, makes the destination's bucket; the URL of the manifest.

    `source` and `destination` are boto3 clients. May be repeated: the same objects give the same inventory.
    """
    started = time.monotonic()
    rows = seed(source, SOURCE, objects)
    make_bucket(source, INVENTORY)
    make_bucket(destination, DESTINATION)

    def put(key: str, body: bytes | Path) -> None:
        source.put_object(Bucket=INVENTORY, Key=key, Body=body.read_bytes() if isinstance(body, Path) else body)

    # The time of the newest object, not of this call: the same objects give the same inventory.
    manifest = write_inventory(
        rows,
        format=format,
        put=put,
        source_bucket=SOURCE,
        inventory_bucket=INVENTORY,
        prefix="",
        config_id=f"demonstration-{format}",
        when=max(row["last_modified_date"] for row in rows),
    )
    megabytes = sum(row["size"] for row in rows) / 1e6
    seconds = time.monotonic() - started
    print(
        f"{len(rows)} objects ({megabytes:.0f} MB) and their {format} inventory are in place ({seconds:.1f} s).",
        flush=True,
    )
    return f"s3://{INVENTORY}/{manifest}"


def main(argv: list[str] | None = None) -> int:
    """Stocks the source once; 0, or 3 when a server does not take it."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    arguments = parser().parse_args(argv)
    # MinIO takes no key with an empty segment
    objects = [item for item in demonstration() if "//" not in item.key]
    try:
        source = _client("SOURCE", arguments.source_endpoint_url, os.environ)
        destination = _client("DESTINATION", arguments.destination_endpoint_url, os.environ)
        print(stock(source, destination, arguments.format, objects), flush=True)
    except (BotoCoreError, ClientError) as error:
        print(f"s3ferry: {error}", file=sys.stderr)
        return 3
    return 0


def parser() -> argparse.ArgumentParser:
    """The flags of `python -m local.stock`."""
    flags = argparse.ArgumentParser(
        prog="python -m local.stock",
        allow_abbrev=False,
        description="Fills a source with the objects of the demonstration and writes their inventory.",
    )
    for side in ("source", "destination"):
        flags.add_argument(f"--{side}_endpoint_url", required=True, metavar="URL", help=f"S3 endpoint of the {side}")
    flags.add_argument(
        "--format", choices=("csv", "parquet", "orc"), default="csv", help="format of the inventory (default: csv)"
    )
    return flags


def _client(side: str, url: str, environment: Mapping[str, str]) -> Any:
    import boto3  # noqa: PLC0415
    from botocore.config import Config  # noqa: PLC0415

    return boto3.client(
        "s3",
        endpoint_url=url,
        aws_access_key_id=environment.get(f"{side}_AWS_ACCESS_KEY_ID"),
        aws_secret_access_key=environment.get(f"{side}_AWS_SECRET_ACCESS_KEY"),
        region_name=environment.get(f"{side}_AWS_REGION", "us-east-1"),
        config=Config(s3={"addressing_style": "path"}, max_pool_connections=16),
    )


if __name__ == "__main__":
    sys.exit(main())
