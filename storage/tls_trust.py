"""Whose certificates the TLS of Python's own `ssl` trusts."""

from __future__ import annotations

import os
import ssl

from model.errors import RunBroken


def trusted_context(ca_bundle: str | None) -> ssl.SSLContext:
    """What TLS trusts: `ca_bundle` where given, else what the system and botocore trust (AWS_CA_BUNDLE included).

    Raises RunBroken where the bundle cannot be read.
    """
    context = ssl.create_default_context()
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    bundle = ca_bundle or os.environ.get("AWS_CA_BUNDLE")
    if bundle is None:
        from botocore.httpsession import get_cert_path  # noqa: PLC0415 - a heavy import

        bundle = str(get_cert_path(True))
    try:
        context.load_verify_locations(bundle)
    except OSError as error:  # ssl.SSLError is one
        raise RunBroken(f"the certificates in {bundle} cannot be read: {error}") from None
    return context
