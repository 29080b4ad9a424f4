"""Inventory files on the local disk: downloaded once per machine, whole and proven before anyone reads them."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from model.errors import RunBroken
from storage.inventory.errors import CorruptInventoryFile
from storage.inventory.location import CHUNK, InventoryStore
from storage.inventory.manifest import ManifestFile

SUFFIXES = (".csv.gz", ".gz", ".csv", ".parquet", ".orc")


def spool(store: InventoryStore, file: ManifestFile, directory: Path) -> Path:
    """The local copy of `file` in `directory` (made if needed, for this user only), downloaded if not there yet.

    Size and MD5 are verified before the copy gets its name, so a path returned is a proven file; without a
    usable MD5 in the manifest only the size is. Safe for any number of processes at once: one downloads, the
    others wait for it. May be repeated.

    Raises CorruptInventoryFile, what the store raises, and RunBroken when the disk cannot take it.
    """
    path = spooled_path(file, directory)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _lock(path):
            if not _is_ours(path, file):
                _download(store, file, path)
    except OSError as error:
        raise RunBroken(f"{file.location} cannot be spooled in {directory}: {error.strerror or error}") from error
    return path


def discard(file: ManifestFile, directory: Path) -> None:
    """Removes the local copy of `file`, if there is one. May be repeated; a reader that has it open is not hurt."""
    if not directory.is_dir():
        return
    path = spooled_path(file, directory)
    with _lock(path):
        path.unlink(missing_ok=True)
        _partial(path).unlink(missing_ok=True)
        _lock_file(path).unlink()


def spooled_path(file: ManifestFile, directory: Path) -> Path:
    """Where the local copy stands: a name derived from location, size and MD5, with the file's own suffix."""
    identity = f"{file.location}\0{file.size}\0{file.md5}"
    suffix = next((known for known in SUFFIXES if file.location.name.endswith(known)), "")
    return directory / f"inventory-{hashlib.sha256(identity.encode()).hexdigest()[:32]}{suffix}"


def _download(store: InventoryStore, file: ManifestFile, path: Path) -> None:
    partial = _partial(path)
    try:
        store.download(file.location, partial)
        _verify(file, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _verify(file: ManifestFile, path: Path) -> None:
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        raise CorruptInventoryFile(
            f"inventory file {file.file_number} ({file.location}) has {size} bytes, the manifest says {file.size}: "
            "fetch it again or take another inventory"
        )
    if file.md5 is None:
        return
    with path.open("rb") as opened:
        digest = hashlib.md5(usedforsecurity=False)
        while chunk := opened.read(CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != file.md5:
        raise CorruptInventoryFile(
            f"inventory file {file.file_number} ({file.location}) has MD5 {digest.hexdigest()}, the manifest says "
            f"{file.md5}: fetch it again or take another inventory"
        )


def _is_ours(path: Path, file: ManifestFile) -> bool:
    """Whether this user put a whole copy there (a shared temporary folder may hold someone else's file)."""
    try:
        found = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    return found.st_uid == os.getuid() and (file.size is None or found.st_size == file.size)


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _lock_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Held by one process or thread at a time; the system frees it when its holder dies."""
    while True:
        with _lock_file(path).open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if _is_current(handle.fileno(), _lock_file(path)):
                yield
                return


def _is_current(handle: int, path: Path) -> bool:
    """Whether `path` still is the file we hold: `discard` may have removed it while we waited."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
