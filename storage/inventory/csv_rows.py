"""Rows of CSV inventories and Batch Operations manifests: no header, every value quoted or not, gzip or plain."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path
from typing import NamedTuple

from model.objects import BadRow, InventoryRow
from storage.inventory.checks import RawBatch, build_rows
from storage.inventory.columns import BY_NAME, READ
from storage.inventory.errors import CorruptInventoryFile
from storage.inventory.keys import KEY_DECODERS
from storage.inventory.manifest import ManifestFile
from storage.inventory.span import Span

GZIP_MAGIC = b"\x1f\x8b"
BUFFER = 1024 * 1024

Reader = Iterator[list[str]]


class Taken(NamedTuple):
    """Rows as the CSV reader gave them. One that is not valid CSV is an empty list here and a reason in `errors`."""

    rows: list[list[str]]
    errors: dict[int, str]


class CsvLayout:
    """How the values of one file's rows become columns.

    `columns` are the documented CSV names in file order, the last `optional` of which a row may leave out.
    """

    def __init__(self, columns: Sequence[str], optional: int, csv_key_encoding: str) -> None:
        self._most = len(columns)
        self._least = len(columns) - optional
        self._at = {name: columns.index(BY_NAME[name].csv_name) for name in READ if BY_NAME[name].csv_name in columns}
        self._decode = KEY_DECODERS[csv_key_encoding]

    def rows(self, file_number: int, first_row: int, taken: Taken) -> list[InventoryRow | BadRow]:
        """The rows for what the CSV reader took, numbered from `first_row`."""
        batch = RawBatch(file_number, first_row, len(taken.rows))
        cells = taken.rows
        if set(map(len, cells)) != {self._most}:
            cells = [self._squared(batch, index, row, taken.errors) for index, row in enumerate(cells)]
        values = tuple(zip(*cells, strict=True))
        batch.columns = {name: values[at] for name, at in self._at.items()}
        batch.columns["key"] = self._decoded(batch.columns["key"], batch)
        for index in batch.problems:
            batch.texts.setdefault(index, ",".join(cells[index]))
        return build_rows(batch)

    def _squared(self, batch: RawBatch, index: int, row: list[str], errors: dict[int, str]) -> list[str]:
        """`row` with as many values as there are columns; a wrong one is noted and blanked."""
        missing = self._most - len(row)
        if not missing:
            return row
        if index not in errors and 0 < missing <= self._most - self._least:
            return row + [""] * missing
        expected = str(self._most) if self._least == self._most else f"{self._least} or {self._most}"
        batch.problems[index] = errors.get(index, f"row has {len(row)} columns, expected {expected}")
        batch.texts[index] = ",".join(row)
        return [""] * self._most

    def _decoded(self, keys: Sequence[str], batch: RawBatch) -> Sequence[str]:
        """All keys at once, separated by NUL, which no good key holds; one by one only where that goes wrong."""
        try:
            decoded = self._decode("\0".join(keys)).split("\0")
            if len(decoded) == len(keys):
                return decoded
        except ValueError:
            pass
        decoded = []
        for index, key in enumerate(keys):
            try:
                decoded.append(self._decode(key))
            except ValueError as error:
                batch.problems.setdefault(index, str(error))
                decoded.append(key)
        return decoded


def read_csv(path: Path, file: ManifestFile, layout: CsvLayout, span: Span) -> Iterator[list[InventoryRow | BadRow]]:
    """See `read_rows`."""
    where = f"inventory file {file.file_number} ({file.location})"
    row = span.start
    with _opened(path, where) as reader:
        if _pass_over(reader, span.start, where) < span.start:
            return
        while span.stop is None or row < span.stop:
            wanted = span.batch_rows if span.stop is None else min(span.batch_rows, span.stop - row)
            taken = _take(reader, wanted, row, where)
            if taken.rows:
                yield layout.rows(file.file_number, row, taken)
                row += len(taken.rows)
            if len(taken.rows) < wanted:
                return


def count_csv(path: Path) -> int:
    """See `count_rows`."""
    where = f"inventory file {path}"
    with _opened(path, where) as reader:
        return _pass_over(reader, None, where)


def _take(reader: Reader, wanted: int, first_row: int, where: str) -> Taken:
    """The next `wanted` rows, fewer at the end. Reading goes on behind a row that is not valid CSV."""
    taken = Taken([], {})
    rows = taken.rows
    while True:
        try:
            # extend keeps what it took when the reader raises, so no row is lost or counted twice
            rows.extend(islice(reader, wanted - len(rows)))
            return taken
        except csv.Error as error:
            taken.errors[len(rows)] = f"row is not valid CSV: {error}"
            rows.append([])
        except (EOFError, OSError, zlib.error) as error:
            raise _corrupt(where, first_row + len(rows), error) from error


def _pass_over(reader: Reader, wanted: int | None, where: str) -> int:
    """How many of the next `wanted` rows (None: all) there are; bad ones count, as in `_take`."""
    passed = 0
    while True:
        counter = count()
        try:
            # zip asks the reader first, so a row that raises is not counted
            deque(zip(islice(reader, None if wanted is None else wanted - passed), counter, strict=False), maxlen=0)
            return passed + next(counter)
        except csv.Error:
            passed += next(counter) + 1
        except (EOFError, OSError, zlib.error) as error:
            raise _corrupt(where, passed + next(counter), error) from error


def _corrupt(where: str, row: int, error: Exception) -> CorruptInventoryFile:
    return CorruptInventoryFile(f"{where} is damaged at row {row} ({error}): fetch it again or take another inventory")


@contextmanager
def _opened(path: Path, where: str) -> Iterator[Reader]:
    """A CSV reader over `path`, gzip or plain by its first bytes; empty lines are no rows.

    Bytes that are not UTF-8 become surrogates, so that they spoil their row only.
    """
    with path.open("rb") as raw:
        zipped = raw.read(2) == GZIP_MAGIC
        raw.seek(0)
        if path.suffix == ".gz" and not zipped:
            raise CorruptInventoryFile(f"{where} is not gzip: fetch it again or take another inventory")
        plain = gzip.GzipFile(fileobj=raw) if zipped else raw
        with io.TextIOWrapper(
            io.BufferedReader(plain, BUFFER),
            encoding="utf-8",
            errors="surrogateescape",
            newline="\n",
        ) as text:
            yield filter(None, csv.reader(text, strict=True))
