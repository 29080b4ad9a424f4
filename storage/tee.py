"""The tee: a body on its way from a GET to a PUT, hashed as it passes, in a fixed window.

Two windows are held: one under way and one held back. The last one is let go only when `approve`
has agreed that the bytes read are the source's, so that a bad read never replaces an object.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from model.errors import Transient
from storage.checksums import CRC64NVME, Digests
from storage.pace import Pace
from storage.transport import Broken, Buffer, Reply

_TRAILER = b"x-amz-checksum-crc64nvme:"
_CRC64_BASE64_LENGTH = 12


async def tee(
    reply: Reply, digests: Digests, window: int, approve: Callable[[], None], pace: Pace
) -> AsyncIterator[Buffer]:
    """The body of `reply` in pieces of exactly `window` bytes but for the last, hashed at `pace`.

    Raises Transient where the source breaks off: inside an upload it must not pass for the upload's own trouble.
    """
    held = await _read(reply, window)
    if held is None:
        approve()
    while held is not None:
        await pace.update(digests, held)
        following = await _read(reply, window)
        if following is None:
            approve()
        yield held
        held = following


async def _read(reply: Reply, window: int) -> Buffer | None:
    try:
        return await reply.read(window)
    except Broken as error:
        raise Transient(f"source: the body broke off: {error}") from None


async def framed(pieces: AsyncIterator[Buffer], digests: Digests) -> AsyncIterator[Buffer]:
    """`pieces` as aws-chunked with a trailing CRC64NVME of what passed.

    Format: S3 user guide, «Signature calculations: including trailing headers (chunked upload)», in its
    unsigned form. Content-Encoding is left out on purpose: some servers would store it.
    """
    before = b""
    async for piece in pieces:
        # apart from its frame, so that the window itself is what is sent
        yield before + b"%x\r\n" % len(piece)
        yield piece
        before = b"\r\n"
    yield before + _end(digests)


def framed_whole(body: Buffer, digests: Digests) -> bytes:
    """What `framed` would send of `body` in one window, in one piece."""
    chunk = (b"%x\r\n" % len(body), body, b"\r\n") if len(body) else ()
    return b"".join((*chunk, _end(digests)))


def trailer_headers(size: int) -> dict[str, str]:
    """The headers that go with `size` bytes so framed."""
    return {"x-amz-trailer": "x-amz-checksum-crc64nvme", "x-amz-decoded-content-length": str(size)}


def _end(digests: Digests) -> bytes:
    value = digests.base64(CRC64NVME) or ""
    return b"0\r\n" + _TRAILER + value.encode() + b"\r\n\r\n"


def framed_length(size: int, window: int) -> int:
    """The length on the wire of `size` bytes sent by `framed` in pieces of `window`."""
    whole, rest = divmod(size, window)
    length = whole * (len(b"%x" % window) + 4 + window)
    if rest:
        length += len(b"%x" % rest) + 4 + rest
    return length + len(b"0\r\n") + len(_TRAILER) + _CRC64_BASE64_LENGTH + len(b"\r\n\r\n")
