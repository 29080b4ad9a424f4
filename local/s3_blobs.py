"""Values of the embedded S3: byte strings kept in files, never whole in memory.

A `Blob` is a chain of spans of immutable files. Parts of a multipart upload are chained into an object
without copying them, and a range of an object is a span of the same files. A file is removed as soon as
nothing refers to it any more, unless the store has pinned it for the saved index.
"""

from __future__ import annotations

import hashlib
import uuid
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BLOCK = 256 * 1024
"""How much of a blob is read at once, in bytes."""


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


class BlobFile:
    """One immutable file. It is unlinked when the last reference goes, but never at interpreter exit."""

    __slots__ = ("__weakref__", "path", "size")

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.size = size
        weakref.finalize(self, _remove, path).atexit = False


@dataclass(frozen=True, slots=True)
class Span:
    """`length` bytes of `file` from `offset`."""

    file: BlobFile
    offset: int
    length: int


class Blob:
    """Bytes kept in files; has a length, slices to another blob, and iterates over blocks of bytes."""

    __slots__ = ("_length", "_md5", "spans")

    def __init__(self, spans: Iterable[Span] = (), md5: str | None = None) -> None:
        self.spans = tuple(span for span in spans if span.length)
        self._length = sum(span.length for span in self.spans)
        self._md5 = md5

    def __len__(self) -> int:
        return self._length

    def __bool__(self) -> bool:
        return self._length > 0

    def __getitem__(self, wanted: slice[Any, Any, Any]) -> Blob:
        start, stop, step = wanted.indices(self._length)
        if step != 1:
            raise ValueError("a blob is sliced in steps of one byte")
        spans = []
        position = 0
        for span in self.spans:
            first, last = max(start - position, 0), min(stop - position, span.length)
            if first < last:
                spans.append(Span(span.file, span.offset + first, last - first))
            position += span.length
        return Blob(spans)

    def __iter__(self) -> Iterator[bytes]:
        for span in self.spans:
            with span.file.path.open("rb", buffering=0) as stream:
                stream.seek(span.offset)
                left = span.length
                while left:
                    block = stream.read(min(left, BLOCK))
                    if not block:
                        raise OSError(f"{span.file.path} is shorter than the store recorded")
                    left -= len(block)
                    yield block

    def to_bytes(self) -> bytes:
        """The whole value; only for small ones."""
        return b"".join(self)

    def md5(self) -> str:
        """Lower-case hex MD5: as it was given, or read from the files."""
        if self._md5:
            return self._md5
        digest = hashlib.md5(usedforsecurity=False)
        for block in self:
            digest.update(block)
        return digest.hexdigest()


class BlobWriter:
    """Writes one new file; `finish` gives its blob, `discard` removes what was written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = 0
        self._stream = path.open("wb", buffering=0)

    def write(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            view = view[self._stream.write(view) :]
        self._size += len(data)

    def finish(self, md5: str | None = None) -> Blob:
        """The blob of all bytes written; `md5` is theirs, where it is known already."""
        self._stream.close()
        if not self._size:
            self._path.unlink()
            return Blob()
        return Blob([Span(BlobFile(self._path, self._size), 0, self._size)], md5)

    def discard(self) -> None:
        self._stream.close()
        self._path.unlink(missing_ok=True)


class BlobStore:
    """The folder that holds all files of blobs, two levels deep."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pinned: frozenset[BlobFile] = frozenset()
        for number in range(256):
            (folder / f"{number:02x}").mkdir(parents=True, exist_ok=True)

    def writer(self) -> BlobWriter:
        """A writer for a new file under a name never used before."""
        name = uuid.uuid4().hex
        return BlobWriter(self._folder / name[:2] / name)

    def put(self, value: bytes) -> Blob:
        """A blob of `value`."""
        writer = self.writer()
        writer.write(value)
        return writer.finish()

    def adopt(self, name: str, size: int) -> BlobFile:
        """The file stored as `name`. Raises ValueError when it is not there with exactly `size` bytes."""
        path = self._folder / name[:2] / Path(name).name
        try:
            actual = path.stat().st_size
        except FileNotFoundError:
            raise ValueError(f"the stored value {name} is missing") from None
        if actual != size:
            raise ValueError(f"the stored value {name} has {actual} bytes instead of {size}")
        return BlobFile(path, size)

    def pin(self, files: Iterable[BlobFile]) -> None:
        """Keeps `files` on disk whatever happens to their objects: a saved index refers to them."""
        self._pinned = frozenset(files)

    def sweep(self, keep: Iterable[BlobFile]) -> None:
        """Removes every file in the folder that is not in `keep`."""
        kept = {file.path.name for file in keep}
        for path in self._folder.glob("??/*"):
            if path.name not in kept:
                path.unlink()
