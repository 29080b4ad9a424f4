"""Records as rows of PostgreSQL's binary COPY, encoded once for all the tables they go to.

The format is that of the manual, «COPY», «Binary Format»: a row is the number of its columns, then for each its
length and value, and the length of NULL is -1. An enumeration's value is its label. Values are encoded column by
column, because most columns hold few different ones.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from struct import Struct
from struct import error as StructError
from typing import Any

import psycopg
from psycopg import sql

from ledger.connect import Connection
from ledger.rows import COLUMNS, TYPES, storable
from model.records import IntegrityRecord
from model.status import Status

_Encode = Callable[[Collection[Any]], Iterable[bytes]]

_CHUNK_ROWS = 250
"""Small enough that the server has a chunk to work on while the next one is encoded."""
_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
_NULL = b"\xff\xff\xff\xff"
_EPOCH_S = 946_684_800.0
"""2000-01-01 UTC, where PostgreSQL's timestamps begin."""
_FEW = 8
"""Rows for each different value from which a column is encoded value by value, not row by row."""

_COUNT = Struct("!h").pack
_SIZE = Struct("!i").pack
_INTEGER = Struct("!ii").pack
_BIGINT = Struct("!iq").pack


class _Sizes(dict[int, bytes]):
    """Lengths as they stand before values."""

    def __missing__(self, size: int) -> bytes:
        packed = self[size] = _SIZE(size)
        return packed


_sizes = _Sizes()
_values = attrgetter(*COLUMNS)


def encoded(records: Sequence[IntegrityRecord]) -> Iterator[list[bytes]]:
    """The COLUMNS of `records`, in order and a chunk at a time, as the rows that `copy_in` takes.

    Raises UnicodeEncodeError or struct.error for what no column can hold.
    """
    for start in range(0, len(records), _CHUNK_ROWS):
        columns = zip(*map(_values, records[start : start + _CHUNK_ROWS]), strict=True)
        fields = [encode(column) for encode, column in zip(_ENCODERS, columns, strict=True)]
        yield list(map(b"".join, zip(*fields, strict=True)))


def with_verified(
    run_id: int, records: Sequence[IntegrityRecord], chunks: Iterable[Sequence[bytes]]
) -> Iterator[list[bytes]]:
    """The `encoded` rows of `records`, each with its VERIFIED_COLUMNS behind it."""
    [run] = _bigints([run_id])
    for place, rows in enumerate(chunks):
        chunk = records[place * _CHUNK_ROWS :][: len(rows)]
        times = _times(record.finished_at for record in chunk)
        proven = (record.status == Status.VERIFIED for record in chunk)
        yield [
            row + (run + time if done else _NULL + _NULL) for row, time, done in zip(rows, times, proven, strict=True)
        ]


def copy_in(
    conn: Connection,
    table: sql.Identifier,
    constants: Mapping[str, str | int],
    chunks: Iterable[Sequence[bytes]],
    more: Sequence[str] = (),
) -> None:
    """COPY of `encoded` rows into `table`, each behind the same `constants`: text, or bigint, by column.

    `more` are columns that the rows have behind those of COLUMNS.

    Within the caller's transaction, which an error spoils. Raises psycopg errors, and what `chunks` raises.
    """
    names = [sql.Identifier(name) for name in (*constants, *COLUMNS, *more)]
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(table, sql.SQL(", ").join(names))
    head = _COUNT(len(names)) + b"".join(map(_constant, constants.values()))
    try:
        with conn.cursor() as cursor, cursor.copy(statement) as copy:
            copy.write(_SIGNATURE)
            for rows in chunks:
                copy.write(head + head.join(rows))
            copy.write(_TRAILER)
    except ValueError as error:
        if isinstance(error, UnicodeError):
            raise
        # psycopg expects one answer to a COPY; a pooler whose server died gives two.
        raise psycopg.InterfaceError(f"the answer to a COPY was not understood: {error}") from error


def _constant(value: str | int) -> bytes:
    [field] = _texts([value]) if isinstance(value, str) else _bigints([value])
    return field


def _texts(values: Iterable[str | None]) -> list[bytes]:
    return [_NULL if value is None else _sizes[len(text := value.encode())] + text for value in values]


def _integers(values: Iterable[int]) -> list[bytes]:
    return [_INTEGER(4, value) for value in values]


def _bigints(values: Iterable[int]) -> list[bytes]:
    return [_BIGINT(8, value) for value in values]


def _times(values: Iterable[float]) -> list[bytes]:
    # A time of 0 means none was taken; rounded as to_timestamp rounds.
    try:
        return [_BIGINT(8, round((value - _EPOCH_S) * 1e6)) if value else _NULL for value in values]
    except (ValueError, OverflowError) as error:
        raise StructError(f"no time: {error}") from None


def _told(values: Iterable[str | None]) -> list[bytes]:
    # An error's text may hold anything: it is told, not matched.
    return _texts(None if value is None else storable(value) for value in values)


def _sparing(encode: _Encode) -> _Encode:
    """`encode`, asked only once for each value where a column holds few different ones."""

    def sparing(column: Collection[Any]) -> Iterable[bytes]:
        different = set(column)
        if len(different) * _FEW > len(column):
            return encode(column)
        return map(dict(zip(different, encode(different), strict=True)).__getitem__, column)

    return sparing


_BY_TYPE: Mapping[str, _Encode] = {"integer": _integers, "bigint": _bigints, "timestamptz": _times}
_ENCODERS = [_sparing(_told if name == "error" else _BY_TYPE.get(TYPES.get(name, ""), _texts)) for name in COLUMNS]
