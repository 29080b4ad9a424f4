"""Where inventories stand (S3 or the local disk), and the few ways they are read."""

from __future__ import annotations

import errno
import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from model.errors import InvalidInput, RunBroken

CHUNK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Location:
    """`s3://bucket/key` when `bucket` is set, else the local path `key`. `str()` gives it back."""

    bucket: str | None
    key: str

    def __str__(self) -> str:
        return self.key if self.bucket is None else f"s3://{self.bucket}/{self.key}"

    @property
    def name(self) -> str:
        """The last segment."""
        return self.key.rsplit("/", 1)[-1]

    @property
    def parent(self) -> Location:
        """The folder this stands in; the parent of the top is the top."""
        folder = self.key.rpartition("/")[0]
        return Location(self.bucket, folder or ("/" if self.bucket is None else ""))

    def child(self, name: str) -> Location:
        """`name` (which may have several segments) inside this folder."""
        folder = self.key.rstrip("/")
        return Location(self.bucket, f"{folder}/{name}" if folder or self.bucket is None else name)


def parse_location(text: str) -> Location:
    """The location `text` names: `s3://bucket/key` or a local path (made absolute).

    Raises InvalidInput for another scheme or an S3 URI without bucket or key.
    """
    if text.startswith("s3://"):
        bucket, _, key = text.removeprefix("s3://").partition("/")
        key = key.rstrip("/")
        if not bucket or not key:
            raise InvalidInput(f"{text} names no object: give s3://BUCKET/KEY of a manifest")
        return Location(bucket, key)
    if "://" in text:
        raise InvalidInput(f"{text} cannot be read: give s3://BUCKET/KEY or a local path")
    if not text:
        raise InvalidInput("the manifest's location is empty: give s3://BUCKET/KEY or a local path")
    return Location(None, str(Path(text).absolute()))


class Fingerprint(NamedTuple):
    """MD5 (hex) and size in bytes of a whole file."""

    md5: str
    size: int


class InventoryStore(Protocol):
    """Reads inventories. Every method may be repeated.

    Raises InvalidInput for what the user can mend (missing, forbidden) and RunBroken for the rest.
    """

    def read(self, location: Location, limit: int | None = None) -> bytes:
        """All bytes, or the first `limit`."""
        ...

    def fingerprint(self, location: Location) -> Fingerprint:
        """MD5 and size of all bytes, read in constant memory."""
        ...

    def download(self, location: Location, path: Path) -> None:
        """All bytes into `path`, replaced if it exists."""
        ...

    def list_folders(self, location: Location) -> list[str]:
        """The names of the folders directly inside `location`, without slashes; [] where there are none."""
        ...

    def exists(self, location: Location) -> bool:
        """Whether a file stands there."""
        ...


class LocalInventoryStore:
    """Inventories on the local disk."""

    def read(self, location: Location, limit: int | None = None) -> bytes:
        """See InventoryStore."""
        try:
            with Path(location.key).open("rb") as file:
                return file.read(-1 if limit is None else limit)
        except OSError as error:
            raise _local_error(location, error) from error

    def fingerprint(self, location: Location) -> Fingerprint:
        """See InventoryStore."""
        digest = hashlib.md5(usedforsecurity=False)
        size = 0
        try:
            with Path(location.key).open("rb") as file:
                while chunk := file.read(CHUNK):
                    digest.update(chunk)
                    size += len(chunk)
        except OSError as error:
            raise _local_error(location, error) from error
        return Fingerprint(digest.hexdigest(), size)

    def download(self, location: Location, path: Path) -> None:
        """See InventoryStore."""
        try:
            shutil.copyfile(location.key, path)
        except OSError as error:
            if str(error.filename) == str(path) or error.errno == errno.ENOSPC:
                raise RunBroken(f"{location} could not be copied to {path}: {error.strerror}") from error
            raise _local_error(location, error) from error

    def list_folders(self, location: Location) -> list[str]:
        """See InventoryStore."""
        try:
            return [entry.name for entry in Path(location.key).iterdir() if entry.is_dir()]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise _local_error(location, error) from error

    def exists(self, location: Location) -> bool:
        """See InventoryStore."""
        return Path(location.key).is_file()


def _local_error(location: Location, error: OSError) -> InvalidInput | RunBroken:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return InvalidInput(f"{location} does not exist: check the path")
    if isinstance(error, IsADirectoryError):
        return InvalidInput(f"{location} is a folder: give the path of a manifest, or FOLDER/latest")
    if isinstance(error, PermissionError):
        return InvalidInput(f"{location} may not be read by this user: check its permissions")
    return RunBroken(f"{location} could not be read: {error.strerror or error}")
