"""Our signatures are botocore's, byte for byte."""

from __future__ import annotations

import time
from typing import Any

import botocore.session
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import RunBroken
from storage.signing import UNSIGNED, Signer

HOST = "127.0.0.1:9000"
VALUES = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=40)


def a_session(token: str | None = None) -> Any:
    session = botocore.session.Session()
    session.set_credentials("access", "secret", token)
    return session


class _FixedPayload(S3SigV4Auth):
    def payload(self, request: AWSRequest) -> str:
        return UNSIGNED


def botocore_authorization(target: str, headers: dict[str, str], token: str | None) -> str:
    sent = {name: value for name, value in headers.items() if name != "authorization"}
    request = AWSRequest("PUT", f"http://{HOST}{target}", headers={**sent, "host": HOST})
    request.context["timestamp"] = headers["x-amz-date"]
    signer = _FixedPayload(ReadOnlyCredentials("access", "secret", token), "s3", "us-east-1")
    canonical = signer.canonical_request(request)
    signature = signer.signature(signer.string_to_sign(request, canonical), request)
    names = signer.signed_headers(signer.headers_to_sign(request))
    return f"AWS4-HMAC-SHA256 Credential={signer.scope(request)}, SignedHeaders={names}, Signature={signature}"


@settings(deadline=None)
@given(metadata=VALUES, token=st.none() | st.just("a-token"), key=st.sampled_from(["a%20b", "%2B//x", "%C3%BC"]))
def test_a_signature_is_the_one_botocore_makes(metadata: str, token: str | None, key: str) -> None:
    target = f"/bucket/{key}?partNumber=7&uploadId=a%2Fb%3D"
    headers = {"content-type": "text/plain; charset=utf-8", "x-amz-meta-a": metadata}

    signed = Signer(a_session(token), "us-east-1", "source").sign("PUT", target, HOST, headers, UNSIGNED)

    assert signed["authorization"] == botocore_authorization(target, signed, token)


def test_the_payload_and_the_time_of_signing_are_named() -> None:
    before = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    signed = Signer(a_session(), "us-east-1", "source").sign("GET", "/b/k", HOST, {}, "0" * 64)
    after = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())

    assert before <= signed["x-amz-date"] <= after
    assert signed["x-amz-content-sha256"] == "0" * 64


def test_credentials_that_change_are_taken_up(monkeypatch: pytest.MonkeyPatch) -> None:
    session = a_session()
    signer = Signer(session, "us-east-1", "source")
    signer.sign("GET", "/b/k", HOST, {}, UNSIGNED)
    session.set_credentials("fresh", "secret")
    later = time.monotonic() + 60
    monkeypatch.setattr("storage.signing.time.monotonic", lambda: later)
    monkeypatch.setattr("storage.signing.time.time", lambda: 1_800_000_000.0)

    assert "Credential=fresh/" in signer.sign("GET", "/b/k", HOST, {}, UNSIGNED)["authorization"]


def test_no_credentials_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    session = a_session()
    monkeypatch.setattr(session, "get_credentials", lambda: None)

    with pytest.raises(RunBroken, match="SOURCE_AWS_ACCESS_KEY_ID"):
        Signer(session, "us-east-1", "source").sign("GET", "/b/k", HOST, {}, UNSIGNED)
