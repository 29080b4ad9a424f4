"""The tee and its framing, for all bodies, windows and ways a reply hands its bytes over."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import Mismatch, Transient
from storage.checksums import CRC64NVME, SHA256, Digests, combine_crc64nvme
from storage.pace import Pace
from storage.tee import framed, framed_length, framed_whole, tee
from storage.transport import Broken, Buffer

BODIES = st.binary(max_size=5_000)
WINDOWS = st.integers(1, 600)


class Body:
    """A reply of `data` that breaks off after `whole` bytes, if told so."""

    status = 200
    headers: Mapping[str, str] = {}

    def __init__(self, data: bytes, whole: int | None = None) -> None:
        self._data = data
        self._whole = whole
        self._at = 0

    async def read(self, most: int) -> Buffer | None:
        piece = self._data[self._at : self._at + most]
        self._at += len(piece)
        if self._whole is not None and self._at > self._whole:
            raise Broken("cut")
        return memoryview(piece) if piece else None

    async def read_all(self) -> Buffer:
        return self._data


def nothing() -> None:
    return None


async def collect(pieces: object) -> list[bytes]:
    return [bytes(piece) async for piece in pieces]  # type: ignore[attr-defined]


@given(BODIES, WINDOWS)
def test_the_tee_passes_every_byte_on_in_whole_windows_and_hashes_it(body: bytes, window: int) -> None:
    digests = Digests(frozenset({SHA256}))
    pieces = asyncio.run(collect(tee(Body(body), digests, window, nothing, Pace())))
    assert b"".join(pieces) == body
    assert all(len(piece) == window for piece in pieces[:-1])
    assert digests.raw(SHA256) == hashlib.sha256(body).digest()


@given(BODIES, WINDOWS)
def test_the_last_window_is_held_until_it_is_approved(body: bytes, window: int) -> None:
    digests, passed = Digests(frozenset({SHA256})), []

    def refuse() -> None:
        assert digests.length == len(body)
        raise Mismatch("no")

    async def main() -> None:
        async for piece in tee(Body(body), digests, window, refuse, Pace()):
            passed.append(bytes(piece))

    with pytest.raises(Mismatch):
        asyncio.run(main())
    held = len(body) - sum(map(len, passed))
    assert held > 0 or not body
    assert held <= window


@given(st.binary(min_size=1, max_size=5_000), WINDOWS, st.data())
def test_a_reply_that_breaks_off_is_the_sources_trouble(body: bytes, window: int, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(body) - 1))
    digests = Digests(frozenset({SHA256}))
    with pytest.raises(Transient, match="source"):
        asyncio.run(collect(tee(Body(body, cut), digests, window, nothing, Pace())))


@given(BODIES, WINDOWS)
def test_a_frame_is_as_long_as_announced_and_holds_the_body_and_its_crc(body: bytes, window: int) -> None:
    digests = Digests(frozenset({CRC64NVME}))
    wire = b"".join(asyncio.run(collect(framed(tee(Body(body), digests, window, nothing, Pace()), digests))))
    assert len(wire) == framed_length(len(body), window)
    found, trailer = unframed(wire)
    assert found == body
    assert trailer == f"x-amz-checksum-crc64nvme:{digests.base64(CRC64NVME)}".encode()


@given(BODIES)
def test_a_body_framed_whole_is_what_its_stream_of_one_window_would_be(body: bytes) -> None:
    digests = Digests(frozenset({CRC64NVME}))
    stream = framed(tee(Body(body), digests, 5_000, nothing, Pace()), digests)
    assert b"".join(asyncio.run(collect(stream))) == framed_whole(memoryview(body), digests)


def unframed(wire: bytes) -> tuple[bytes, bytes]:
    """Body and trailer, read as the aws-chunked format says."""
    body = b""
    while True:
        size, _, wire = wire.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            trailer, _, rest = wire.partition(b"\r\n")
            assert rest == b"\r\n"
            return body, trailer
        body += wire[:length]
        assert wire[length : length + 2] == b"\r\n"
        wire = wire[length + 2 :]


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=20))
def test_crcs_of_parts_combine_to_the_crc_of_the_whole(parts: list[bytes]) -> None:
    def crc(data: bytes) -> str:
        digests = Digests(frozenset({CRC64NVME}))
        digests.update(data)
        return digests.base64(CRC64NVME) or ""

    assert combine_crc64nvme([(crc(part), len(part)) for part in parts]) == crc(b"".join(parts))
