"""Digests of a body as it passes, and what a response says its digest should be."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

from model.status import SourceEvidence
from storage.transport import Buffer

MD5 = "md5"
SHA256 = "sha256"
SHA1 = "sha1"
CRC64NVME = "crc64nvme"
CRC32C = "crc32c"
CRC32 = "crc32"

_STORED = (CRC64NVME, SHA256, CRC32C, CRC32, SHA1)
"""Stored checksums we can recompute, cheapest first given that CRC64NVME and SHA-256 are computed anyway."""

_STORED_HEADERS = tuple((name, f"x-amz-checksum-{name}") for name in _STORED)

_HASHES: dict[str, Callable[[], Any]] = {
    MD5: partial(hashlib.md5, usedforsecurity=False),
    SHA256: hashlib.sha256,
    SHA1: partial(hashlib.sha1, usedforsecurity=False),
}
_CRC_BYTES = {CRC64NVME: 8, CRC32C: 4, CRC32: 4}
_HEX_MD5_LENGTH = 32


class Digests:
    """Several digests of one stream of bytes, updated together. Not shared between tasks."""

    __slots__ = ("_crcs", "_hashes", "_texts", "length")

    def __init__(self, names: frozenset[str]) -> None:
        self.length = 0
        self._hashes: dict[str, Any] = {name: _HASHES[name]() for name in names if name in _HASHES}
        self._crcs: dict[str, int] = {name: 0 for name in names if name in _CRC_BYTES}
        self._texts: dict[str, str] = {}

    def update(self, data: Buffer) -> None:
        self.length += len(data)
        self._texts.clear()
        for running in self._hashes.values():
            running.update(data)
        if self._crcs:
            from awscrt import checksums  # noqa: PLC0415 - a heavy import

            for name, value in self._crcs.items():
                self._crcs[name] = getattr(checksums, name)(data, value)

    def raw(self, name: str) -> bytes | None:
        """The digest's bytes, None where it was not asked for."""
        if name in self._crcs:
            return self._crcs[name].to_bytes(_CRC_BYTES[name], "big")
        return self._hashes[name].digest() if name in self._hashes else None

    def hex(self, name: str) -> str | None:
        return self._text(name, "hex", bytes.hex)

    def base64(self, name: str) -> str | None:
        return self._text(name, "base64", _base64)

    def _text(self, name: str, form: str, written: Callable[[bytes], str]) -> str | None:
        """Made once: each digest is compared, sent and recorded."""
        text = self._texts.get(name + form)
        if text is None and (raw := self.raw(name)) is not None:
            text = self._texts[name + form] = written(raw)
        return text


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def written(digests: Digests) -> dict[str, str]:
    """Those of the digests the ledger has a column for, as it writes them."""
    texts = {name: digests.hex(name) for name in (MD5, SHA256)}
    texts |= {name: digests.base64(name) for name in (CRC64NVME, CRC32C)}
    return {name: text for name, text in texts.items() if text is not None}


class Expected(NamedTuple):
    """What the source itself says of its bytes: the digest to compare with, and as what evidence."""

    evidence: SourceEvidence
    algorithm: str | None = None
    value: str | None = None
    """Hex for an MD5 ETag, base64 for a stored checksum."""

    def agrees(self, digests: Digests) -> bool:
        if self.algorithm is None:
            return True
        found = digests.hex(MD5) if self.evidence is SourceEvidence.ETAG_MD5 else digests.base64(self.algorithm)
        return found == self.value


NOTHING_EXPECTED = Expected(SourceEvidence.NONE)
"""Before anything was read."""


def expected_of(headers: Mapping[str, str], *, etag_is_md5: bool) -> Expected:
    """What the headers of a whole-object GET or HEAD promise.

    An ETag is an MD5 when it looks like one and the response shows no KMS or customer key («ETag» in the API
    reference of Object).
    """
    for name, value in _stated(headers):
        return Expected(SourceEvidence.STORED_CHECKSUM, name, value)
    if etag_is_md5 and is_md5_etag(headers):
        return Expected(SourceEvidence.ETAG_MD5, MD5, headers["etag"].strip('"'))
    return Expected(SourceEvidence.LENGTH)


def stored_checksums(headers: Mapping[str, str]) -> dict[str, str]:
    """The checksums that headers state of a full object, base64, by name, the best first.

    S3 user guide, «Checking object integrity»: composite ones end in -n, and are of parts.
    """
    return dict(_stated(headers))


def _stated(headers: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    if headers.get("x-amz-checksum-type", "FULL_OBJECT") == "FULL_OBJECT":
        for name, header in _STORED_HEADERS:
            value = headers.get(header)
            if value and "-" not in value:
                yield name, value


def etag_of(headers: Mapping[str, str]) -> str:
    """The ETag of a response without its quotes; empty where there is none."""
    return headers.get("etag", "").strip('"')


def is_md5_etag(headers: Mapping[str, str]) -> bool:
    """Whether the response shows that its ETag is the MD5 of the body."""
    etag = etag_of(headers)
    return len(etag) == _HEX_MD5_LENGTH and "-" not in etag and etag_shows_md5(headers)


def etag_shows_md5(headers: Mapping[str, str]) -> bool:
    """Whether ETags of objects encrypted like this one are made of MD5s («ETag» in the API reference of Object)."""
    encryption = headers.get("x-amz-server-side-encryption", "")
    return "kms" not in encryption and "x-amz-server-side-encryption-customer-algorithm" not in headers


def multipart_etag(part_etags: list[str]) -> str:
    """The ETag S3 gives a multipart object whose parts' ETags are MD5s: hex(md5(md5s))-n."""
    joined = b"".join(bytes.fromhex(etag) for etag in part_etags)
    return f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{len(part_etags)}"


def combine_crc64nvme(parts: list[tuple[str, int]]) -> str:
    """The CRC64NVME of a whole object, base64, from (base64 CRC, length in bytes) of its parts in order."""
    return _combined(CRC64NVME, parts)


def combine_crc32c(parts: list[tuple[str, int]]) -> str:
    """The CRC32C of a whole object, as `combine_crc64nvme` makes its CRC64NVME."""
    return _combined(CRC32C, parts)


def _combined(name: str, parts: list[tuple[str, int]]) -> str:
    from awscrt import checksums  # noqa: PLC0415 - a heavy import

    combine, whole = getattr(checksums, f"combine_{name}"), 0
    for value, length in parts:
        whole = combine(whole, int.from_bytes(base64.b64decode(value), "big"), length)
    return base64.b64encode(whole.to_bytes(_CRC_BYTES[name], "big")).decode()
