"""One HTTP/1.1 connection on the event loop's sockets: a request out, its answer in, one exchange at a time.

Bodies of a known length are received into the buffer they are hashed in and sent from.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from storage.http1 import MOST_HEAD_BYTES, ChunkedBody, Malformed, parse_head
from storage.tls_socket import Arriving
from storage.transport import Broken, Buffer, TransportError

_WHOLE_BYTES = 1024 * 1024
"""Bodies of known length up to this are received as a whole, whether or not anybody reads yet."""
_AHEAD_BYTES = 256 * 1024
"""What is kept of a body of unknown length before somebody reads it."""
_REST_BYTES = 256 * 1024
_FRAME_BYTES = 256
"""A shorter piece of a streamed upload waits for the next one."""
_UNSENT_BYTES = 256 * 1024
"""A streamed upload waits for the socket once this much is on its way to it."""
_HEAD_END = b"\r\n\r\n"


class Connection(asyncio.BufferedProtocol):
    """One connection; one exchange at a time. All its methods run on the loop."""

    __slots__ = (
        "_ahead",
        "_at",
        "_body",
        "_chunked",
        "_drained",
        "_failure",
        "_filling",
        "_loop",
        "_method",
        "_missing",
        "_partial",
        "_paused",
        "_position",
        "_reusable",
        "_scratch",
        "_sent_all",
        "_socket",
        "_start",
        "_unsent",
        "_waiter",
        "_wanted",
        "answered",
        "deadline",
        "ended",
        "headers",
        "idle_s",
        "idle_since",
        "origin",
        "status",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, origin: str, scratch: Arriving, idle_s: float) -> None:
        self._loop = loop
        self._scratch = scratch
        self.origin = origin
        self.idle_s = idle_s
        self.idle_since = 0.0
        self.deadline: float | None = None
        self._socket: Any = None
        self._failure: TransportError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._unsent = 0
        self._reset("")
        self.ended = self._sent_all = True

    def _reset(self, method: str) -> None:
        self._method = method
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.answered = False
        self.ended = False
        self._reusable = True
        self._sent_all = False
        self._partial = b""
        self._body: bytearray | bytes | None = None
        self._filling: memoryview | None = None
        self._start = self._at = 0
        self._position = 0
        self._wanted = 0
        self._missing: int | None = None
        self._ahead = bytearray()
        self._chunked: ChunkedBody | None = None
        self._paused = False

    # what the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket = transport
        self._socket.set_write_buffer_limits(high=_UNSENT_BYTES)

    def connection_lost(self, error: Exception | None) -> None:
        self._socket = None
        self._reusable = False
        if error is None:
            self._end_of_stream()
        elif not self.ended or not self._sent_all:
            self._fail(Broken(type(error).__name__))

    def eof_received(self) -> bool:
        self._reusable = False
        self._end_of_stream()
        return False

    def pause_writing(self) -> None:
        self._drained = self._loop.create_future()

    def resume_writing(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    def get_buffer(self, hint: int) -> memoryview:
        filling = self._filling
        return self._scratch.view if filling is None else filling[self._at :]

    def buffer_updated(self, count: int) -> None:
        if self.deadline is not None:
            self.deadline = time.monotonic() + self.idle_s
        if self._filling is not None:
            self._at += count
            if self._at == len(self._filling):
                self._filled()
            return
        try:
            self._took(count)
        except Malformed as error:
            self._reusable = False
            self._fail(Broken(str(error)))

    # receiving

    def _took(self, count: int) -> None:
        """`count` bytes arrived in the scratch buffer, which is everybody's: what is kept is copied."""
        if self.ended:
            self.abort()
        elif not self.answered:
            if self._partial:
                self._took_head(self._partial + self._scratch.data[:count], -1)
            else:
                self._took_head(self._scratch.data, count)
        elif self._missing is None:
            self._took_open_end(self._scratch.view[:count])
        else:
            self._ahead += self._scratch.view[:count]
            self._arrived(count)

    def _took_head(self, raw: bytes | bytearray, count: int) -> None:
        """The first `count` bytes of `raw` (-1: all) are the answer from its beginning."""
        count = len(raw) if count < 0 else count
        end = raw.find(_HEAD_END, 0, count)
        if end < 0:
            if count > MOST_HEAD_BYTES:
                raise Malformed("the answer's head is too long")
            self._partial = bytes(raw[:count])
            return
        head = parse_head(raw[:end], self._method)
        rest = memoryview(raw)[end + len(_HEAD_END) : count]
        self._partial = b""
        if head.status < 200:
            # an interim answer; the one that counts follows
            if rest:
                self._took_head(bytes(rest), -1)
            return
        self.status, self.headers, self.answered = head.status, head.headers, True
        self._reusable = self._reusable and head.keeps_alive
        if head.length is None:
            self._chunked = ChunkedBody() if head.chunked else None
            self._reusable = self._reusable and head.chunked
            self._took_open_end(rest)
        else:
            self._begin_body(head.length, rest)
        self._wake()
        if not self._sent_all:
            # an upload that waits for the socket need not go on
            self.resume_writing()

    def _begin_body(self, length: int, rest: memoryview) -> None:
        if len(rest) > length:
            self._reusable = False
            rest = rest[:length]
        if len(rest) == length:
            self._body, self.ended = bytes(rest), True
        elif length <= _WHOLE_BYTES:
            self._body = bytearray(length)
            self._filling = memoryview(self._body)
            self._filling[: len(rest)] = rest
            self._at = len(rest)
        else:
            self._missing = length - len(rest)
            self._ahead += rest
            self._pause()

    def _took_open_end(self, data: memoryview) -> None:
        """Bytes of a body whose length is not known beforehand."""
        if self._chunked is None:
            self._ahead += data
        else:
            self._ahead += self._chunked.feed(data)
            if self._chunked.ended:
                self.ended = True
                self._reusable = self._reusable and not self._chunked.surplus
        if self.ended or len(self._ahead) >= self._wanted:
            self._wake()
            if not self.ended and len(self._ahead) >= _AHEAD_BYTES:
                self._pause()

    def _filled(self) -> None:
        self._filling = None
        if self._missing is None:
            self.ended = True
        else:
            self._arrived(self._at - self._start)
        self._wake()

    def _arrived(self, count: int) -> None:
        """`count` more bytes of a body of known length that is read in pieces."""
        self._missing = (self._missing or 0) - count
        self.ended = self._missing <= 0
        self._reusable = self._reusable and self._missing >= 0
        if not self.ended:
            self._pause()

    def _end_of_stream(self) -> None:
        open_end = self.answered and self._missing is None and self._body is None and self._chunked is None
        if open_end and not self.ended and self._failure is None:
            # a body without a length ends with its connection
            self.ended = True
            self._wake()
        elif not self.ended or not self._sent_all:
            self._fail(Broken("the connection was closed"))

    def _pause(self) -> None:
        if not self._paused and self._socket is not None:
            self._paused = True
            self._socket.pause_reading()

    def _resume(self) -> None:
        if self._paused and self._socket is not None:
            self._paused = False
            self._socket.resume_reading()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _fail(self, failure: TransportError) -> None:
        if self._failure is None:
            self._failure = failure
        self._wake()
        self.resume_writing()

    async def _wait(self) -> None:
        """Until `_wake`; the deadline moves on with every byte."""
        if self._failure is not None:
            raise self._failure
        self.deadline = time.monotonic() + self.idle_s
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self.deadline = self._waiter = None

    # what an exchange calls

    @property
    def usable(self) -> bool:
        """Whether another exchange may begin."""
        return self._reusable and self.ended and self._sent_all and self._failure is None and self._socket is not None

    @property
    def is_open(self) -> bool:
        return self._socket is not None

    def begin(self, method: str, head: bytes, body: Buffer | None) -> None:
        """Send a request, its body included unless that is streamed."""
        self._reset(method)
        if body is None:
            self._socket.write(head)
        else:
            self._socket.writelines((head, body))
        self._sent_all = True

    async def send(self, body: AsyncIterator[Buffer], length: int | None) -> None:
        """Send a streamed body. Ends early when the server answers before its end."""
        self._sent_all = False
        sent = 0
        frame: list[Buffer] = []
        try:
            async for piece in body:
                if self.answered or self._failure is not None:
                    break
                sent += len(piece)
                if length is not None and sent > length:
                    raise Broken("the body is longer than its Content-Length")
                frame.append(piece)
                if len(piece) < _FRAME_BYTES and sent != length:
                    # goes along with what it frames: a packet of its own would cost as much as a window
                    continue
                self._socket.writelines(frame)
                frame = []
                if self._drained is not None:
                    await self._room()
            else:
                if frame:
                    self._socket.writelines(frame)
                self._sent_all = length is None or sent == length
                if not self._sent_all and not self.answered and self._failure is None:
                    raise Broken(f"the body has {sent} bytes, its Content-Length says {length}")
        finally:
            close = getattr(body, "aclose", None)
            if close is not None:
                await close()
        if self._failure is not None and not self.answered:
            raise self._failure

    async def _room(self) -> None:
        """Until the socket takes more of an upload."""
        self.deadline = time.monotonic() + self.idle_s
        try:
            while self._drained is not None:
                await self._drained
        finally:
            self.deadline = None

    async def answer(self) -> None:
        """Wait for the head of the answer."""
        while not self.answered:
            await self._wait()
            if self._failure is not None and not self.answered:
                raise self._failure

    def expired(self, now: float) -> bool:
        """Whether nothing has moved for the idle time. What leaves the socket's buffer is progress too."""
        if self.deadline is None:
            return False
        unsent = self._socket.get_write_buffer_size() if self._socket is not None else 0
        if unsent != self._unsent:
            self._unsent = unsent
            self.deadline = now + self.idle_s
        return self.deadline < now

    def give_up(self) -> None:
        """The idle time is over."""
        self._reusable = False
        self._fail(Broken("nothing has moved in time"))
        self.abort()

    def let_go(self) -> None:
        """The exchange is over: its body is nobody's any more."""
        self._body = self._filling = None
        self._ahead = bytearray()

    def abort(self) -> None:
        """Close at once. May be called twice."""
        self._reusable = False
        if not self.ended and self._failure is None:
            self._failure = Broken("the request was given up")
        if self._socket is not None:
            self._socket.abort()

    def all_left_the_socket(self) -> bool:
        return self._socket is not None and self._socket.get_write_buffer_size() == 0

    # the reply

    async def read_all(self) -> Buffer:
        body = self._body
        if body is None:
            rest = bytearray()
            while (piece := await self.read(_REST_BYTES)) is not None:
                rest += piece
            return rest
        await self._whole()
        start, self._position = self._position, len(body)
        return body if start == 0 else memoryview(body)[start:]

    async def read(self, most: int) -> Buffer | None:
        if self._body is not None:
            await self._whole()
            start = self._position
            self._position = min(start + most, len(self._body))
            return memoryview(self._body)[start : self._position] if self._position > start else None
        return await (self._read_known(most) if self._missing is not None else self._read_open_end(most))

    async def _whole(self) -> None:
        while not self.ended:
            await self._wait()
            self._raise_if_cut()

    async def _read_known(self, most: int) -> Buffer | None:
        size = min(most, len(self._ahead) + max(0, self._missing or 0))
        if size == 0:
            return None
        if len(self._ahead) >= size:
            piece = self._ahead[:size]
            del self._ahead[:size]
            return piece
        piece = bytearray(size)
        self._start = self._at = len(self._ahead)
        piece[: self._at] = self._ahead
        self._ahead.clear()
        self._filling = memoryview(piece)
        self._resume()
        while self._filling is not None:
            await self._wait()
            if self._filling is not None:
                self._raise_if_cut()
        return piece

    async def _read_open_end(self, most: int) -> Buffer | None:
        self._wanted = most
        while len(self._ahead) < most and not self.ended:
            self._resume()
            await self._wait()
            if not self.ended:
                self._raise_if_cut()
        piece = self._ahead[:most]
        del self._ahead[:most]
        return piece or None

    def _raise_if_cut(self) -> None:
        if self._failure is not None and not self.ended:
            raise self._failure
