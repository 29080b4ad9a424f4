"""Digests against published vectors, and what a response promises of its body."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable
from itertools import pairwise

import pytest

from model.status import SourceEvidence
from storage.checksums import (
    CRC32,
    CRC32C,
    CRC64NVME,
    MD5,
    SHA1,
    SHA256,
    Digests,
    Expected,
    combine_crc32c,
    combine_crc64nvme,
    expected_of,
    is_md5_etag,
    multipart_etag,
)

CHECK = b"123456789"
"""The message of the «check» values in the catalogue of CRC algorithms."""

VECTORS = [
    (MD5, "25f9e794323b453885f5181f1b624d0b"),
    (SHA1, "f7c3bc1d808e04732adf679965ccc34ca7ae3441"),
    (SHA256, "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"),
    (CRC32, "cbf43926"),
    (CRC32C, "e3069283"),
    (CRC64NVME, "ae8b14860a799888"),
]


def base64_of(value: str) -> str:
    return base64.b64encode(bytes.fromhex(value)).decode()


@pytest.mark.parametrize(("name", "value"), VECTORS)
def test_published_check_values(name: str, value: str) -> None:
    digests = Digests(frozenset({name}))
    digests.update(CHECK)
    assert (digests.hex(name), digests.base64(name)) == (value, base64_of(value))


@pytest.mark.parametrize(("name", "value"), VECTORS)
def test_pieces_of_any_buffer_give_the_same(name: str, value: str) -> None:
    digests = Digests(frozenset({name}))
    for piece in (b"", memoryview(b"12345"), bytearray(b"67"), b"89"):
        digests.update(piece)
    assert (digests.hex(name), digests.length) == (value, 9)


def test_of_nothing() -> None:
    digests = Digests(frozenset({SHA256, CRC64NVME}))
    assert digests.hex(SHA256) == hashlib.sha256().hexdigest()
    assert digests.base64(CRC64NVME) == "AAAAAAAAAAA="


def test_what_was_not_asked_for_is_none() -> None:
    digests = Digests(frozenset({SHA256}))
    assert (digests.raw(MD5), digests.hex(MD5), digests.base64(CRC64NVME)) == (None, None, None)


@pytest.mark.parametrize(("name", "combine"), [(CRC64NVME, combine_crc64nvme), (CRC32C, combine_crc32c)])
def test_the_crc_of_a_whole_is_combined_from_its_parts(
    name: str, combine: Callable[[list[tuple[str, int]]], str]
) -> None:
    body = os.urandom(1_000_003)
    cuts = [0, 1, 300_000, 300_000, 999_999, len(body)]
    parts = []
    for start, stop in pairwise(cuts):
        part = Digests(frozenset({name}))
        part.update(body[start:stop])
        parts.append((part.base64(name) or "", stop - start))
    whole = Digests(frozenset({name}))
    whole.update(body)
    assert combine(parts) == whole.base64(name)


def test_the_etag_of_a_multipart_object_is_of_its_parts_md5s() -> None:
    parts = [hashlib.md5(part, usedforsecurity=False) for part in (b"a" * 10, b"b" * 5)]
    joined = hashlib.md5(b"".join(part.digest() for part in parts), usedforsecurity=False).hexdigest()
    assert multipart_etag([part.hexdigest() for part in parts]) == f"{joined}-2"


MD5_OF_CHECK = "25f9e794323b453885f5181f1b624d0b"


class TestExpected:
    def test_a_plain_etag_is_an_md5(self) -> None:
        expected = expected_of({"etag": f'"{MD5_OF_CHECK}"'}, etag_is_md5=True)
        assert expected == Expected(SourceEvidence.ETAG_MD5, MD5, MD5_OF_CHECK)
        digests = Digests(frozenset({MD5}))
        digests.update(CHECK)
        assert expected.agrees(digests)
        digests.update(b"0")
        assert not expected.agrees(digests)

    def test_sse_s3_keeps_the_etag_an_md5(self) -> None:
        assert is_md5_etag({"etag": f'"{MD5_OF_CHECK}"', "x-amz-server-side-encryption": "AES256"})

    @pytest.mark.parametrize(
        "headers",
        [
            {"etag": f'"{MD5_OF_CHECK}-3"'},
            {"etag": '"abc"'},
            {},
            {"etag": f'"{MD5_OF_CHECK}"', "x-amz-server-side-encryption": "aws:kms"},
            {"etag": f'"{MD5_OF_CHECK}"', "x-amz-server-side-encryption": "aws:kms:dsse"},
            {"etag": f'"{MD5_OF_CHECK}"', "x-amz-server-side-encryption-customer-algorithm": "AES256"},
        ],
    )
    def test_other_etags_are_not(self, headers: dict[str, str]) -> None:
        assert expected_of(headers, etag_is_md5=True) == Expected(SourceEvidence.LENGTH)

    def test_an_etag_declared_opaque_is_not(self) -> None:
        assert expected_of({"etag": f'"{MD5_OF_CHECK}"'}, etag_is_md5=False) == Expected(SourceEvidence.LENGTH)

    @pytest.mark.parametrize(("name", "value"), [vector for vector in VECTORS if vector[0] != MD5])
    def test_a_stored_checksum_is_better(self, name: str, value: str) -> None:
        headers = {"etag": f'"{MD5_OF_CHECK}"', f"x-amz-checksum-{name}": base64_of(value)}
        expected = expected_of(headers, etag_is_md5=True)
        assert (expected.evidence, expected.algorithm) == (SourceEvidence.STORED_CHECKSUM, name)
        digests = Digests(frozenset({name}))
        digests.update(CHECK)
        assert expected.agrees(digests)

    def test_one_that_is_computed_anyway_is_preferred(self) -> None:
        headers = {"x-amz-checksum-sha1": "a", "x-amz-checksum-crc64nvme": "b", "x-amz-checksum-crc32": "c"}
        assert expected_of(headers, etag_is_md5=True).algorithm == CRC64NVME

    @pytest.mark.parametrize(
        "headers",
        [
            {"x-amz-checksum-sha256": "abc=-4"},
            {"x-amz-checksum-sha256": "abc=", "x-amz-checksum-type": "COMPOSITE"},
            {"x-amz-checksum-xxhash3": "abc="},
        ],
    )
    def test_a_composite_or_unknown_checksum_says_nothing_of_the_whole(self, headers: dict[str, str]) -> None:
        assert expected_of(headers, etag_is_md5=True) == Expected(SourceEvidence.LENGTH)
