"""What travels through the graph: inventory rows, object references and packed units of them."""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from model.status import SizeClass


class InventoryRow(NamedTuple):
    """One row as the inventory states it: a claim, not a fact. Sizes in bytes; absent columns are None."""

    file_number: int
    row_number: int
    bucket: str
    key: str
    version_id: str | None = None
    is_latest: bool = True
    is_delete_marker: bool = False
    size: int | None = None
    etag: str | None = None
    storage_class: str | None = None
    access_tier: str | None = None
    last_modified: str | None = None


class BadRow(NamedTuple):
    """A row that cannot be used, with the reason; it goes to the dead letters and is counted."""

    file_number: int
    row_number: int
    reason: str
    text: str


class ObjectRef(NamedTuple):
    """One object to copy, pinned by version and ETag. `size` is in bytes and known by now.

    `etag` is without quotes; None means the first response's ETag pins the object.
    """

    file_number: int
    row_number: int
    bucket: str
    key: str
    version_id: str | None
    size: int
    etag: str | None
    destination_key: str


class CopyUnit(NamedTuple):
    """Many objects as one Beam element: packed, because rows shuffled one by one cost 7 times as much."""

    size_class: SizeClass
    objects: int
    object_bytes: int
    packed: bytes


def pack_unit(size_class: SizeClass, refs: Sequence[ObjectRef]) -> CopyUnit:
    """A unit of `refs`. Deterministic: the same refs give the same bytes."""
    rows = [tuple(ref) for ref in refs]
    packed = zlib.compress(pickle.dumps(rows, protocol=5), level=1)
    return CopyUnit(size_class, len(refs), sum(ref.size for ref in refs), packed)


def unpack_unit(unit: CopyUnit) -> list[ObjectRef]:
    """The references of `unit`, in the order they were packed."""
    return [ObjectRef._make(row) for row in pickle.loads(zlib.decompress(unit.packed))]
