"""The one mapping from what S3 answers to errors by meaning."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from model import errors as meanings
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
from storage.errors import from_answer, from_client_error, map_boto


def answer(status: int, code: str, side: str = "source") -> S3ferryError:
    body = f"<Error><Code>{code}</Code><Message>why</Message></Error>".encode() if code else b""
    return from_answer(status, body, side=side, what="GET b/k")


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "NoSuchKey", SourceGone),
        (404, "NoSuchVersion", SourceGone),
        (405, "MethodNotAllowed", SourceGone),
        (404, "NoSuchBucket", RunBroken),
        (404, "NoSuchUpload", UploadGone),
        (412, "PreconditionFailed", SourceChanged),
        (403, "AccessDenied", AccessDenied),
        (403, "InvalidObjectState", Archived),
        (403, "SignatureDoesNotMatch", RunBroken),
        (403, "InvalidAccessKeyId", RunBroken),
        (400, "ExpiredToken", RunBroken),
        (503, "SlowDown", Throttled),
        (503, "ServiceUnavailable", Throttled),
        (429, "TooManyRequests", Throttled),
        (500, "InternalError", Transient),
        (501, "NotImplemented", Refused),
        (400, "RequestTimeout", Transient),
        (400, "BadDigest", Mismatch),
        (400, "XAmzContentSHA256Mismatch", Mismatch),
        (400, "InvalidPart", Mismatch),
        (400, "EntityTooLarge", Refused),
        (400, "SomethingNew", Refused),
        (404, "", Refused),
        (412, "", SourceChanged),
        (403, "", AccessDenied),
        (503, "", Throttled),
        (502, "", Transient),
        (501, "", Refused),
        (599, "", Transient),
        (418, "", Refused),
        (301, "PermanentRedirect", RunBroken),
    ],
)
def test_the_code_decides_and_else_the_status(status: int, code: str, kind: type[S3ferryError]) -> None:
    assert type(answer(status, code)) is kind


@pytest.mark.parametrize(
    ("status", "code"), [(405, "MethodNotAllowed"), (412, "PreconditionFailed"), (403, "InvalidObjectState"), (404, "")]
)
def test_what_the_destination_answers_says_nothing_of_the_source(status: int, code: str) -> None:
    assert type(answer(status, code, "destination")) is Refused


def test_a_key_the_destination_does_not_have_is_gone_there() -> None:
    assert type(answer(404, "NoSuchKey", "destination")) is DestinationGone


def test_the_line_names_side_request_status_code_and_message() -> None:
    assert str(answer(403, "AccessDenied")) == "source: GET b/k: 403 AccessDenied (why)"


def test_a_message_is_one_line_and_not_endless() -> None:
    body = f"<Error><Code>AccessDenied</Code><Message>a\n  b{'x' * 9999}</Message></Error>".encode()
    message = str(from_answer(403, body, side="source", what="GET b/k"))
    assert "\n" not in message
    assert len(message) < 300


def test_a_404_of_something_that_is_no_s3_server_is_not_a_missing_object() -> None:
    assert type(from_answer(404, b"<html>nginx</html>", side="source", what="GET b/k")) is Refused


def test_an_answer_that_is_no_xml_goes_by_its_status() -> None:
    assert type(from_answer(503, b"\xff\x00<html>", side="source", what="GET b/k")) is Throttled


def client_error(status: int, code: str) -> Any:
    from botocore.exceptions import ClientError

    return ClientError(
        {"Error": {"Code": code, "Message": "why"}, "ResponseMetadata": {"HTTPStatusCode": status}}, "Op"
    )


def test_errors_of_boto3_mean_the_same() -> None:
    assert type(from_client_error(client_error(404, "NoSuchUpload"), side="destination", what="x")) is UploadGone
    assert type(from_client_error(client_error(404, "NoSuchKey"), side="source", what="x")) is SourceGone
    assert type(from_client_error(client_error(503, "503"), side="source", what="x")) is Throttled


class TestMapBoto:
    def raised(self, error: Exception, **options: Any) -> S3ferryError:
        def call() -> None:
            raise error

        with pytest.raises(S3ferryError) as failure:
            map_boto(call, side="destination", what="Op b/k", **options)
        return failure.value

    def test_what_the_call_gives_comes_back(self) -> None:
        assert map_boto(lambda: 7, side="source", what="Op") == 7

    def test_a_refused_connection_is_transient(self) -> None:
        from botocore.exceptions import ConnectTimeoutError, EndpointConnectionError

        for error in (EndpointConnectionError(endpoint_url="u"), ConnectTimeoutError(endpoint_url="u")):
            assert type(self.raised(error, repeatable=False)) is Transient

    def test_a_lost_answer_is_unknown_where_the_call_may_not_be_repeated(self) -> None:
        from botocore.exceptions import ConnectionClosedError, ReadTimeoutError

        for error in (ReadTimeoutError(endpoint_url="u"), ConnectionClosedError(endpoint_url="u")):
            assert type(self.raised(error, repeatable=False)) is OutcomeUnknown
            assert type(self.raised(error)) is Transient

    def test_no_credentials_break_the_run(self) -> None:
        from botocore.exceptions import NoCredentialsError

        assert type(self.raised(NoCredentialsError())) is RunBroken

    def test_anything_else_of_boto3_is_refused(self) -> None:
        from botocore.exceptions import ParamValidationError

        assert type(self.raised(ParamValidationError(report="r"))) is Refused


ALL = [kind for kind in vars(meanings).values() if isinstance(kind, type) and issubclass(kind, S3ferryError)]


@pytest.mark.parametrize("kind", ALL)
def test_every_error_crosses_a_process_boundary_whole(kind: type[S3ferryError]) -> None:
    error = pickle.loads(pickle.dumps(kind("why: é")))
    assert (type(error), str(error), error.message) == (kind, "why: é", "why: é")


@pytest.mark.parametrize("kind", [kind for kind in ALL if issubclass(kind, TransferError)])
def test_only_what_may_be_sent_again_blindly_is_retryable(kind: type[TransferError]) -> None:
    assert kind.retryable is issubclass(kind, Transient)
