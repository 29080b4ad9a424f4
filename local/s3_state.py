"""The embedded S3's index on disk: buckets, objects, versions and open uploads; values stay in their files.

The index is written last and moved into place, so it is whole or absent. It refers to immutable files
that are kept until the next index is in place: after a kill the state is the last one saved.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import moto.s3.models as s3_models
from requests.structures import CaseInsensitiveDict

from local.s3_blobs import Blob, BlobFile, BlobStore, Span
from local.s3_moto import ACCOUNT, REGION, StoredKey, StoredMultipart

FORMAT = 1
_KEPT = (
    "_storage_class",
    "_etag",
    "_version_id",
    "_is_versioned",
    "checksum_algorithm",
    "checksum_value",
    "checksum_type",
    "checksum_parts",
)


def backend() -> s3_models.S3Backend:
    """moto's one S3 of this process."""
    return s3_models.s3_backends[ACCOUNT]["aws"]


class StateFolder:
    """The folder given by `--data`: `index.json` and the files of values."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._index = folder / "index.json"
        self.store = BlobStore(folder / "values")

    def save(self) -> None:
        """Writes the index of all there is now; the last one stays valid until this one is complete."""
        files: dict[str, BlobFile] = {}
        state = {"format": FORMAT, "buckets": [_bucket_out(bucket, files) for bucket in _buckets()]}
        partial = self._index.with_suffix(".partial")
        with partial.open("w", encoding="utf-8") as stream:
            json.dump(state, stream)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(self._index)
        self.store.pin(files.values())

    def restore(self) -> None:
        """Makes moto hold what the index says, or nothing at all when index or values are not whole."""
        files: dict[str, BlobFile] = {}
        try:
            state = json.loads(self._index.read_text(encoding="utf-8"))
            if state["format"] != FORMAT:
                raise ValueError(f"format {state['format']} instead of {FORMAT}")
            buckets = [_bucket_in(entry, self.store, files) for entry in state["buckets"]]
        except FileNotFoundError:
            buckets = []
        except (ValueError, KeyError, TypeError) as error:
            print(f"embedded S3: {self._index} cannot be used ({error}); starting empty", file=sys.stderr)
            buckets, files = [], {}
        for bucket in buckets:
            backend().buckets[bucket.name] = bucket
        self.store.pin(files.values())
        self.store.sweep(files.values())


def _buckets() -> Iterable[s3_models.FakeBucket]:
    return list(backend().buckets.values())


def _bucket_out(bucket: s3_models.FakeBucket, files: dict[str, BlobFile]) -> dict[str, Any]:
    return {
        "name": bucket.name,
        "region": bucket.region_name,
        "created": bucket.creation_date.isoformat(),
        "versioning": bucket.versioning_status,
        "objects": [_version_out(version, files) for versions in _versions(bucket) for version in versions],
        "uploads": [_upload_out(upload, files) for upload in list(bucket.multiparts.values())],
    }


def _versions(bucket: s3_models.FakeBucket) -> Iterator[list[Any]]:
    return (list(versions) for _, versions in bucket.keys.iterlists())


def _version_out(version: Any, files: dict[str, BlobFile]) -> dict[str, Any]:
    if isinstance(version, s3_models.FakeDeleteMarker):
        return {
            "key": version.name,
            "delete_marker": True,
            "version": version.version_id,
            "modified": version.last_modified.isoformat(),
        }
    return _key_out(version, files) | {
        "tags": backend().tagger.get_tag_dict_for_resource(version.arn),
        "upload": _upload_out(version.multipart, files) if version.multipart else None,
    }


def _key_out(key: Any, files: dict[str, BlobFile]) -> dict[str, Any]:
    return {
        "key": key.name,
        "value": _blob_out(key.value, files),
        "modified": key.last_modified.isoformat(),
        "metadata": dict(key.metadata.items()),
        "fields": {name: getattr(key, name) for name in _KEPT} | {"_etag": key.etag.strip('"')},
    }


def _upload_out(upload: Any, files: dict[str, BlobFile]) -> dict[str, Any]:
    return {
        "key": upload.key_name,
        "id": upload.id,
        "metadata": dict(upload.metadata.items()),
        "storage": upload.storage,
        "tags": upload.tags,
        "parts": [_key_out(part, files) for part in list(upload.parts.values())],
    }


def _blob_out(blob: Blob, files: dict[str, BlobFile]) -> list[list[Any]]:
    spans = []
    for span in blob.spans:
        files[span.file.path.name] = span.file
        spans.append([span.file.path.name, span.file.size, span.offset, span.length])
    return spans


def _bucket_in(entry: dict[str, Any], store: BlobStore, files: dict[str, BlobFile]) -> s3_models.FakeBucket:
    bucket = s3_models.FakeBucket(entry["name"], ACCOUNT, entry["region"])  # type: ignore[abstract]
    bucket.creation_date = datetime.fromisoformat(entry["created"])
    bucket.versioning_status = entry["versioning"]
    for version in entry["objects"]:
        bucket.keys[version["key"]] = _version_in(version, bucket, store, files)
    for upload in entry["uploads"]:
        bucket.multiparts[upload["id"]] = _upload_in(upload, store, files)
    return bucket


def _version_in(
    entry: dict[str, Any], bucket: s3_models.FakeBucket, store: BlobStore, files: dict[str, BlobFile]
) -> StoredKey | s3_models.FakeDeleteMarker:
    key = _key_in(entry, bucket.name, store, files)
    if entry.get("delete_marker"):
        marker = s3_models.FakeDeleteMarker(key=key)
        marker.last_modified = datetime.fromisoformat(entry["modified"])
        marker._version_id = entry["version"]
        return marker
    if entry["upload"]:
        key.multipart = _upload_in(entry["upload"], store, files)
    if entry["tags"]:
        tagger = backend().tagger
        tagger.tag_resource(key.arn, tagger.convert_dict_to_tags_input(entry["tags"]))
    return key


def _key_in(entry: dict[str, Any], bucket_name: str | None, store: BlobStore, files: dict[str, BlobFile]) -> StoredKey:
    blob = _blob_in(entry.get("value", []), store, files)
    key = StoredKey(entry["key"], blob, account_id=ACCOUNT, region_name=REGION, bucket_name=bucket_name)
    key.last_modified = datetime.fromisoformat(entry["modified"])
    key.set_metadata(entry.get("metadata", {}))
    for name, value in entry.get("fields", {}).items():
        setattr(key, name, value)
    return key


def _upload_in(entry: dict[str, Any], store: BlobStore, files: dict[str, BlobFile]) -> StoredMultipart:
    upload = StoredMultipart(
        entry["key"],
        CaseInsensitiveDict(entry["metadata"]),
        account_id=ACCOUNT,
        region_name=REGION,
        storage=entry["storage"],
        tags=entry["tags"],
        acl=s3_models.get_canned_acl("private"),
    )
    upload.id = entry["id"]
    upload.parts = {int(part["key"]): _key_in(part, None, store, files) for part in entry["parts"]}
    upload.partlist = sorted(upload.parts)
    return upload


def _blob_in(spans: list[list[Any]], store: BlobStore, files: dict[str, BlobFile]) -> Blob:
    found = []
    for name, size, offset, length in spans:
        if name not in files:
            files[name] = store.adopt(name, size)
        found.append(Span(files[name], offset, length))
    return Blob(found)
