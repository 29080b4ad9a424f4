"""Signature Version 4 of data-plane requests, by awscrt (15 us a request against botocore's 70).

Rule: AWS «Signature Version 4 signing process»; S3 paths are encoded once and never normalised.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from model.errors import RunBroken

if TYPE_CHECKING:
    import botocore.session

UNSIGNED = "UNSIGNED-PAYLOAD"
UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

_REFRESH_EVERY_S = 10.0


class Signer:
    """Signs for one session and region. Credentials are looked at again every few seconds."""

    def __init__(self, session: botocore.session.Session, region: str, side: str) -> None:
        from awscrt import auth, http  # noqa: PLC0415 - a heavy import

        self._auth: Any = auth
        self._http: Any = http
        self._session = session
        self._region = region
        self._side = side
        self._provider: Any = None
        self._next_look = 0.0

    def sign(self, method: str, target: str, host: str, headers: Mapping[str, str], payload: str) -> dict[str, str]:
        """`headers` with date, payload hash, token and signature added.

        `target` is the encoded path with its query; `payload` the body's SHA-256 in hex or one of the
        constants above. Raises RunBroken where the side has no credentials.
        """
        request = self._http.HttpRequest(method, target, self._http.HttpHeaders([("host", host), *headers.items()]))
        config = self._auth.AwsSigningConfig(
            algorithm=self._auth.AwsSigningAlgorithm.V4,
            signature_type=self._auth.AwsSignatureType.HTTP_REQUEST_HEADERS,
            credentials_provider=self._credentials(),
            region=self._region,
            service="s3",
            date=datetime.now(UTC),
            use_double_uri_encode=False,
            should_normalize_uri_path=False,
            signed_body_value=payload,
            signed_body_header_type=self._auth.AwsSignedBodyHeaderType.X_AMZ_CONTENT_SHA_256,
        )
        self._auth.aws_sign_request(request, config).result()
        signed = dict(request.headers)
        del signed["host"]
        return signed

    def _credentials(self) -> Any:
        now = time.monotonic()
        if self._provider is None or now >= self._next_look:
            self._next_look = now + _REFRESH_EVERY_S
            credentials = self._session.get_credentials()
            if credentials is None:
                name = self._side.upper()
                raise RunBroken(
                    f"no credentials for the {self._side}: set {name}_AWS_ACCESS_KEY_ID and "
                    f"{name}_AWS_SECRET_ACCESS_KEY, --{self._side}_profile, or the usual AWS variables"
                )
            frozen = credentials.get_frozen_credentials()
            self._provider = self._auth.AwsCredentialsProvider.new_static(
                frozen.access_key, frozen.secret_key, frozen.token
            )
        return self._provider
