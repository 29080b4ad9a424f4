"""A run of s3ferry made by hand, for benchmarks of single steps: the ledger's rows, the lease, the job context."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from dataclasses import asdict

from ledger.runs import RunStart, start_run
from ledger.schema import migrate
from model.version import VERSION
from options.config import JobConfig
from options.parse import parse_run
from storage.config import Capabilities
from storage.inventory.location import LocalInventoryStore, parse_location
from storage.inventory.manifest import Manifest, load_manifest
from transforms.context import JobContext

_BUCKET = "bench"
_NOWHERE = "http://127.0.0.1:9"
_ENDPOINT = (f"endpoint_url={_NOWHERE}", "region=us-east-1")
_LEASE_S = 3600


def config_for(manifest: str, workers: int, flags: Sequence[str] = ()) -> JobConfig:
    """A configuration whose endpoints are never asked."""
    sides = [f"--{side}_{name}" for side in ("source", "destination") for name in _ENDPOINT]
    given = [f"--manifest={manifest}", f"--destination=s3://{_BUCKET}", f"--workers={workers}"]
    return parse_run([*given, f"--lease_ttl={_LEASE_S}", *sides, *flags])


def local_manifest(path: str) -> Manifest:
    """The manifest of an inventory on this disk."""
    return load_manifest(LocalInventoryStore(), parse_location(path))


def start_job(dsn: str, config: JobConfig, manifest: Manifest) -> JobContext:
    """Starts a run in the ledger `dsn`, which this process's workers will use too."""
    os.environ["LEDGER_DSN"] = dsn
    migrate(dsn)
    run = start_run(
        dsn,
        RunStart(
            job=config.run.job or f"bench-{uuid.uuid4().hex[:8]}",
            manifest=manifest.uri,
            manifest_checksum=manifest.checksum,
            package_version=VERSION,
            options=asdict(config),
            destination_endpoint=_NOWHERE,
            destination_bucket=_BUCKET,
            destination_prefix=uuid.uuid4().hex,
            lease_ttl_s=_LEASE_S,
        ),
    )
    can = Capabilities(trailing_checksum=True, signed_body=True, etag_is_md5=True, full_object_crc=True)
    return JobContext(
        config=config,
        run=run,
        token=uuid.uuid4().hex,
        manifest=manifest,
        source_bucket=_BUCKET,
        source_can=can,
        destination_can=can,
        workers=config.run.workers,
    )
