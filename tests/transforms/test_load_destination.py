"""Which rows of a destination's inventory stand for what is there now."""

from __future__ import annotations

from ledger.destination_rows import ListedObject
from model.objects import BadRow, InventoryRow
from transforms.load_destination import current_objects

ROW = InventoryRow(0, 0, "dst", "in/k", size=5, etag="e")


def test_only_current_objects_below_the_prefix_with_a_size_are_kept() -> None:
    rows = [
        ROW,
        ROW._replace(key="in/older", is_latest=False),
        ROW._replace(key="in/deleted", is_delete_marker=True),
        ROW._replace(key="in/unsized", size=None),
        ROW._replace(key="beside"),
        ROW._replace(key="in/plain", etag=None),
        BadRow(0, 6, "no key", ""),
    ]

    assert list(current_objects(rows, "in/")) == [ListedObject("in/k", 5, "e"), ListedObject("in/plain", 5, None)]
