"""The one mapping from what S3 answers to errors by meaning; both planes use it.

Codes: S3 API reference, «Error responses»; peers (MinIO, versitygw, Ceph, R2) use the same words.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from model.errors import (
    AccessDenied,
    Archived,
    DestinationGone,
    Mismatch,
    OutcomeUnknown,
    Refused,
    RunBroken,
    S3ferryError,
    SourceChanged,
    SourceGone,
    Throttled,
    TransferError,
    Transient,
    UploadGone,
)
from storage.config import COPY, SOURCE

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

_BY_CODE: dict[str, type[S3ferryError]] = {
    "NoSuchKey": SourceGone,
    "NoSuchVersion": SourceGone,
    "MethodNotAllowed": SourceGone,
    "NoSuchUpload": UploadGone,
    "PreconditionFailed": SourceChanged,
    "InvalidObjectState": Archived,
    "AccessDenied": AccessDenied,
    "AllAccessDisabled": AccessDenied,
    "SlowDown": Throttled,
    "SlowDownRead": Throttled,
    "SlowDownWrite": Throttled,
    "TooManyRequests": Throttled,
    "RequestLimitExceeded": Throttled,
    "BandwidthLimitExceeded": Throttled,
    "ServiceUnavailable": Throttled,
    "InternalError": Transient,
    "RequestTimeout": Transient,
    "RequestTimeTooSkewed": RunBroken,
    "NotImplemented": Refused,
    "OperationAborted": Transient,
    "ConditionalRequestConflict": Transient,
    "IncompleteBody": Transient,
    "ServerNotInitialized": Transient,
    "XMinioServerNotInitialized": Transient,
    "BadDigest": Mismatch,
    "InvalidPart": Mismatch,
    "InvalidDigest": Mismatch,
    "XAmzContentSHA256Mismatch": Mismatch,
    "XAmzContentChecksumMismatch": Mismatch,
    "ChecksumMismatch": Mismatch,
    "NoSuchBucket": RunBroken,
    "InvalidAccessKeyId": RunBroken,
    "SignatureDoesNotMatch": RunBroken,
    "AuthorizationHeaderMalformed": RunBroken,
    "InvalidToken": RunBroken,
    "ExpiredToken": RunBroken,
    "TokenRefreshRequired": RunBroken,
    "PermanentRedirect": RunBroken,
    "TemporaryRedirect": RunBroken,
    "IllegalLocationConstraintException": RunBroken,
    "QuotaExceeded": RunBroken,
    "XMinioStorageFull": RunBroken,
}

_BY_STATUS: dict[int, type[S3ferryError]] = {
    301: RunBroken,
    307: RunBroken,
    403: AccessDenied,
    408: Transient,
    409: Transient,
    412: SourceChanged,
    429: Throttled,
    500: Transient,
    501: Refused,
    502: Transient,
    503: Throttled,
    504: Transient,
}

_OF_THE_SOURCE = frozenset({SourceGone, SourceChanged, Archived})
"""Meanings only the source's answers have: they decide what is recorded of the source object."""

_NO_SUCH_OBJECT = frozenset({"NoSuchKey", "NoSuchVersion"})

_TAG = re.compile(rb"<(Code|Message|Region)>(.*?)</", re.DOTALL)


def meaning(status: int, code: str) -> type[S3ferryError]:
    """The error class of one answer; `code` may be empty (HEAD has no body)."""
    if code in _BY_CODE:
        return _BY_CODE[code]
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return Transient if status >= 500 else Refused


def from_answer(status: int, body: bytes, *, side: str, what: str) -> S3ferryError:
    """The error an answer with `status` and an XML `body` stands for. `what` names the request."""
    found = {name.decode(): value.decode(errors="replace") for name, value in _TAG.findall(body)}
    code = found.get("Code", "")
    return _error(meaning(status, code), status, code, found.get("Message", ""), side, what)


def from_client_error(error: ClientError, *, side: str, what: str) -> S3ferryError:
    """The same for an error boto3 raised."""
    detail = error.response.get("Error", {})
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code = str(detail.get("Code", ""))
    if code.isdigit():
        code = ""
    return _error(meaning(status, code), status, code, str(detail.get("Message", "")), side, what)


def _error(kind: type[S3ferryError], status: int, code: str, message: str, side: str, what: str) -> S3ferryError:
    said = f"{status} {code}".strip() + (f" ({' '.join(message.split())[:200]})" if message else "")
    if code == "NoSuchBucket":
        return RunBroken(f"{side}: the bucket does not exist: {what}: {said}")
    # MethodNotAllowed: a delete marker was asked for, but a copy may be what the server does not know
    not_of_source = side == COPY and code == "MethodNotAllowed"
    if kind in _OF_THE_SOURCE and (side not in (SOURCE, COPY) or not_of_source):
        kind = DestinationGone if code in _NO_SUCH_OBJECT and side != COPY else Refused
    if kind is RunBroken:
        return RunBroken(f"{side}: the endpoint refuses these credentials or this region at {what}: {said}")
    refusal = kind(f"{side}: {what}: {said}")
    if isinstance(refusal, TransferError):
        # a 503 without a code may be somebody's on the way, who had passed the request on
        refusal.no_effect = status < 500 or (isinstance(refusal, Throttled) and code != "")
    return refusal


_T = TypeVar("_T")


def map_boto(call: Callable[[], _T], *, side: str, what: str, repeatable: bool = True) -> _T:
    """`call()` of boto3 with its errors by meaning. Not `repeatable`: lost answers are OutcomeUnknown."""
    from botocore.exceptions import (  # noqa: PLC0415 - a heavy import
        BotoCoreError,
        ClientError,
        ConnectTimeoutError,
        EndpointConnectionError,
        HTTPClientError,
        NoCredentialsError,
    )

    try:
        return call()
    except ClientError as error:
        raise from_client_error(error, side=side, what=what) from None
    except (EndpointConnectionError, ConnectTimeoutError) as error:
        raise Transient(f"{side}: {what}: {type(error).__name__}") from None
    except HTTPClientError as error:
        lost = Transient if repeatable else OutcomeUnknown
        raise lost(f"{side}: {what}: {type(error).__name__}") from None
    except NoCredentialsError:
        raise RunBroken(f"{side}: no credentials for {what}") from None
    except BotoCoreError as error:
        raise Refused(f"{side}: {what}: {error}") from None
