"""The manifest of an inventory: which files it has, how they are written, and what proves them whole.

Source: S3 user guide, «Locating your inventory list» (manifest.json version 2016-11-30, manifest.checksum)
and «Specifying a manifest» of S3 Batch Operations.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from model.errors import InvalidInput
from storage.inventory.columns import BATCH_OPERATIONS_COLUMNS, InventoryFormat
from storage.inventory.location import InventoryStore, Location

VERSION = "2016-11-30"
LATEST = "latest"
CHECKSUM = "manifest.checksum"
MANIFEST = "manifest.json"
CHECKSUM_READS = 5

_DATED_FOLDER = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}-\d{2}Z")
_MD5 = re.compile(r"[0-9a-f]{32}")
_FORMATS = {known.value.lower(): known for known in (InventoryFormat.CSV, InventoryFormat.PARQUET, InventoryFormat.ORC)}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """One file of rows. `size` in bytes; `size` and `md5` (hex) are None where the manifest has no usable value."""

    file_number: int
    location: Location
    size: int | None
    md5: str | None


@dataclass(frozen=True, slots=True)
class Manifest:
    """What one inventory consists of. Picklable.

    `uri` is where it was read, `checksum` the MD5 (hex) of its bytes, which identifies it. `columns` are the
    documented CSV names in file order, () for Parquet and ORC, whose files carry their own schema.
    """

    uri: str
    checksum: str
    source_bucket: str | None
    inventory_bucket: str | None
    format: InventoryFormat
    columns: tuple[str, ...]
    created_at: datetime | None
    files: tuple[ManifestFile, ...]
    members: tuple[Manifest, ...] = ()
    """The manifests this one joins, each with its share of `files`; () for one as it was read."""

    @property
    def keys_may_meet(self) -> bool:
        """Whether two objects of its rows may be copied to one key: rows of several buckets, or of several versions.

        An inventory of one bucket has one current version of a key; other lists name what they like.
        """
        return len(self.buckets) > 1 or any(member.source_bucket is None for member in self.members or (self,))

    @property
    def buckets(self) -> frozenset[str]:
        """The buckets it has inventories of."""
        return frozenset(member.source_bucket for member in self.members or (self,) if member.source_bucket is not None)

    def of(self, file_number: int) -> Manifest:
        """The manifest that says how that file is written: this one, or the member the file is of."""
        for member in self.members:
            if member.files and file_number <= member.files[-1].file_number:
                return member
        return self


def joined(manifests: Sequence[Manifest]) -> Manifest:
    """One manifest with the files of all, numbered through. `checksum` is the MD5 of theirs, one a line. Pure."""
    if len(manifests) == 1:
        return manifests[0]
    members, first = [], 0
    for manifest in manifests:
        files = tuple(replace(file, file_number=first + place) for place, file in enumerate(manifest.files))
        members.append(replace(manifest, files=files))
        first += len(files)
    buckets = {manifest.source_bucket for manifest in manifests}
    return Manifest(
        uri=" ".join(manifest.uri for manifest in manifests),
        checksum=_md5("".join(f"{manifest.checksum}\n" for manifest in manifests).encode()),
        source_bucket=buckets.pop() if len(buckets) == 1 else None,
        inventory_bucket=None,
        format=manifests[0].format,
        columns=(),
        created_at=None,
        files=tuple(file for member in members for file in member.files),
        members=tuple(members),
    )


def resolve_latest(store: InventoryStore, location: Location) -> Location:
    """For `…/latest`, the manifest.json of the newest dated folder beside it; for a manifest.checksum, which is what
    an event of a new inventory names, the manifest.json beside it; else `location` itself.

    A folder without manifest.checksum is passed over: S3 writes that file last. Raises InvalidInput when no
    folder is complete. May be repeated, and may then name a newer inventory.
    """
    if location.name == CHECKSUM:
        return location.parent.child(MANIFEST)
    if location.name != LATEST:
        return location
    base = location.parent
    for name in sorted(store.list_folders(base), reverse=True):
        if _DATED_FOLDER.fullmatch(name) and store.exists(base.child(f"{name}/{CHECKSUM}")):
            return base.child(f"{name}/{MANIFEST}")
    raise InvalidInput(
        f"{location} finds no inventory: {base} has no folder YYYY-MM-DDTHH-MMZ with a {CHECKSUM}; "
        "give PREFIX/SOURCE-BUCKET/CONFIG-ID/latest, or wait for the first report"
    )


def load_manifest(
    store: InventoryStore, location: Location, *, pause: Callable[[float], None] = time.sleep
) -> Manifest:
    """The manifest at `location`: a manifest.json, or a Batch Operations CSV (known by not being JSON).

    A manifest.json that disagrees with its manifest.checksum is being rewritten, so it is read again, 5 times
    in all with pauses of 1, 2, 4 and 8 seconds. Raises InvalidInput in one line for anything that cannot be
    used. May be repeated.
    """
    if not store.read(location, limit=64).lstrip().startswith(b"{"):
        return _batch_operations_manifest(store, location)
    body = _read_verified(store, location, pause)
    return _parse(store, location, body)


def _read_verified(store: InventoryStore, location: Location, pause: Callable[[float], None]) -> bytes:
    checksum = location.parent.child(CHECKSUM)
    if location.name != MANIFEST or not store.exists(checksum):
        return store.read(location)
    for attempt in range(CHECKSUM_READS):
        if attempt:
            pause(float(2 ** (attempt - 1)))
        body = store.read(location)
        promised = store.read(checksum, limit=1024).decode("ascii", "replace").strip().lower()
        if promised == _md5(body):
            return body
    raise InvalidInput(
        f"{location} does not match its {CHECKSUM} ({_md5(body)} against {promised[:32]!r}): "
        "it is damaged or being rewritten; try again, or take another inventory"
    )


def _batch_operations_manifest(store: InventoryStore, location: Location) -> Manifest:
    md5, size = store.fingerprint(location)
    files = (ManifestFile(0, location, size, md5),) if size else ()
    return Manifest(
        uri=str(location),
        checksum=md5,
        source_bucket=None,
        inventory_bucket=location.bucket,
        format=InventoryFormat.BATCH_OPERATIONS_CSV,
        columns=BATCH_OPERATIONS_COLUMNS,
        created_at=None,
        files=files,
    )


def _parse(store: InventoryStore, location: Location, body: bytes) -> Manifest:
    try:
        stated = json.loads(body)
    except ValueError as error:
        raise InvalidInput(f"{location} is not valid JSON ({error}): give the manifest.json S3 wrote") from error
    version = stated.get("version")
    if version != VERSION:
        raise InvalidInput(f"{location} has version {version!r}: only manifests of version {VERSION} can be read")
    kind = _FORMATS.get(str(stated.get("fileFormat")).lower())
    if kind is None:
        raise InvalidInput(
            f"{location} has fileFormat {stated.get('fileFormat')!r}: only CSV, Parquet and ORC can be read"
        )
    bucket = _bucket_name(stated.get("destinationBucket")) or location.bucket
    return Manifest(
        uri=str(location),
        checksum=_md5(body),
        source_bucket=_bucket_name(stated.get("sourceBucket")),
        inventory_bucket=bucket,
        format=kind,
        columns=_csv_columns(location, stated.get("fileSchema")) if kind is InventoryFormat.CSV else (),
        created_at=_created_at(stated.get("creationTimestamp")),
        files=_files(store, location, bucket, stated.get("files")),
    )


def _csv_columns(location: Location, schema: Any) -> tuple[str, ...]:
    columns = tuple(name.strip() for name in schema.split(",")) if isinstance(schema, str) else ()
    for needed in ("Bucket", "Key"):
        if columns.count(needed) != 1:
            raise InvalidInput(
                f"{location} has a fileSchema with {columns.count(needed)} columns {needed}: "
                "a CSV inventory needs exactly one; take the manifest.json S3 wrote"
            )
    return columns


def _files(store: InventoryStore, location: Location, bucket: str | None, entries: Any) -> tuple[ManifestFile, ...]:
    if not isinstance(entries, list):
        raise InvalidInput(f"{location} has no list `files`: give the manifest.json S3 wrote")
    return tuple(_file(store, location, bucket, number, entry) for number, entry in enumerate(entries))


def _file(store: InventoryStore, location: Location, bucket: str | None, number: int, entry: Any) -> ManifestFile:
    key = entry.get("key") if isinstance(entry, dict) else None
    if not isinstance(key, str) or not key:
        raise InvalidInput(f"{location} names no key for file {number}: give the manifest.json S3 wrote")
    size = entry.get("size")
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 0):
        raise InvalidInput(f"{location} states size {size!r} for file {number} ({key}): it must be a number of bytes")
    md5 = str(entry.get("MD5checksum") or "").lower()
    stands_at = Location(bucket, key) if location.bucket is not None else _local_file(store, location, key)
    return ManifestFile(number, stands_at, size, md5 if _MD5.fullmatch(md5) else None)


def _local_file(store: InventoryStore, location: Location, key: str) -> Location:
    """Where `key` stands on the local disk: see docs/inventory.md, «Local paths»."""
    for candidate in _local_candidates(location, key):
        if store.exists(candidate):
            return candidate
    raise InvalidInput(
        f"{location} names the file {key}, which is neither under one of its parent folders nor in "
        f"{location.parent.parent.child('data')}: copy it there"
    )


def _local_candidates(location: Location, key: str) -> Iterator[Location]:
    folder = location.parent
    while True:
        yield folder.child(key)
        if folder == folder.parent:
            break
        folder = folder.parent
    name = key.rsplit("/", 1)[-1]
    yield location.parent.parent.child(f"data/{name}")
    yield location.parent.child(f"data/{name}")


def _bucket_name(stated: Any) -> str | None:
    """`arn:aws:s3:::name` or a plain name; destinationBucket is an ARN, sourceBucket a name."""
    return str(stated).rsplit(":", 1)[-1] or None if stated else None


def _created_at(stated: Any) -> datetime | None:
    """creationTimestamp is milliseconds since the epoch, as a string."""
    try:
        return _EPOCH + timedelta(milliseconds=int(stated))
    except (TypeError, ValueError, OverflowError):
        return None


def _md5(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()
