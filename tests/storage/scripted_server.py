"""An HTTP/1.1 server that does exactly what a test says, wrong things included, and remembers what it got."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

_HEAD_END = b"\r\n\r\n"


@dataclass
class Request:
    """One request as it stood on the wire. `connection` numbers the connections in the order they came."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    connection: int
    body: bytes = b""

    def header(self, name: str) -> str | None:
        """All values of one header, joined by a comma, or None."""
        values = [value for given, value in self.headers if given.lower() == name.lower()]
        return ",".join(values) if values else None


class Gone(Exception):
    """The client closed the connection."""


@dataclass
class Exchange:
    """One request and the means to answer it; the script is called once the head of the request is here."""

    request: Request
    _socket: socket.socket
    _buffer: bytearray
    open: bool = True

    def read_body(self) -> bytes:
        """The request's body by its Content-Length."""
        missing = int(self.request.header("content-length") or 0)
        body = bytearray()
        while len(body) < missing:
            body += self.read_some(missing - len(body))
        self.request.body += bytes(body)
        return self.request.body

    def read_some(self, most: int) -> bytes:
        """Between 1 and `most` bytes of the request's body."""
        if not self._buffer:
            self._buffer += _received(self._socket)
        piece = bytes(self._buffer[:most])
        del self._buffer[:most]
        return piece

    def send(self, data: bytes) -> None:
        """Raw bytes of an answer."""
        self._socket.sendall(data)

    def close(self) -> None:
        """End the connection after this exchange."""
        self.open = False

    def wait_for_client_to_leave(self) -> None:
        """Block until the client closes the connection; what it sends meanwhile is dropped."""
        while True:
            self.read_some(1 << 16)


Script = Callable[[Exchange], None]


def reply(status: int = 200, headers: dict[str, str] | None = None, body: bytes = b"") -> Script:
    """A plain answer, after the whole request was read."""

    def answer(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.send(response(status, headers, body, head=exchange.request.method == "HEAD"))

    return answer


def response(status: int, headers: dict[str, str] | None = None, body: bytes = b"", *, head: bool = False) -> bytes:
    """The bytes of an answer with its Content-Length (unless `headers` says otherwise)."""
    given = {name.lower() for name in headers or {}}
    lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in (headers or {}).items())]
    if "content-length" not in given and "transfer-encoding" not in given:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + _HEAD_END + (b"" if head else body)


@dataclass
class ScriptedServer:
    """`requests` is what arrived. `scripts` are used up in order; when they are, `fallback` answers."""

    url: str
    port: int
    requests: list[Request] = field(default_factory=list)
    scripts: list[Script] = field(default_factory=list)
    fallback: Script = field(default_factory=reply)
    connections: int = 0
    first_request: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def _next(self, request: Request) -> Script:
        with self._lock:
            self.requests.append(request)
            self.first_request.set()
            return self.scripts.pop(0) if self.scripts else self.fallback

    def serve(self, connected: socket.socket) -> None:
        with self._lock:
            number = self.connections
            self.connections += 1
        buffer = bytearray()
        with connected:
            try:
                while True:
                    exchange = Exchange(_read_head(connected, buffer, number), connected, buffer)
                    self._next(exchange.request)(exchange)
                    if not exchange.open:
                        return
            except (Gone, OSError):
                return


def _received(connected: socket.socket) -> bytes:
    data = connected.recv(1 << 16)
    if not data:
        raise Gone
    return data


def _read_head(connected: socket.socket, buffer: bytearray, connection: int) -> Request:
    while _HEAD_END not in buffer:
        buffer += _received(connected)
    raw, _, rest = bytes(buffer).partition(_HEAD_END)
    buffer[:] = rest
    first, *lines = raw.decode("utf-8", "surrogateescape").split("\r\n")
    method, target, _ = first.split(" ")
    headers = [(name, value.strip(" ")) for name, _, value in (line.partition(":") for line in lines)]
    return Request(method, target, headers, connection)


@contextmanager
def scripted_server(tls: ssl.SSLContext | None = None) -> Iterator[ScriptedServer]:
    """A running server on a free loopback port, with TLS if given; its threads end with their connections."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    port = listener.getsockname()[1]
    server = ScriptedServer(f"{'https' if tls else 'http'}://127.0.0.1:{port}", port)
    live: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                connected, _ = listener.accept()
            except OSError:
                return
            live.append(connected)
            threading.Thread(target=serve, args=(connected,), daemon=True).start()

    def serve(connected: socket.socket) -> None:
        try:
            server.serve(tls.wrap_socket(connected, server_side=True) if tls else connected)
        except OSError:
            return

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        yield server
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join(10)
        for connected in live:
            try:
                connected.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
