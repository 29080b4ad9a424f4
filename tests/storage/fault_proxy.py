"""A proxy in front of a real S3 server that does one thing wrong where it is told to, and counts what passes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_HEAD_END = b"\r\n\r\n"
_SLOW_DOWN = b'<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>'

_DENIED = b'<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>Access Denied.</Message></Error>'


@dataclass
class Passing:
    """One request on its way through: `body` may be changed before it goes on, `answer` before it goes back."""

    method: str
    target: str
    head: bytes
    body: bytes
    answer: bytes = b""
    cut_after: int | None = None
    """How many bytes of the answer go back before the connection ends; None for all."""

    def header(self, name: str) -> str:
        """A header of the request, or ''."""
        return _header(self.head, name)

    def body_offset(self) -> int:
        """Where the body of the answer starts."""
        return self.answer.index(_HEAD_END) + len(_HEAD_END)


Fault = Callable[[Passing, Callable[[], None]], None]
"""Called with the request and `forward`, which sends it on and fills `answer`; calling it is up to the fault."""


def slow_down(passing: Passing, forward: Callable[[], None]) -> None:
    """503 SlowDown instead of an answer; the server never sees the request."""
    passing.answer = b"HTTP/1.1 503 Slow Down\r\nContent-Length: %d\r\n\r\n" % len(_SLOW_DOWN) + _SLOW_DOWN


def access_denied(passing: Passing, forward: Callable[[], None]) -> None:
    """403 AccessDenied instead of an answer."""
    passing.answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n" % len(_DENIED) + _DENIED


def no_content(passing: Passing, forward: Callable[[], None]) -> None:
    """204 instead of an answer; the server never sees the request."""
    passing.answer = b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"


def internal_error(passing: Passing, forward: Callable[[], None]) -> None:
    """500 without a body instead of an answer."""
    passing.answer = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"


def drop_before(passing: Passing, forward: Callable[[], None]) -> None:
    """The connection ends and the server never sees the request."""
    passing.cut_after = 0


def lose_answer(passing: Passing, forward: Callable[[], None]) -> None:
    """The server does what was asked, and its answer is lost."""
    forward()
    passing.cut_after = 0


def cut_body_after(size: int) -> Fault:
    """The answer's body breaks off after `size` bytes."""

    def cut(passing: Passing, forward: Callable[[], None]) -> None:
        forward()
        passing.cut_after = passing.body_offset() + size

    return cut


def flip_read_byte(at: int) -> Fault:
    """One byte of the answer's body is wrong; `at` counts from its start, or its end where negative."""

    def flip(passing: Passing, forward: Callable[[], None]) -> None:
        forward()
        start = passing.body_offset()
        passing.answer = passing.answer[:start] + _flipped(passing.answer[start:], at)

    return flip


def flip_sent_byte(at: int) -> Fault:
    """One byte of the request's body is wrong when it reaches the server."""

    def flip(passing: Passing, forward: Callable[[], None]) -> None:
        passing.body = _flipped(passing.body, at)
        forward()

    return flip


def pass_on(passing: Passing, forward: Callable[[], None]) -> None:
    """No fault at all."""
    forward()


@dataclass
class _Rule:
    method: str
    part: str
    fault: Fault
    times: int


@dataclass
class FaultProxy:
    """`url` stands for the server. `seen` holds (method, target) of every request, faulty or not."""

    url: str
    upstream: tuple[str, int]
    seen: list[tuple[str, str]] = field(default_factory=list)
    _rules: list[_Rule] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fail(self, method: str, part: str, fault: Fault, times: int = 1) -> None:
        """The next `times` requests of `method` whose target holds `part` meet `fault`; a `$` is the target's end."""
        self._rules.append(_Rule(method, part, fault, times))

    def count(self, method: str, part: str = "") -> int:
        """How many requests of `method` had a target that holds `part`."""
        return sum(got == method and part in target for got, target in self.seen)

    def serve(self, client: socket.socket) -> None:
        """Requests of one connection, one after another."""
        buffer = bytearray()
        with client:
            try:
                while self._one(client, buffer):
                    pass
            except OSError:
                return

    def _one(self, client: socket.socket, buffer: bytearray) -> bool:
        head = _read_until(client, buffer, _HEAD_END)
        if head is None:
            return False
        if _header(head, "expect"):
            client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = _read_exactly(client, buffer, int(_header(head, "content-length") or 0))
        if body is None:
            return False
        method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
        passing = Passing(method, target, head, body)

        def forward() -> None:
            passing.answer = self._forward(passing)

        self._fault(method, target)(passing, forward)
        answer = passing.answer if passing.cut_after is None else passing.answer[: passing.cut_after]
        client.sendall(answer)
        return passing.cut_after is None and b"\r\nconnection: close" not in passing.answer.lower().split(_HEAD_END)[0]

    def _fault(self, method: str, target: str) -> Fault:
        with self._lock:
            self.seen.append((method, target))
            for rule in self._rules:
                if rule.times and rule.method == method and rule.part in f"{target}$":
                    rule.times -= 1
                    return rule.fault
        return pass_on

    def _forward(self, passing: Passing) -> bytes:
        lines = passing.head.split(b"\r\n")
        kept = [line for line in lines if not line.lower().startswith((b"connection:", b"expect:"))]
        head = b"\r\n".join([*kept, b"Connection: close"]) + _HEAD_END
        answer = bytearray()
        with socket.create_connection(self.upstream, timeout=60) as server:
            server.sendall(head + passing.body)
            while data := server.recv(1 << 18):
                answer += data
        return bytes(answer)


def _flipped(body: bytes, at: int) -> bytes:
    changed = bytearray(body)
    changed[at] ^= 1
    return bytes(changed)


def _header(head: bytes, name: str) -> str:
    for line in head.decode("utf-8", "surrogateescape").split("\r\n")[1:]:
        given, _, value = line.partition(":")
        if given.lower() == name:
            return value.strip()
    return ""


def _read_until(client: socket.socket, buffer: bytearray, end: bytes) -> bytes | None:
    while end not in buffer:
        data = client.recv(1 << 18)
        if not data:
            return None
        buffer += data
    found, _, rest = bytes(buffer).partition(end)
    buffer[:] = rest
    return found


def _read_exactly(client: socket.socket, buffer: bytearray, size: int) -> bytes | None:
    while len(buffer) < size:
        data = client.recv(1 << 18)
        if not data:
            return None
        buffer += data
    body = bytes(buffer[:size])
    del buffer[:size]
    return body


@contextmanager
def fault_proxy(endpoint_url: str) -> Iterator[FaultProxy]:
    """A running proxy in front of `endpoint_url`."""
    parts = urlsplit(endpoint_url)
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    proxy = FaultProxy(f"http://127.0.0.1:{listener.getsockname()[1]}", (parts.hostname or "", parts.port or 80))

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=proxy.serve, args=(client,), daemon=True).start()

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        yield proxy
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join(10)
