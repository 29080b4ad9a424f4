"""From columns of raw values to rows: the checks every format shares.

Each check looks at a whole column at once and turns to single values only when something is odd, which is what
makes reading fast.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

from model.objects import BadRow, InventoryRow
from storage.inventory.columns import READ

MAX_KEY_BYTES = 1024
"""S3 user guide, «Naming Amazon S3 objects»."""

MAX_TEXT = 2000

Columns = dict[str, Sequence[Any]]
"""The columns of READ that the file has, by name; each as long as the batch. None and "" mean no value."""

Problems = dict[int, str]
"""Why a row of the batch is bad, by its index in the batch; the first reason found stands."""


@dataclass(slots=True)
class RawBatch:
    """`count` rows as a format's reader found them, numbered from `first_row`.

    `problems` are those it met itself; `texts` holds the text of a bad row where the values joined would not show it.
    """

    file_number: int
    first_row: int
    count: int
    columns: Columns = field(default_factory=dict)
    problems: Problems = field(default_factory=dict)
    texts: dict[int, str] = field(default_factory=dict)


def build_rows(batch: RawBatch) -> list[InventoryRow | BadRow]:
    """The rows of `batch`, each an InventoryRow, or a BadRow where its reader or a check here found it wanting."""
    columns, problems = batch.columns, batch.problems
    none = (None,) * batch.count
    checked = (
        _names(columns["bucket"], "bucket", problems, needed=True),
        _keys(columns["key"], problems),
        _texts(columns.get("version_id", none), "version id", problems),
        _flags(columns.get("is_latest", none), True, "is_latest", problems),
        _flags(columns.get("is_delete_marker", none), False, "is_delete_marker", problems),
        _sizes(columns.get("size", none), problems),
        _etags(columns.get("e_tag", none), problems),
        _names(columns.get("storage_class", none), "storage class", problems),
        _names(columns.get("intelligent_tiering_access_tier", none), "access tier", problems),
        _texts(columns.get("last_modified_date", none), "last modified date", problems),
    )
    numbers = range(batch.first_row, batch.first_row + batch.count)
    every = zip(repeat(batch.file_number), numbers, *checked, strict=False)
    rows: list[InventoryRow | BadRow] = list(map(InventoryRow._make, every))
    for index, reason in problems.items():
        text = batch.texts[index] if index in batch.texts else _joined(columns, index)
        rows[index] = BadRow(batch.file_number, batch.first_row + index, reason, printable(text))
    return rows


def printable(text: str) -> str:
    """`text`, shortened, without NUL and surrogates, which PostgreSQL would refuse."""
    clean = text[:MAX_TEXT].encode("utf-8", "backslashreplace").decode("utf-8")
    return clean.replace("\0", "\\x00")


def _joined(columns: Columns, index: int) -> str:
    values = (columns[name][index] for name in READ if name in columns)
    return ",".join("" if value is None else str(value) for value in values)


def _odd(text: str) -> str | None:
    """Why `text` cannot be stored or sent, if so."""
    if "\0" in text:
        return "has a NUL character"
    if text.isascii():
        return None
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "is not valid UTF-8"
    return None


def _is_plain(values: Iterable[str]) -> bool:
    joined = "".join(values)
    return joined.isascii() and "\0" not in joined


def _keys(keys: Sequence[Any], problems: Problems) -> Sequence[Any]:
    try:
        if max(map(len, map(str.encode, keys))) <= MAX_KEY_BYTES and all(keys) and "\0" not in "".join(keys):
            return keys
    except (TypeError, UnicodeEncodeError):
        pass
    for index, key in enumerate(keys):
        reason = _bad_key(key)
        if reason:
            problems.setdefault(index, reason)
    return keys


def _bad_key(key: str | None) -> str | None:
    if not key:
        return "key is empty"
    odd = _odd(key)
    if odd:
        return f"key {odd}"
    size = len(key.encode("utf-8"))
    return f"key has {size} bytes, S3 allows {MAX_KEY_BYTES}" if size > MAX_KEY_BYTES else None


def _names(values: Sequence[str | None], what: str, problems: Problems, needed: bool = False) -> Sequence[str | None]:
    """A column with few distinct values: each is checked once."""
    reasons: dict[str | None, str] = {}
    for value in set(values):
        odd = _odd(value) if value else ("is empty" if needed else None)
        if odd:
            reasons[value] = f"{what} {odd}"
    if reasons:
        for index, value in enumerate(values):
            if value in reasons:
                problems.setdefault(index, reasons[value])
    return [value or None for value in values] if "" in values else values


def _texts(values: Sequence[str | None], what: str, problems: Problems) -> Sequence[str | None]:
    """A column of free text; empty becomes None."""
    cleaned = [value or None for value in values]
    if not _is_plain(filter(None, cleaned)):
        for index, value in enumerate(cleaned):
            odd = _odd(value) if value else None
            if odd:
                problems.setdefault(index, f"{what} {odd}")
    return cleaned


def _etags(values: Sequence[str | None], problems: Problems) -> Sequence[str | None]:
    return _texts([value.strip('"') if value else None for value in values], "ETag", problems)


def _sizes(values: Sequence[Any], problems: Problems) -> Sequence[int | None]:
    """Whole numbers of bytes: integers, or their decimal digits."""
    kinds = set(map(type, values))
    if kinds == {str} and all(values):
        joined = "".join(values)
        if joined.isdecimal() and joined.isascii():
            return list(map(int, values))
    elif kinds <= {int, type(None)} and min(filter(None, values), default=0) >= 0:
        return values
    sizes: list[int | None] = []
    for index, value in enumerate(values):
        size = _size(value)
        if size is None and value not in (None, ""):
            problems.setdefault(index, f"size {str(value)[:40]!r} is not a whole number of bytes")
        sizes.append(size)
    return sizes


def _size(value: Any) -> int | None:
    if isinstance(value, str):
        return int(value) if value.isdecimal() and value.isascii() and len(value) < 20 else None
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    return None


_WORDS = {"true": True, "false": False, True: True, False: False}


def _flags(values: Sequence[Any], default: bool, what: str, problems: Problems) -> Sequence[bool]:
    meaning: dict[Any, bool] = {}
    for value in set(values):
        known = _WORDS.get(value.lower() if isinstance(value, str) else value)
        meaning[value] = default if known is None else known
        if known is None and value not in (None, ""):
            for index, found in enumerate(values):
                if found == value:
                    problems.setdefault(index, f"{what} {str(value)[:40]!r} is neither true nor false")
    return [meaning[value] for value in values]
