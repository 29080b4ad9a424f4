"""What the driver finds out before a graph is built: the manifest, the endpoints, the rows."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ledger.destination_rows import ListedObject
from ledger.leases import RunRef
from ledger.queries import VerifiedRow
from model.errors import InvalidInput, RunBroken, TransferError
from model.objects import InventoryRow
from options.config import EndpointOptions, JobConfig
from storage.capabilities import probe_destination, probe_reads
from storage.checksums import etag_of
from storage.client import S3Client
from storage.config import DESTINATION, Capabilities
from storage.copier import CopyMode
from storage.credentials import make_session
from storage.engine import Engine
from storage.errors import map_boto
from storage.inventory.errors import CorruptInventoryFile
from storage.inventory.location import InventoryStore, LocalInventoryStore, Location, parse_location
from storage.inventory.manifest import Manifest, joined, load_manifest, resolve_latest
from storage.inventory.rows import count_rows, read_rows
from storage.inventory.s3_store import S3InventoryStore
from storage.inventory.spool import spool
from storage.limits import EndpointLimit
from transforms.context import store_config
from transforms.read_inventory import inventory_store, spool_folder
from transforms.worker import open_client

_LOGGER = logging.getLogger("s3ferry")
_AT_ONCE = 32


class Preflight:
    """The driver's own clients of both endpoints, for the time before the workers start."""

    def __init__(self, config: JobConfig) -> None:
        self._config = config
        self._engine = Engine()
        self._source, self.source_control = self._open(config.source)
        self._destination, self._destination_control = self._open(config.destination_endpoint)

    def _open(self, side: Any) -> tuple[S3Client, Any]:
        return open_client(store_config(side, self._config), EndpointLimit(_AT_ONCE))

    def close(self) -> None:
        self._engine.run(self._source.close())
        self._engine.run(self._destination.close())
        self._engine.close()

    def manifest(self) -> Manifest:
        """The manifests named, as one, `latest` resolved. Raises InvalidInput, and RunBroken that names the source."""
        places = self._config.inventory.manifests
        return joined([_manifest(place, self.source_control, "source") for place in places])

    def destination_manifest(self) -> Manifest | None:
        """The inventory of the destination to verify against, if one is named.

        Raises InvalidInput, also for one that is of another bucket or says nothing of sizes, and RunBroken.
        """
        place = self._config.verify.destination_manifest if self._config.verify else None
        if place is None:
            return None
        manifest = _manifest(place, self._destination_control, "destination")
        bucket = self._config.destination.bucket
        if manifest.source_bucket is None:
            raise InvalidInput(f"--destination_manifest: {place} states no sizes; give the manifest.json S3 wrote")
        if manifest.source_bucket != bucket:
            raise InvalidInput(
                f"--destination_manifest: {manifest.uri} is of bucket {manifest.source_bucket}, not {bucket}; "
                "give an inventory of the destination"
            )
        if manifest.columns and "Size" not in manifest.columns:
            raise InvalidInput(
                f"--destination_manifest: {manifest.uri} has no column Size; give one that has, and ETag"
            )
        return manifest

    def copy_mode(self) -> CopyMode:
        """Who moves the bytes. Raises InvalidInput where the server is asked to, and cannot."""
        policy = self._config.copy
        if policy.copy_mode == "stream":
            return CopyMode.STREAM
        apart = self._apart()
        if policy.copy_mode == "server":
            if apart:
                raise InvalidInput(f"--copy_mode=server: {apart}; use --copy_mode=stream")
            return CopyMode.SERVER
        if apart or policy.hash != "auto":
            _LOGGER.info("objects are streamed: %s", apart or "--hash names digests")
            return CopyMode.STREAM
        return CopyMode.PROVEN

    def _apart(self) -> str | None:
        """Why one server cannot copy from source to destination itself; None where it can."""
        source, destination = self._config.source, self._config.destination_endpoint
        if (source.endpoint_url, source.region) != (destination.endpoint_url, destination.region):
            return "source and destination are not one endpoint"
        if self._principal(source) != self._principal(destination):
            return "source and destination have different credentials"
        return None

    def _principal(self, side: EndpointOptions) -> str | None:
        """Who asks at one side: the role that is assumed, else the access key."""
        if side.role_arn:
            return side.role_arn
        credentials = make_session(store_config(side, self._config)).get_credentials()
        return credentials.get_frozen_credentials().access_key if credentials else None

    def capabilities(self, source_bucket: str) -> tuple[Capabilities, Capabilities]:
        """What source and destination can do. Raises RunBroken where one cannot be used at all."""
        destination = self._config.destination

        async def probe_without_writing() -> tuple[Capabilities, Capabilities]:
            return await probe_reads(self._source, source_bucket), await probe_reads(
                self._destination, destination.bucket
            )

        if self._config.verify is not None:
            return self._engine.run(probe_without_writing())

        async def probe() -> tuple[Capabilities, Capabilities]:
            return await probe_reads(self._source, source_bucket), await probe_destination(
                self._destination, self._destination_control, destination.bucket, destination.prefix
            )

        return self._engine.run(probe())

    def count_rows(self, manifest: Manifest, run: RunRef) -> tuple[list[tuple[int, int]], dict[int, str]]:
        """Spool and verify every file; (file number, rows) of each, and why bad files were left out, by number.

        Raises InvalidInput for a corrupt file unless `--skip_bad_files`.
        """
        counted, bad = [], {}
        folder = spool_folder(self._config.inventory.spool_dir, run)
        for file in manifest.files:
            member = manifest.of(file.file_number)
            store = inventory_store(member, self.source_control)
            try:
                rows = count_rows(spool(store, file, folder), member.format)
            except CorruptInventoryFile as error:
                if not self._config.inventory.skip_bad_files:
                    raise
                bad[file.file_number] = error.message
                _LOGGER.warning("left out: %s", error)
                continue
            counted.append((file.file_number, rows))
        return counted, bad

    def source_buckets(self, manifest: Manifest) -> list[str]:
        """The buckets the rows are of, sorted. Of a Batch Operations manifest the first: only its rows say."""
        members = manifest.members or (manifest,)
        return sorted({member.source_bucket or self._bucket_of_rows(member) for member in members})

    def _bucket_of_rows(self, manifest: Manifest) -> str:
        store = inventory_store(manifest, self.source_control)
        with tempfile.TemporaryDirectory() as folder:
            for file in manifest.files:
                path = spool(store, file, Path(folder))
                for batch in read_rows(path, manifest.format, manifest.columns, file):
                    for row in batch:
                        if isinstance(row, InventoryRow):
                            return row.bucket
        raise InvalidInput(f"{manifest.uri} names no bucket and no object: give a manifest with rows")

    def destination_listing(self) -> Iterator[list[ListedObject]]:
        """What the destination lists below its prefix, 1,000 objects at a time. Raises by meaning, as `map_boto`."""
        destination = self._config.destination
        paginator = self._destination_control.get_paginator("list_objects_v2")
        pages = iter(paginator.paginate(Bucket=destination.bucket, Prefix=destination.prefix))
        what = f"ListObjectsV2 {destination.bucket}/{destination.prefix}"
        while (page := map_boto(lambda: next(pages, None), side=DESTINATION, what=what)) is not None:
            yield [
                ListedObject(entry["Key"], entry["Size"], entry.get("ETag", "").strip('"') or None)
                for entry in page.get("Contents", [])
            ]

    def missing_at_destination(self, rows: Sequence[VerifiedRow]) -> int:
        """How many of these verified objects the destination no longer holds as they were recorded."""
        bucket = self._config.destination.bucket

        async def gone(row: VerifiedRow, places: asyncio.Semaphore) -> bool:
            async with places:
                try:
                    headers = await self._destination.head(bucket, row.destination_key, checksum_mode=False)
                except TransferError:
                    return True
                return etag_of(headers) != row.destination_etag

        async def check() -> int:
            places = asyncio.Semaphore(_AT_ONCE)
            return sum(await asyncio.gather(*(gone(row, places) for row in rows)))

        return self._engine.run(check())


def _manifest(place: str, control: Any, side: str) -> Manifest:
    location = parse_location(place)
    if location.bucket is None:
        return _manifest_at(LocalInventoryStore(), location)
    try:
        return _manifest_at(S3InventoryStore(control), location)
    except RunBroken as error:
        raise RunBroken(f"{side}: {error.message}") from error


def _manifest_at(store: InventoryStore, location: Location) -> Manifest:
    return load_manifest(store, resolve_latest(store, location))


def job_id(config: JobConfig, source_buckets: Sequence[str]) -> str:
    """`--job`, else a digest of both ends of the copy: it keys the ledger and the lock."""
    if config.run.job:
        return config.run.job
    ends = (
        config.source.endpoint_url or "aws",
        ",".join(source_buckets),
        config.destination_endpoint.endpoint_url or "aws",
        config.destination.bucket,
        config.destination.prefix,
    )
    return hashlib.sha256("\0".join(ends).encode()).hexdigest()[:16]
