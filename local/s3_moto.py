"""moto's S3 with values in files instead of memory.

moto keeps each value in a temporary file it reads whole for every GET and range, and joins parts in
memory. Its classes are looked up in `moto.s3.models` by name, so the two that hold bytes are replaced
there by `install`. Written against the moto version pinned in constraints.txt.
"""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Iterator
from functools import cached_property
from itertools import chain
from typing import Any, ClassVar

import moto.s3.models as s3_models
import moto.s3.responses as s3_responses
from moto.core.common_models import BaseModel
from moto.core.request import Request
from moto.s3.exceptions import EntityTooSmall, InvalidPart, MalformedXML, S3ClientError
from moto.s3.responses import S3Response
from moto.s3.utils import compute_checksum
from moto.settings import S3_UPLOAD_PART_MIN_SIZE

from local.s3_blobs import Blob, BlobStore
from local.s3_body import Body, checksum_of

REGION = "us-east-1"
ACCOUNT = "123456789012"
BODY = "s3ferry.body"
"""The key in the WSGI environment under which a request carries its body."""


class BodyMismatch(S3ClientError):
    """The whole object is not what the checksum of CompleteMultipartUpload says."""

    code = "BadDigest"

    def __init__(self, name: str) -> None:
        super().__init__("BadDigest", f"the {name} you specified did not match the object")


class S3Request(Request):
    """A request whose body was taken before: bytes for small documents, a `Body` for object values."""

    from_wsgi_server = True

    @property
    def data(self) -> Any:
        body = self.environ[BODY]
        return body.blob if isinstance(body, Body) else body

    @cached_property
    def raw_url(self) -> str:
        """moto asks for it three times a request."""
        return str(super().raw_url)


class StoredKey(s3_models.FakeKey):
    """An object version or a part; `value` is a `Blob` and is set once."""

    store: ClassVar[BlobStore]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._value_buffer.close()
        if self.checksum_value and not self.checksum_type:
            self.checksum_type = "FULL_OBJECT"

    @property
    def value(self) -> Any:
        return self._blob

    @value.setter
    def value(self, value: Blob | bytes) -> None:
        self._blob = value if isinstance(value, Blob) else self.store.put(value)
        self.contentsize = len(self._blob)

    @property
    def etag(self) -> str:
        if self._etag is None:
            self._etag = self._blob.md5()
        return f'"{self._etag}"'

    def __deepcopy__(self, memo: dict[int, Any]) -> StoredKey:
        twin: StoredKey = object.__new__(StoredKey)
        twin.__dict__.update(self.__dict__)
        return twin

    def dispose(self, garbage: bool = False) -> None:
        """Nothing to do: a file goes when the last blob that refers to it goes."""


class StoredMultipart(s3_models.FakeMultipart):
    """An upload whose parts are chained, not joined, when it is completed."""

    claimed: tuple[str, str] | None = None
    """(algorithm in lower case, base64) of the whole object as the client's Complete states it."""

    def complete(self, body: Iterator[tuple[int, str]]) -> Any:
        chosen: list[Any] = []
        for number, etag in body:
            part = self.parts.get(number)
            if part is None or part.etag.strip('"') != etag.strip('"'):
                raise InvalidPart
            if chosen and chosen[-1].contentsize < S3_UPLOAD_PART_MIN_SIZE:
                raise EntityTooSmall
            chosen.append(part)
        if not chosen:
            raise MalformedXML
        value = Blob(span for part in chosen for span in part.value.spans)
        digests = b"".join(bytes.fromhex(part.etag.strip('"')) for part in chosen)
        etag = f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(chosen)}"
        checksum = self._checksum([part.value for part in chosen])
        if self.claimed and self.claimed[1] != checksum_of(self.claimed[0], iter(value)):
            raise BodyMismatch(f"x-amz-checksum-{self.claimed[0]}")
        return value, etag, checksum

    def _checksum(self, parts: list[Blob]) -> tuple[str, str, int] | None:
        """(type, base64, parts) of the checksum named at Create; CRC64NVME is of the full object only."""
        algorithm = (self.metadata.get("x-amz-checksum-algorithm") or "").lower()
        if not algorithm:
            return None
        kind = self.metadata.get("x-amz-checksum-type") or ("FULL_OBJECT" if algorithm == "crc64nvme" else "COMPOSITE")
        if kind == "FULL_OBJECT":
            return kind, checksum_of(algorithm, chain.from_iterable(parts)), 1
        digests = (base64.b64decode(checksum_of(algorithm, iter(part))) for part in parts)
        return kind, checksum_of(algorithm, iter([b"".join(digests)])), len(parts)

    def dispose(self) -> None:
        """Nothing to do: a file goes when the last blob that refers to it goes."""


class EmbeddedS3(S3Response):
    """One request to moto's S3, path-style, without Flask's routing (which would rewrite `//` in keys)."""

    @classmethod
    def answer(cls, request: S3Request) -> tuple[int, dict[str, Any], Any]:
        """(status, headers, content): content is bytes, text or a `Blob`."""
        key = request.raw_path[1:].partition("/")[2]
        dispatch = cls.key_dispatch if key else cls.bucket_dispatch
        status, headers, content = dispatch(request, request.raw_url, dict(request.headers))
        if headers.get("x-amz-version-id") == "null":
            # moto names a version of unversioned objects in some answers; S3 does not.
            del headers["x-amz-version-id"]
        return status, headers, content

    @staticmethod
    def _enrich_response(headers: dict[str, str], body: Any) -> tuple[dict[str, str], Any]:
        """A request id, at a tenth of the time moto takes for one."""
        return {**headers, "x-amz-request-id": uuid.uuid4().hex[:16].upper()}, body

    @staticmethod
    def subdomain_based_buckets(request: Any) -> bool:
        return False

    def _key_response_post(self, request: Any, body: bytes, bucket_name: str, query: Any, key_name: str) -> Any:
        if upload_id := query.get("uploadId"):
            self._note_claim(bucket_name, upload_id[0])
        return super()._key_response_post(request, body, bucket_name, query, key_name)

    def _note_claim(self, bucket_name: str, upload_id: str) -> None:
        upload = self.backend.get_bucket(bucket_name).multiparts.get(upload_id)
        if not isinstance(upload, StoredMultipart):
            return
        kind = self.headers.get("x-amz-checksum-type", "")
        for algorithm in ("crc64nvme", "crc32", "crc32c"):
            value = self.headers.get(f"x-amz-checksum-{algorithm}")
            if value and (algorithm == "crc64nvme" or kind == "FULL_OBJECT"):
                upload.claimed = (algorithm, value)


def install(store: BlobStore) -> None:
    """Makes this process's moto keep values in `store`. Once per process, before the first request."""
    # moto remembers every model it ever made for its reset, so no value would ever be freed.
    BaseModel.__new__ = lambda cls, *_, **__: object.__new__(cls)  # type: ignore[method-assign]
    StoredKey.store = store
    s3_models.FakeKey = StoredKey  # type: ignore[misc]
    s3_models.FakeMultipart = StoredMultipart  # type: ignore[misc]
    s3_responses.compute_checksum = _checksum_of  # type: ignore[attr-defined]


def _checksum_of(body: Any, algorithm: str, encode_base64: bool = True) -> bytes:
    """What moto computes of a copy it made itself, whose value is in a file."""
    whole = b"".join(body) if isinstance(body, Blob) else body
    return compute_checksum(whole, algorithm, encode_base64)
