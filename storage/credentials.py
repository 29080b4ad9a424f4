"""Credentials of one side, from the environment, a profile or the AWS chain; never from options.

Precedence: a profile named for the side; `SOURCE_AWS_ACCESS_KEY_ID` and its kin (`DESTINATION_…`);
the usual AWS chain. A role, where one is named, is assumed with what was found.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from model.errors import RunBroken
from storage.config import StoreConfig

if TYPE_CHECKING:
    import botocore.session

DEFAULT_REGION = "us-east-1"


def make_session(store: StoreConfig, environ: Mapping[str, str] | None = None) -> botocore.session.Session:
    """A botocore session for one side. Raises RunBroken where a named profile does not exist."""
    import botocore.session  # noqa: PLC0415 - a heavy import
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415

    environ = os.environ if environ is None else environ
    session = botocore.session.Session(profile=store.profile)
    prefix = f"{store.side.upper()}_AWS_"
    access_key = environ.get(f"{prefix}ACCESS_KEY_ID")
    if access_key and not store.profile:
        session.set_credentials(
            access_key, environ.get(f"{prefix}SECRET_ACCESS_KEY", ""), environ.get(f"{prefix}SESSION_TOKEN")
        )
    try:
        if store.role_arn:
            _assume(session, store.role_arn)
        session.get_credentials()
    except BotoCoreError as error:
        raise RunBroken(f"no credentials for the {store.side}: {error}") from None
    return session


def region_of(store: StoreConfig, session: botocore.session.Session, environ: Mapping[str, str] | None = None) -> str:
    """The signing region: the flag, then `SOURCE_AWS_REGION`, then the chain's, then us-east-1."""
    environ = os.environ if environ is None else environ
    named = store.region or environ.get(f"{store.side.upper()}_AWS_REGION")
    return str(named or session.get_config_variable("region") or DEFAULT_REGION)


def static_principal(store: StoreConfig, session: botocore.session.Session) -> str | None:
    """A digest of the access key, which tells one lasting principal from another.

    None where there is no lasting one: of a role's or a session's credentials each process gets others.
    """
    from botocore.credentials import RefreshableCredentials  # noqa: PLC0415 - a heavy import

    credentials = session.get_credentials()
    if store.role_arn or credentials is None or isinstance(credentials, RefreshableCredentials) or credentials.token:
        return None
    return hashlib.sha256(credentials.access_key.encode()).hexdigest()[:16]


def _assume(session: botocore.session.Session, role_arn: str) -> None:
    from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials  # noqa: PLC0415

    fetcher: Any = AssumeRoleCredentialFetcher(
        client_creator=session.create_client,
        source_credentials=session.get_credentials(),
        role_arn=role_arn,
        extra_args={"RoleSessionName": "s3ferry"},
    )
    session._credentials = DeferredRefreshableCredentials(refresh_using=fetcher.fetch_credentials, method="assume-role")
