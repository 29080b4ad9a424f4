"""HTTP/1.1 in front of the embedded S3: one thread per connection, kept alive, bodies never whole in memory.

werkzeug's development server closes the connection after each response; here every body is read to its
end before the answer, so the connection can be used again.
"""

from __future__ import annotations

import io
import sys
import traceback
from http.server import ThreadingHTTPServer
from typing import Any, BinaryIO, cast
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

from moto.moto_server.werkzeug_app import MotoRequestHandler

from local.s3_blobs import Blob, BlobStore
from local.s3_body import Body, BodyRefused, ConnectionCut, take_body
from local.s3_moto import BODY, EmbeddedS3, S3Request

_DOCUMENTS = frozenset({"acl", "tagging", "retention", "legal-hold"})
"""Subresources of an object whose PUT carries a small XML document instead of a value."""

_BODILESS = frozenset({204, 304})


class Handler(MotoRequestHandler):
    """Answers the requests of one connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    rbufsize = 128 * 1024
    server_version = "s3ferry-embedded"
    _headers_buffer: list[bytes]
    server: S3HttpServer  # type: ignore[assignment]

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Requests are not logged: this is a server for demonstrations and tests."""

    def handle(self) -> None:
        try:
            super().handle()
        except (ConnectionError, ConnectionCut, TimeoutError):
            self.close_connection = True

    def run_wsgi(self) -> None:
        """One request, by any method (the name is the base class's)."""
        environ: dict[str, Any] = {}
        try:
            self._fill(environ)
            status, headers, content = EmbeddedS3.answer(S3Request(environ))
        except BodyRefused as refused:
            self.close_connection = True
            status, headers, content = 400, {"content-type": "application/xml"}, _error(refused)
        except ConnectionCut:
            raise
        except Exception:
            traceback.print_exc(file=sys.stderr)
            self.close_connection = True
            status, headers, content = 500, {}, b""
        finally:
            # The request refers to its environment and back: cleared here, a value goes when its object goes.
            environ.clear()
        self._answer(status, headers, content.encode() if isinstance(content, str) else content)

    def _fill(self, environ: dict[str, Any]) -> None:
        environ.update(self.make_environ())
        environ["wsgi.input"] = io.BytesIO()
        headers = {name.lower(): value for name, value in self.headers.items()}
        if not self._carries_value():
            environ[BODY] = self.rfile.read(int(headers.get("content-length") or 0))
            return
        body = take_body(headers, cast(BinaryIO, self.rfile), self.server.store)
        environ[BODY] = body
        environ["CONTENT_LENGTH"] = str(len(body.blob))
        _describe(environ, body)

    def _carries_value(self) -> bool:
        target = urlsplit(self.path)
        has_key = bool(target.path[1:].partition("/")[2])
        return (
            self.command == "PUT" and has_key and not _DOCUMENTS & parse_qs(target.query, keep_blank_values=True).keys()
        )

    def _answer(self, status: int, headers: dict[str, Any], content: bytes | Blob) -> None:
        self.send_response(status)
        sent = {name.lower(): value for name, value in headers.items()}
        if self.command != "HEAD" and status not in _BODILESS:
            sent["content-length"] = str(len(content))
        elif status in _BODILESS:
            sent.pop("content-length", None)
        else:
            sent.setdefault("content-length", "0")
        for name, value in sent.items():
            if name not in ("connection", "date", "server"):
                self.send_header(name, str(value))
        if self.close_connection:
            self.send_header("connection", "close")
        blocks = iter(()) if self.command == "HEAD" or status in _BODILESS else _blocks(content)
        self._send(blocks)

    def _send(self, blocks: Any) -> None:
        # The head travels with the first block: one segment for a small object.
        head = b"".join(self._headers_buffer) + b"\r\n"
        self._headers_buffer = []
        self.wfile.write(head + next(blocks, b""))
        for block in blocks:
            self.wfile.write(block)


def _blocks(content: bytes | Blob) -> Any:
    return iter(content) if isinstance(content, Blob) else iter((content,))


def _describe(environ: dict[str, Any], body: Body) -> None:
    """Tells moto what is known of a body that was decoded and checked already."""
    if environ.get("HTTP_X_AMZ_CONTENT_SHA256", "").startswith("STREAMING-"):
        environ["HTTP_X_AMZ_CONTENT_SHA256"] = "UNSIGNED-PAYLOAD"
    if body.algorithm:
        environ["HTTP_X_AMZ_SDK_CHECKSUM_ALGORITHM"] = body.algorithm.upper()
        environ[f"HTTP_X_AMZ_CHECKSUM_{body.algorithm.upper()}"] = body.checksum


def _error(refused: BodyRefused) -> bytes:
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{refused.code}</Code><Message>{escape(refused.message)}</Message></Error>"
    ).encode()


class S3HttpServer(ThreadingHTTPServer):
    """The server on `address`; raises OSError when the port is taken."""

    daemon_threads = True
    request_queue_size = 256
    allow_reuse_address = True
    # What werkzeug's handler asks of its server.
    ssl_context = None
    multithread = True
    multiprocess = False

    def __init__(self, address: tuple[str, int], store: BlobStore) -> None:
        self.store = store
        super().__init__(address, Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke is the client's affair; anything else was printed by the handler."""
