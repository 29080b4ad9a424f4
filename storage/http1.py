"""HTTP/1.1 messages as bytes: the head of a request, the head of an answer, the body of a chunked answer.

Pure functions and a decoder without I/O. Rules: RFC 9112. Header values are UTF-8 text, with surrogate
escapes for bytes that are not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

MOST_HEAD_BYTES = 64 * 1024
"""A longer head of an answer is taken for an error; S3's own limit for metadata is 8 KiB."""

_STATUS = re.compile(r"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: [^\r\n]*)?\Z")
_DIGITS = re.compile(r"[0-9]{1,18}\Z")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r\n")
_BLANKS = " \t"
"""All that may be taken off a value: other white space is content (RFC 9110, «Field Values»)."""
_LONGEST_CHUNK_LINE = 4 * 1024


class Malformed(Exception):
    """What arrived is no HTTP/1.1 answer."""


class Head(NamedTuple):
    """The head of an answer. `headers` has lower-case names, repeated ones joined by a comma.

    `length` is the body's in bytes; None where only a last chunk or the end of the connection tells.
    """

    status: int
    headers: dict[str, str]
    length: int | None
    chunked: bool
    keeps_alive: bool


def request_head(method: str, target: str, host: str, headers: Mapping[str, str], length: int | None) -> bytes:
    """A request's head. `target` is encoded; `length` adds a Content-Length unless `headers` has one.

    Raises ValueError where a line break in a value would begin another header.
    """
    fields = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if length is not None and "content-length" not in headers:
        fields += f"content-length: {length}\r\n"
    head = f"{method} {target} HTTP/1.1\r\nhost: {host}\r\n{fields}\r\n"
    breaks = len(headers) + 3 + (length is not None and "content-length" not in headers)
    if head.count("\n") != breaks or head.count("\r") != breaks:
        raise ValueError("a header of the request holds a line break")
    return head.encode("utf-8", "surrogateescape")


def parse_head(raw: bytes | bytearray, method: str) -> Head:
    """The head of an answer to `method`; `raw` goes up to the empty line, without it. Raises Malformed."""
    first, _, rest = raw.decode("utf-8", "surrogateescape").partition("\r\n")
    status_line = _STATUS.match(first)
    if status_line is None:
        raise Malformed("the answer does not begin with an HTTP/1.1 status line")
    if not rest.count("\r\n") == rest.count("\n") == rest.count("\r") or "\0" in rest:
        raise Malformed("the answer's head holds a line break or NUL within a line")
    headers = _fields(rest) if rest else {}
    status = int(status_line[2])
    length, chunked = _framing(method, status, headers)
    return Head(status, headers, length, chunked, _keeps_alive(status_line[1], headers))


def _fields(lines: str) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines.split("\r\n"):
        given, colon, value = line.partition(":")
        name = given.lower()
        if not colon or name.strip() != name:
            raise Malformed("the answer's head holds a line that is no header")
        if name in headers:
            headers[name] += f",{value.strip(_BLANKS)}"
        else:
            headers[name] = value.strip(_BLANKS)
    return headers


def _framing(method: str, status: int, headers: Mapping[str, str]) -> tuple[int | None, bool]:
    """Length of the body, and whether it is chunked (RFC 9112, «Message Body Length»)."""
    if method == "HEAD" or status in (204, 304) or status < 200:
        return 0, False
    if "transfer-encoding" in headers:
        if headers["transfer-encoding"].lower() != "chunked":
            raise Malformed("the answer's transfer encoding is not known")
        return None, True
    stated = headers.get("content-length")
    if stated is None:
        return None, False
    lengths = {part.strip() for part in stated.split(",")} if "," in stated else {stated}
    length = lengths.pop()
    if lengths or not _DIGITS.match(length):
        raise Malformed("the answer's Content-Length is no number")
    return int(length), False


def _keeps_alive(minor: str, headers: Mapping[str, str]) -> bool:
    connection = headers.get("connection")
    if connection is None:
        return minor == "1"
    options = {option.strip().lower() for option in connection.split(",")}
    return "close" not in options and (minor == "1" or "keep-alive" in options)


class ChunkedBody:
    """Takes the bytes of a chunked body as they arrive and gives its content. Raises Malformed."""

    def __init__(self) -> None:
        self.ended = False
        self.surplus = False
        """Bytes came after the end."""
        self._raw = bytearray()
        self._missing = 0
        self._in_trailer = False

    def feed(self, data: bytes | memoryview) -> bytes:
        """The content of what has arrived in full lines and chunks by now."""
        self._raw += data
        content = bytearray()
        while self._step(content):
            pass
        return bytes(content)

    def _step(self, content: bytearray) -> bool:
        raw = self._raw
        if self.ended:
            self.surplus = self.surplus or bool(raw)
            return False
        if self._in_trailer:
            return self._trailer_line()
        if self._missing > 2:
            piece = raw[: self._missing - 2]
            content += piece
            del raw[: len(piece)]
            self._missing -= len(piece)
            if self._missing > 2:
                return False
        if self._missing:
            if len(raw) < 2:
                return False
            if raw[:2] != b"\r\n":
                raise Malformed("a chunk of the answer is longer than it says")
            del raw[:2]
            self._missing = 0
        line = _CHUNK.match(raw)
        if line is None:
            if b"\n" in raw or len(raw) > _LONGEST_CHUNK_LINE:
                raise Malformed("a chunk of the answer has no size")
            return False
        size = int(line[1], 16)
        del raw[: line.end()]
        self._in_trailer, self._missing = size == 0, size + 2 if size else 0
        return True

    def _trailer_line(self) -> bool:
        end = self._raw.find(b"\r\n")
        if end < 0:
            if len(self._raw) > MOST_HEAD_BYTES:
                raise Malformed("the trailer of the answer is too long")
            return False
        self.ended = end == 0
        del self._raw[: end + 2]
        return True
