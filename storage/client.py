"""The data plane: signed GET, HEAD and PUT of objects and parts over a `Transport`."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from urllib.parse import SplitResult, quote, urlsplit
from xml.sax.saxutils import unescape

from model.errors import (
    OutcomeUnknown,
    Refused,
    S3ferryError,
    SourceChanged,
    Throttled,
    TransferError,
    Transient,
)
from storage.config import StoreConfig
from storage.errors import from_answer
from storage.limits import EndpointLimit
from storage.signing import EMPTY_SHA256, Signer
from storage.transport import Broken, Buffer, HeadersUnreadable, NotSent, Reply, Transport

_OK = frozenset({200, 206})
CHANGING = frozenset({"PUT", "POST", "DELETE"})
_ERROR_BODY_BYTES = 64 * 1024
_DOT_SEGMENTS = frozenset({".", ".."})
_Wire = tuple[str, str, Mapping[str, str], Buffer | AsyncIterator[Buffer] | None]
"""Method, URL, signed headers and body: what a transport sends."""
_RESERVED = re.compile(r"[^A-Za-z0-9/\-_.~]+")
_UPLOAD_ID = re.compile(rb"<UploadId>(.+?)</UploadId>")


def needs_care(key: str) -> bool:
    """Whether an URL parser may rewrite this key's path (RFC 3986 dot segments)."""
    return "." in key and not _DOT_SEGMENTS.isdisjoint(key.split("/"))


Permit = Callable[[], object]
"""Asked before every request that changes something and every piece of a streamed body; raises when it may not go."""


def always() -> None:
    """The permit of those who need none."""


class S3Client:
    """One endpoint for one event loop. `fast` carries nearly everything, `careful` the rest.

    Every method may be repeated. Errors come by meaning from `storage.errors`; a lost answer is
    Transient for reads and OutcomeUnknown for writes.
    """

    def __init__(
        self,
        store: StoreConfig,
        endpoint_url: str,
        signer: Signer,
        fast: Transport,
        careful: Transport,
        limit: EndpointLimit,
        permit: Permit = always,
    ) -> None:
        self.permit = permit
        self.side = store.side
        self.limit = limit
        self._signer = signer
        self.fast = fast
        self.careful = careful
        parts = urlsplit(endpoint_url)
        self._scheme = parts.scheme
        self._netloc = _netloc(parts)
        self._virtual = store.addressing == "virtual" or (store.addressing == "auto" and not store.endpoint_url)

    async def close(self) -> None:
        await self.fast.close()
        await self.careful.close()

    def get(
        self,
        bucket: str,
        key: str,
        *,
        etag: str | None = None,
        version: str | None = None,
        span: tuple[int, int] | None = None,
        checksum_mode: bool = True,
    ) -> AbstractAsyncContextManager[Reply]:
        """A GET pinned by `etag` (If-Match) and `version`; `span` is (offset, length) in bytes."""
        headers = _read_headers(etag, checksum_mode)
        if span:
            headers["range"] = f"bytes={span[0]}-{span[0] + span[1] - 1}"
        query = f"versionId={quote(version, safe='')}" if version else ""
        return self._checked("GET", bucket, key, query, headers)

    async def head(
        self, bucket: str, key: str, *, etag: str | None = None, version: str | None = None, checksum_mode: bool = True
    ) -> Mapping[str, str]:
        """The headers of an object."""
        query = f"versionId={quote(version, safe='')}" if version else ""
        try:
            async with self._checked("HEAD", bucket, key, query, _read_headers(etag, checksum_mode)) as reply:
                return reply.headers
        except (Transient, SourceChanged):
            raise
        except TransferError:
            # a refused HEAD has no body: only a GET tells a missing key from a missing bucket or a wrong secret
            async with self.get(bucket, key, etag=etag, version=version, checksum_mode=checksum_mode) as reply:
                return reply.headers

    async def head_part(
        self, bucket: str, key: str, number: int, *, etag: str, version: str | None = None
    ) -> Mapping[str, str]:
        """The headers of part `number` of a multipart object. Refused where the server knows no part numbers."""
        query = f"partNumber={number}" + (f"&versionId={quote(version, safe='')}" if version else "")
        async with self._checked("HEAD", bucket, key, query, _read_headers(etag, checksum_mode=False)) as reply:
            return reply.headers

    async def put(
        self,
        bucket: str,
        key: str,
        body: Buffer | AsyncIterator[Buffer],
        *,
        length: int,
        payload: str,
        headers: Mapping[str, str],
        query: str = "",
    ) -> Mapping[str, str]:
        """A PUT of `length` bytes on the wire; `payload` as in `Signer.sign`. Returns the answer's headers.

        A yes to a streamed body that was not handed over whole is an unknown outcome, whoever said it.
        """
        handed = _Handed(body, self.permit) if isinstance(body, AsyncIterator) else None
        async with self._checked("PUT", bucket, key, query, headers, handed or body, length, payload) as reply:
            await reply.read_all()
            if handed is not None and handed.bytes < length:
                raise OutcomeUnknown(
                    f"{self.side}: PUT {bucket}/{key}: answered after {handed.bytes} of {length} bytes of the body"
                )
            return reply.headers

    async def create_upload(self, bucket: str, key: str, headers: Mapping[str, str]) -> str:
        """Create a multipart upload whose object will have `headers`; returns its id.

        Raises OutcomeUnknown where its answer is lost: repeated blindly it leaves an upload without parts behind.
        """
        async with self._checked("POST", bucket, key, "uploads=", headers, b"", 0) as reply:
            found = _UPLOAD_ID.search(bytes(await reply.read_all()))
        if found is None:
            raise OutcomeUnknown(f"{self.side}: POST {bucket}/{key}?uploads: the answer names no upload")
        return unescape(found[1].decode())

    def _checked(
        self,
        method: str,
        bucket: str,
        key: str,
        query: str,
        headers: Mapping[str, str],
        body: Buffer | AsyncIterator[Buffer] | None = None,
        length: int | None = None,
        payload: str = EMPTY_SHA256,
    ) -> _Request:
        host, target = self._address(bucket, key, query)
        what = f"{method} {bucket}/{key}" + (f"?{query}" if query else "")
        try:
            signed = self._signer.sign(method, target, host, headers, payload)
        except UnicodeEncodeError:
            raise Refused(f"{self.side}: {what}: the object's metadata is not valid UTF-8") from None
        if isinstance(body, AsyncIterator):
            signed["content-length"] = str(length)
        careful = needs_care(key) or not "".join(signed.values()).isascii()
        url = f"{self._scheme}://{host}{target}"
        return _Request(self, method, what, careful, (method, url, signed, body))

    def _address(self, bucket: str, key: str, query: str) -> tuple[str, str]:
        path = _RESERVED.sub(_quoted, key)
        virtual = self._virtual and (self._scheme == "http" or "." not in bucket)
        host, target = (f"{bucket}.{self._netloc}", f"/{path}") if virtual else (self._netloc, f"/{bucket}/{path}")
        return host, f"{target}?{query}" if query else target


class _Handed:
    """A streamed body that counts what the transport has taken of it, and ends when it may not go on."""

    __slots__ = ("_body", "_permit", "bytes")

    def __init__(self, body: AsyncIterator[Buffer], permit: Permit) -> None:
        self._body = body
        self._permit = permit
        self.bytes = 0

    def __aiter__(self) -> _Handed:
        return self

    async def __anext__(self) -> Buffer:
        piece = await anext(self._body)
        self._permit()
        self.bytes += len(piece)
        return piece

    async def aclose(self) -> None:
        if isinstance(self._body, AsyncGenerator):
            await self._body.aclose()


class _Request:
    """One request under way: its reply when the server said yes, an error by meaning when it did not."""

    __slots__ = ("_careful", "_client", "_exchange", "_method", "_what", "_wire")

    def __init__(self, client: S3Client, method: str, what: str, careful: bool, wire: _Wire) -> None:
        self._client = client
        self._method = method
        self._what = what
        self._careful = careful
        self._wire = wire
        self._exchange: AbstractAsyncContextManager[Reply] = (client.careful if careful else client.fast).open(*wire)

    async def __aenter__(self) -> Reply:
        if self._method in CHANGING:
            self._client.permit()
        try:
            try:
                reply = await self._exchange.__aenter__()
            except HeadersUnreadable:
                if self._careful or self._method in CHANGING:
                    raise Broken("the answer's headers cannot be read") from None
                self._exchange = self._client.careful.open(*self._wire)
                reply = await self._exchange.__aenter__()
            if reply.status in _OK:
                return reply
            raise await self._refusal(reply)
        except (NotSent, Broken) as error:
            raise self._lost(error) from None
        except ValueError as error:
            raise Refused(f"{self._client.side}: {self._what}: {error}") from None

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._exchange.__aexit__(kind, error, trace)
        if isinstance(error, NotSent | Broken):
            raise self._lost(error) from None
        if error is None:
            self._client.limit.served()

    async def _refusal(self, reply: Reply) -> S3ferryError:
        try:
            answer = bytes(await reply.read(_ERROR_BODY_BYTES) or b"")
        finally:
            await self._exchange.__aexit__(None, None, None)
        refusal = from_answer(reply.status, answer, side=self._client.side, what=self._what)
        if isinstance(refusal, Throttled):
            self._client.limit.throttled()
        return refusal

    def _lost(self, error: NotSent | Broken) -> TransferError:
        unknown = isinstance(error, Broken) and self._method in CHANGING
        lost = (OutcomeUnknown if unknown else Transient)(f"{self._client.side}: {self._what}: {error}")
        lost.no_effect = isinstance(error, NotSent)
        return lost


def _quoted(found: re.Match[str]) -> str:
    return quote(found[0], safe="")


def part_query(number: int, upload_id: str) -> str:
    """The query of UploadPart. Upload ids are opaque and may hold any character."""
    return f"partNumber={number}&uploadId={quote(upload_id, safe='')}"


def _netloc(url: SplitResult) -> str:
    """Host and port as they will stand in the Host header, which is signed: lower case, no default port."""
    host = url.hostname or ""
    host = f"[{host}]" if ":" in host else host
    default = {"http": 80, "https": 443}.get(url.scheme)
    return host if url.port in (None, default) else f"{host}:{url.port}"


def _read_headers(etag: str | None, checksum_mode: bool) -> dict[str, str]:
    headers = {}
    if etag:
        headers["if-match"] = f'"{etag}"'
    if checksum_mode:
        headers["x-amz-checksum-mode"] = "ENABLED"
    return headers
