"""How the text of one flag becomes a value. Every reader raises ValueError «what is wrong; what to do»."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import urlsplit

from options.redaction import names_secret, shown
from options.sizes import format_size, parse_size

MAX_KEY_BYTES = 1024
"""The longest key, in UTF-8 (S3 user guide, «Naming Amazon S3 objects»)."""

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]", re.ASCII)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
_REGION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)
_ROLE_ARN = re.compile(r"arn:[a-z0-9-]+:iam::[0-9]*:role/\S+", re.ASCII)
_JOB = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}", re.ASCII)
_OPTION = re.compile(r"([A-Za-z][A-Za-z0-9_]*)=(.*)", re.ASCII | re.DOTALL)
_AGE = re.compile(r"([0-9]{1,9})([smhdSMHD])", re.ASCII)
_AGE_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_FAILURES = re.compile(r"([0-9]{1,18})|([0-9]{1,3}(?:\.[0-9]{1,6})?)%", re.ASCII)


class S3Url(NamedTuple):
    """Bucket and key of an s3:// URL; the key is what follows the first slash, as it is."""

    bucket: str
    key: str


class FailureLimit(NamedTuple):
    """`--max_failures`: a number of failed rows, or a percentage of the rows that ended."""

    rows: int | None
    percent: float | None

    def exceeded(self, failed: int, ended: int) -> bool:
        """Whether `failed` of `ended` rows are too many. A percentage is judged from 100 ended rows on."""
        if self.rows is not None:
            return failed > self.rows
        return self.percent is not None and ended >= 100 and failed * 100 > self.percent * ended


def whole(low: int, high: int) -> Callable[[str], int]:
    """A reader of whole numbers from `low` to `high`."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text, re.ASCII):
            raise ValueError(f"{shown(text)} is not a whole number; give {low} to {high}")
        number = int(text)
        if not low <= number <= high:
            raise ValueError(f"{number} is outside {low} to {high}; give a number in that range")
        return number

    return read


def number(low: float, high: float, zero: bool = False) -> Callable[[str], float]:
    """A reader of finite numbers from `low` to `high`; `zero` lets 0 through as well."""
    allowed = f"{'0 or ' if zero else ''}{low:g} to {high:g}"

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f"{shown(text)} is not a number; give {allowed}") from None
        if not math.isfinite(value) or not (low <= value <= high or (zero and value == 0)):
            raise ValueError(f"{shown(text)} is outside {allowed}; give a number in that range")
        return value

    return read


def size(low: int, high: int, zero: bool = False) -> Callable[[str], int]:
    """A reader of sizes from `low` to `high` bytes; `zero` lets 0 through as well."""
    allowed = f"{'0 or ' if zero else ''}{format_size(low)} to {format_size(high)}"

    def read(text: str) -> int:
        value = parse_size(text)
        if not (low <= value <= high or (zero and value == 0)):
            raise ValueError(f"{shown(text)} is outside {allowed}; give a size in that range")
        return value

    return read


def one_of(*words: str) -> Callable[[str], str]:
    """A reader of one of `words`, in any case."""
    spelled = {word.lower(): word for word in words}

    def read(text: str) -> str:
        word = spelled.get(text.lower())
        if word is None:
            raise ValueError(f"{shown(text)} is not known; give one of {', '.join(words)}")
        return word

    return read


def one_or_list(alone: str, *words: str) -> Callable[[str], str]:
    """A reader of the word `alone`, or of some of `words` with commas between, in any case.

    Gives a list back with commas, each word once and in the order of `words`.
    """
    remedy = f"give {alone}, or one or more of {', '.join(words)} with commas between"

    def read(text: str) -> str:
        given = [word.strip().lower() for word in text.split(",")]
        if given == [alone]:
            return alone
        for word in given:
            if word not in words:
                told = "stands alone" if word == alone else "is not known"
                raise ValueError(f"{shown(word)} {told}; {remedy}")
        return ",".join(word for word in words if word in given)

    return read


LARGEST_RUN = 2**63 - 1


def run_number(text: str) -> int:
    """A run's number in the ledger."""
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= LARGEST_RUN):
        raise ValueError(f"{shown(text)} is no run's number; give one number, like 12")
    return int(text)


def local_folder(text: str) -> str:
    """A folder of this machine. Given back as it is."""
    if text.startswith("s3:") or _SCHEME.match(text):
        raise ValueError(f"{shown(text)} is not a folder of this machine; give a local path and upload the files")
    return text_value(text)


def text_value(text: str) -> str:
    """Any text but an empty one or one with control characters."""
    if not text:
        raise ValueError("the value is empty; give one or leave the flag out")
    if any(ord(c) < 32 or ord(c) == 127 for c in text):
        raise ValueError("the value holds control characters; give plain text")
    return text


def region(text: str) -> str:
    """A region's name, like eu-central-1."""
    if not _REGION.fullmatch(text):
        raise ValueError(f"{shown(text)} is not a region's name; give one like eu-central-1")
    return text


def role_arn(text: str) -> str:
    """The ARN of an IAM role."""
    if not _ROLE_ARN.fullmatch(text):
        raise ValueError(f"{shown(text)} is not a role's ARN; give arn:aws:iam::<account>:role/<name>")
    return text


def job_name(text: str) -> str:
    """A job's name: it keys the ledger, so it is kept to what reads well in a query."""
    if not _JOB.fullmatch(text):
        raise ValueError(f"{shown(text)} is not a job's name; give up to 128 letters, digits and . _ : / -")
    return text


def endpoint_url(text: str) -> str:
    """An endpoint: http(s)://host[:port] and nothing else. A wrong URL is never repeated: it may hold a password."""
    remedy = "give http(s)://host[:port]"
    if any(c.isspace() or not c.isprintable() or c == "\\" for c in text):
        raise ValueError(f"the URL holds blanks, backslashes or control characters; {remedy}")
    try:
        url = urlsplit(text)
        port_is_bad = url.port == 0
    except ValueError:
        raise ValueError(f"the URL cannot be read; {remedy}") from None
    if "@" in url.netloc:
        raise ValueError(
            "credentials in a URL are refused; take them out, and set a profile or the AWS variables of that side"
        )
    if url.scheme not in ("http", "https"):
        raise ValueError(f"the URL is not http or https; {remedy}")
    if not url.hostname:
        raise ValueError(f"the URL names no host; {remedy}")
    if port_is_bad or url.netloc.endswith(":"):
        raise ValueError(f"the URL's port is missing or 0; {remedy}")
    if "?" in text or "#" in text:
        raise ValueError(f"the URL has a query or fragment; {remedy}")
    if url.path not in ("", "/"):
        raise ValueError(f"the URL has a path, which signed S3 requests cannot keep; {remedy}")
    return f"{url.scheme}://{url.netloc}"


def _s3_url(text: str) -> S3Url:
    if any(c == "\0" or 0xD800 <= ord(c) <= 0xDFFF for c in text):
        raise ValueError("the URL is not valid UTF-8 without NUL; give s3://bucket/key in plain text")
    bucket, _, key = text.removeprefix("s3://").partition("/")
    if not bucket:
        raise ValueError(f"{shown(text)} names no bucket; give s3://bucket/...")
    if not _BUCKET.fullmatch(bucket):
        raise ValueError(f"{shown(bucket)} is not a bucket's name; give 3 to 255 letters, digits and . _ -")
    if len(key.encode()) > MAX_KEY_BYTES:
        raise ValueError(f"the key is longer than {MAX_KEY_BYTES} bytes, S3's limit; give a shorter one")
    return S3Url(bucket, key)


def destination(text: str) -> S3Url:
    """Bucket and prefix of `s3://bucket[/prefix]`; the prefix is put before each key as it is."""
    if not text.startswith("s3://"):
        raise ValueError(f"{shown(text)} is not an s3:// URL; give s3://bucket/prefix")
    url = _s3_url(text)
    if len(url.key.encode()) >= MAX_KEY_BYTES:
        raise ValueError(f"the prefix leaves no room for a key within {MAX_KEY_BYTES} bytes; give a shorter one")
    return url


def manifest(text: str) -> str:
    """Where the manifest is: s3://bucket/key, or a path of this machine. Given back as it is."""
    if not text or "\0" in text:
        raise ValueError("the value is empty or holds NUL; give s3://bucket/.../manifest.json or a local path")
    if text.startswith("s3://"):
        if not _s3_url(text).key:
            raise ValueError(
                f"{shown(text)} names no key; give s3://bucket/.../manifest.json or s3://bucket/.../latest"
            )
    elif text.startswith("s3:") or _SCHEME.match(text):
        raise ValueError(
            f"{shown(text)} is neither s3:// nor a path; give s3://bucket/.../manifest.json or a local path"
        )
    return text


def age(text: str) -> float:
    """Seconds of an age like 7d, 12h, 30m or 90s."""
    match = _AGE.fullmatch(text)
    if match is None:
        raise ValueError(f"{shown(text)} is not an age; give a whole number with s, m, h or d, like 7d")
    return float(int(match[1]) * _AGE_UNITS[match[2].lower()])


def is_local(manifest_place: str) -> bool:
    """Whether a manifest is a path of this machine."""
    return not manifest_place.startswith("s3://")


def failure_limit(text: str) -> FailureLimit:
    """N failed rows, or P% of the rows that ended."""
    match = _FAILURES.fullmatch(text)
    if match is None or (match[2] and float(match[2]) > 100):
        raise ValueError(f"{shown(text)} is neither a number nor a percentage; give N (like 100) or P% (like 0.5%)")
    return FailureLimit(int(match[1]), None) if match[1] else FailureLimit(None, float(match[2]))


def max_failures(text: str) -> str:
    """`--max_failures` checked, given back as written (`failure_limit` reads it)."""
    failure_limit(text)
    return text


def runner_option(text: str) -> tuple[str, str]:
    """Name and value of one `name=value` for the runner."""
    match = _OPTION.fullmatch(text)
    if match is None:
        raise ValueError(f"{shown(text)} is not name=value; give for example --runner_option=max_bundle_size=1000")
    name, value = match.groups()
    if names_secret(name):
        raise ValueError(
            f"{name} would carry a secret, and runners print their options; set it in the cluster's own configuration"
        )
    return name, value
