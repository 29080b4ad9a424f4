"""Request bodies of the embedded S3: taken to a file block by block, hashed and checked on the way.

What is checked is what S3 checks: `Content-MD5`, `x-amz-content-sha256`, `x-amz-checksum-*` as a header
or as a trailer of an aws-chunked body, and the declared length (S3 API reference, «PutObject»; S3 user
guide, «Signature calculations: transferring payload in multiple chunks»).
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol

from awscrt import checksums

from local.s3_blobs import BLOCK, Blob, BlobStore, BlobWriter

_HEX_SHA256 = re.compile(r"[0-9a-f]{64}")
_STREAMING = "STREAMING-"
_CHECKSUM = "x-amz-checksum-"


class BodyRefused(Exception):
    """The body is not what the request says; `code` is S3's error code for it (HTTP 400)."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class ConnectionCut(Exception):
    """The client went away before its body was complete; there is nobody left to answer."""


class _Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def digest(self) -> bytes: ...


class _Crc:
    """A CRC with the interface of hashlib; S3 prints CRCs as big-endian base64."""

    def __init__(self, function: Callable[[bytes, int], int], width: int) -> None:
        self._function = function
        self._width = width
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = self._function(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._width, "big")


_ALGORITHMS: Mapping[str, Callable[[], _Digest]] = {
    "crc32": lambda: _Crc(zlib.crc32, 4),
    "crc32c": lambda: _Crc(checksums.crc32c, 4),
    "crc64nvme": lambda: _Crc(checksums.crc64nvme, 8),
    "sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "sha256": hashlib.sha256,
}


def checksum_of(algorithm: str, blocks: Iterator[bytes]) -> str:
    """Base64 of the S3 checksum `algorithm` (lower case) over `blocks`."""
    digest = _ALGORITHMS[algorithm]()
    for block in blocks:
        digest.update(block)
    return base64.b64encode(digest.digest()).decode()


class _Exact(io.RawIOBase):
    """Exactly `length` bytes of a connection."""

    def __init__(self, connection: BinaryIO, length: int) -> None:
        self._connection = connection
        self._left = length

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        wanted = min(len(buffer), self._left)
        if not wanted:
            return 0
        data = self._connection.read1(wanted)  # type: ignore[attr-defined]
        if not data:
            raise ConnectionCut
        buffer[: len(data)] = data
        self._left -= len(data)
        return len(data)


def _blocks(stream: io.BufferedIOBase, length: int | None = None) -> Iterator[bytes]:
    left = length
    while left is None or left:
        block = stream.read1(BLOCK if left is None else min(left, BLOCK))
        if not block:
            if left is None:
                return
            raise ConnectionCut
        if left is not None:
            left -= len(block)
        yield block


def _chunks(stream: io.BufferedIOBase, trailers: dict[str, str]) -> Iterator[bytes]:
    """Data of a chunked body: HTTP's own or aws-chunked (the same framing); fills `trailers` at its end."""
    while True:
        line = stream.readline(8192)
        try:
            length = int(line.split(b";")[0].strip(), 16)
        except ValueError:
            raise BodyRefused("IncompleteBody", "a chunk of the body does not begin with its length") from None
        if not length:
            break
        yield from _blocks(stream, length)
        if stream.readline(8192).strip():
            raise BodyRefused("IncompleteBody", "a chunk of the body is longer than its length")
    while line := stream.readline(8192).strip():
        name, _, value = line.decode("latin-1").partition(":")
        trailers[name.strip().lower()] = value.strip()


def _plain(headers: Mapping[str, str], connection: BinaryIO, trailers: dict[str, str]) -> Iterator[bytes]:
    """The object's bytes, freed of HTTP's and of S3's framing. Reads the connection to the body's end."""
    if "chunked" in headers.get("transfer-encoding", "").lower():
        outer: Iterator[bytes] = _chunks(connection, {})  # type: ignore[arg-type]
        body: io.BufferedIOBase = io.BufferedReader(_Joined(outer), BLOCK)
    else:
        body = io.BufferedReader(_Exact(connection, int(headers.get("content-length") or 0)), BLOCK)
    if headers.get("x-amz-content-sha256", "").startswith(_STREAMING):
        yield from _chunks(body, trailers)
    yield from _blocks(body)


class _Joined(io.RawIOBase):
    """A file over an iterator of blocks."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if not self._rest:
            self._rest = memoryview(next(self._blocks, b""))
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


@dataclass(frozen=True, slots=True)
class Body:
    """A body taken whole: its value, and the S3 checksum named by the request, if any, in base64."""

    blob: Blob
    algorithm: str | None = None
    checksum: str | None = None


@dataclass(slots=True)
class _Expected:
    """What the headers say about the body, and the digests needed to check it."""

    headers: Mapping[str, str]
    algorithm: str | None = None
    digests: dict[str, _Digest] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.algorithm = _algorithm(self.headers)
        self.digests["md5"] = hashlib.md5(usedforsecurity=False)
        if _HEX_SHA256.fullmatch(self.headers.get("x-amz-content-sha256", "")):
            self.digests["sha256"] = hashlib.sha256()
        if self.algorithm:
            self.digests.setdefault(self.algorithm, _ALGORITHMS[self.algorithm]())

    def update(self, block: bytes) -> None:
        for digest in self.digests.values():
            digest.update(block)

    def check(self, length: int, trailers: Mapping[str, str]) -> None:
        """Raises BodyRefused where the bytes are not the ones the request names."""
        decoded = self.headers.get("x-amz-decoded-content-length")
        if decoded is not None and int(decoded) != length:
            raise BodyRefused("IncompleteBody", "the body is not as long as x-amz-decoded-content-length says")
        md5 = self.headers.get("content-md5")
        if md5 is not None and md5 != self._base64("md5"):
            raise BodyRefused("BadDigest", "the Content-MD5 you specified did not match what we received")
        signed = self.headers.get("x-amz-content-sha256", "")
        if _HEX_SHA256.fullmatch(signed) and signed != self.digests["sha256"].digest().hex():
            raise BodyRefused("XAmzContentSHA256Mismatch", "the x-amz-content-sha256 does not match the body")
        if self.algorithm:
            name = _CHECKSUM + self.algorithm
            given = trailers.get(name) or self.headers.get(name)
            if given is not None and given != self._base64(self.algorithm):
                raise BodyRefused("BadDigest", f"the {name} you specified did not match the body")

    def _base64(self, name: str) -> str:
        return base64.b64encode(self.digests[name].digest()).decode()

    def body(self, writer: BlobWriter) -> Body:
        checksum = self._base64(self.algorithm) if self.algorithm else None
        return Body(writer.finish(self.digests["md5"].digest().hex()), self.algorithm, checksum)


def _algorithm(headers: Mapping[str, str]) -> str | None:
    """The additional checksum a request names: in a trailer, in a header, or to be computed here."""
    trailer = headers.get("x-amz-trailer", "").strip().lower()
    named = [trailer.removeprefix(_CHECKSUM), headers.get("x-amz-sdk-checksum-algorithm", "").lower()]
    named += [name for name in _ALGORITHMS if _CHECKSUM + name in headers]
    return next((name for name in named if name in _ALGORITHMS), None)


def take_body(headers: Mapping[str, str], connection: BinaryIO, store: BlobStore) -> Body:
    """Reads one request's body from `connection` into `store`; header names are lower case.

    The connection stands at the next request afterwards, also when the body is refused for its digests.
    Raises BodyRefused, and ConnectionCut when the client went away; nothing is left in the store then.
    """
    expected = _Expected(headers)
    trailers: dict[str, str] = {}
    writer = store.writer()
    length = 0
    try:
        for block in _plain(headers, connection, trailers):
            writer.write(block)
            expected.update(block)
            length += len(block)
        expected.check(length, trailers)
    except BaseException:
        writer.discard()
        raise
    return expected.body(writer)
