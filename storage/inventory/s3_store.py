"""Inventories in S3, through a boto3 client; its errors are mapped by meaning here and nowhere else."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from model.errors import InvalidInput, RunBroken, S3ferryError
from storage.inventory.location import CHUNK, Fingerprint, Location

ATTEMPTS = 4

_MISSING = frozenset({"NoSuchKey", "NoSuchBucket", "NoSuchVersion", "NotFound", "404"})
_FORBIDDEN = frozenset({"AccessDenied", "AllAccessDisabled", "Forbidden", "403"})

Answer = TypeVar("Answer")


class S3InventoryStore:
    """Inventories in S3. `client` is a boto3 S3 client, which repeats requests by its own settings.

    A body that breaks off is asked for again from its start, up to 4 times in all, because botocore does not.
    Not picklable: make one per process.
    """

    def __init__(self, client: Any, pause: Callable[[float], None] = time.sleep) -> None:
        self._client = client
        self._pause = pause

    def read(self, location: Location, limit: int | None = None) -> bytes:
        """See InventoryStore."""

        def whole(body: Any) -> bytes:
            return bytes(body.read() if limit is None else body.read(limit))

        return self._body(location, whole)

    def fingerprint(self, location: Location) -> Fingerprint:
        """See InventoryStore."""

        def digest(body: Any) -> Fingerprint:
            md5 = hashlib.md5(usedforsecurity=False)
            size = 0
            for chunk in body.iter_chunks(CHUNK):
                md5.update(chunk)
                size += len(chunk)
            return Fingerprint(md5.hexdigest(), size)

        return self._body(location, digest)

    def download(self, location: Location, path: Path) -> None:
        """See InventoryStore. Also raises RunBroken when the disk is full."""

        def save(body: Any) -> None:
            with path.open("wb") as file:
                for chunk in body.iter_chunks(CHUNK):
                    file.write(chunk)

        try:
            self._body(location, save)
        except OSError as error:
            raise RunBroken(f"{location} could not be spooled to {path}: {error.strerror or error}") from error

    def list_folders(self, location: Location) -> list[str]:
        """See InventoryStore."""
        prefix = f"{location.key}/" if location.key else ""
        names = []
        with _meaning(location):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=location.bucket, Prefix=prefix, Delimiter="/"
            )
            for page in pages:
                names += [entry["Prefix"][len(prefix) : -1] for entry in page.get("CommonPrefixes", [])]
        return names

    def exists(self, location: Location) -> bool:
        """See InventoryStore."""
        with _meaning(location):
            try:
                self._client.head_object(Bucket=location.bucket, Key=location.key)
            except ClientError as error:
                if _code(error) in _MISSING:
                    return False
                raise
        return True

    def _body(self, location: Location, use: Callable[[Any], Answer]) -> Answer:
        """What `use` makes of the object's body, which is opened anew when it breaks off."""
        for attempt in range(ATTEMPTS):
            try:
                with _meaning(location):
                    body = self._client.get_object(Bucket=location.bucket, Key=location.key)["Body"]
                with body:
                    return use(body)
            except (IncompleteReadError, ReadTimeoutError, ResponseStreamingError) as error:
                last = error
                if attempt + 1 < ATTEMPTS:
                    self._pause(float(2**attempt))
        raise RunBroken(f"{location} broke off {ATTEMPTS} times while it was read: {last}") from last


@contextmanager
def _meaning(location: Location) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        raise _client_error(location, error) from error
    except BotoCoreError as error:
        raise _transport_error(location, error) from error


def _client_error(location: Location, error: ClientError) -> S3ferryError:
    code = _code(error)
    if code == "NoSuchBucket":
        return InvalidInput(f"{location} cannot be read: there is no bucket {location.bucket} at this endpoint")
    if code in _MISSING:
        return InvalidInput(f"{location} does not exist: check the URI, or take a newer inventory if it has expired")
    if code in _FORBIDDEN:
        return InvalidInput(f"{location} may not be read with these credentials: allow s3:GetObject and s3:ListBucket")
    if code == "InvalidObjectState":
        return InvalidInput(f"{location} is archived: restore it first, or take a newer inventory")
    return RunBroken(f"{location} could not be read: {code}: {error.response.get('Error', {}).get('Message', '')}")


def _transport_error(location: Location, error: BotoCoreError) -> S3ferryError:
    return RunBroken(f"{location} could not be read: {error}")


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
