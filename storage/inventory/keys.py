"""Keys in CSV files: the three ways writers encode them.

S3 user guide, «Amazon S3 Inventory list»: keys are URL-encoded in CSV files only. AWS writes the form style (space
is `+`, `+` is `%2B`), Batch Operations examples `%20`; writers that encode nothing exist too.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import quote_plus, unquote_to_bytes

_LONE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


def decode_percent(text: str) -> str:
    """The key `text` stands for, `%XX` being bytes of UTF-8. Raises ValueError with a reason for a person."""
    if "%" not in text:
        return text
    if _LONE_PERCENT.search(text):
        raise ValueError("key has a % that starts no %XX, so it is not URL-encoded (see --csv_key_encoding)")
    return decode_utf8(unquote_to_bytes(text.encode("utf-8", "surrogateescape")))


def decode_plus(text: str) -> str:
    """As `decode_percent`, and `+` is a space."""
    return decode_percent(text.replace("+", " "))


def decode_none(text: str) -> str:
    """The key as it stands."""
    return text


def decode_utf8(raw: bytes) -> str:
    """`raw` as strict UTF-8. Raises ValueError with a reason for a person."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"key is not UTF-8 at byte {error.start}") from None


def encode_key(key: str) -> str:
    """`key` as AWS writes it in a CSV inventory: form style, `/` kept. `decode_plus` gives it back."""
    return quote_plus(key, safe="/")


KEY_DECODERS: dict[str, Callable[[str], str]] = {
    "plus": decode_plus,
    "percent": decode_percent,
    "none": decode_none,
}
