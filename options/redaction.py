"""Keeps secrets out of what people read: error lines, logs, runner arguments. Pure functions.

Secrets have no business in options at all; this is for the day one is pasted into the wrong place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

MASK = "***"
SHOWN_CHARACTERS = 120
SHORTEST_SECRET = 8
"""Shorter values from the environment are not masked: they would blot out ordinary words."""

# Access key ids: IAM user guide, «IAM identifiers», unique ID prefixes AKIA and ASIA.
_ACCESS_KEY_ID = re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b")
_USER_INFO = re.compile(r"(?<=://)[^/\s]*@")
_LABELLED = re.compile(
    r"(?i)((?:secret|password|passwd|pwd|token|api_?key|access_?key|signature|credential)\w*[\"']?\s*(?:=\s*[\"']?|:\s*[\"']))"
    r"[^\s&\"',;]+"
)
_DSN_PASSWORD = re.compile(r"://[^:@/]*:(.+)@|\bpassword\s*=\s*'?([^'\s]+)")
_SECRET_LENGTH = re.compile(r"[A-Za-z0-9/+]{40}")
_SECRET_NAME = re.compile(r"(?i)secret|passw|token|credential|api_?key|access_?key|private_?key")


def looks_secret(text: str) -> bool:
    """Whether `text` seems to hold a credential: an access key id, a password in a URL, a secret key."""
    if _ACCESS_KEY_ID.search(text) or _USER_INFO.search(text) or _LABELLED.search(text):
        return True
    mixed = any(c.isupper() for c in text) and any(c.islower() for c in text) and any(c.isdigit() for c in text)
    return mixed and _SECRET_LENGTH.fullmatch(text.strip().lstrip("-")) is not None


def names_secret(name: str) -> bool:
    """Whether an option of this name would carry a secret."""
    return _SECRET_NAME.search(name) is not None


def shown(value: str) -> str:
    """`value` quoted for an error line: escaped, cut to a readable length, or withheld if it looks secret."""
    if looks_secret(value):
        return "the value (not shown: it looks like a secret)"
    return ascii(value) if len(value) <= SHOWN_CHARACTERS else ascii(value[:SHOWN_CHARACTERS] + "...")


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` with every one of `secrets`, passwords in URLs, labelled secrets and access key ids masked."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, MASK)
    text = _USER_INFO.sub(f"{MASK}@", text)
    text = _LABELLED.sub(rf"\g<1>{MASK}", text)
    return _ACCESS_KEY_ID.sub(MASK, text)


def redactor(environ: Mapping[str, str]) -> Callable[[str], str]:
    """A `redact` that also knows the secrets this process was given in its environment."""
    values = [value for name, value in environ.items() if names_secret(name) and not name.endswith(("_FILE", "_URI"))]
    match = _DSN_PASSWORD.search(environ.get("LEDGER_DSN", ""))
    if match is not None:
        values.append(match[1] or match[2])
    secrets = {value for value in values if len(value) >= SHORTEST_SECRET}
    return lambda text: redact(text, secrets)
