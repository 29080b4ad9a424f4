"""What holds for every format: the same rows, the same numbers, however they are cut."""

from __future__ import annotations

import random
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.objects import InventoryRow
from storage.inventory.rows import count_rows, read_rows
from tests.inventory.helpers import FORMATS, FULL, Rows, keys, load, read_manifest, write_tree

valid_keys = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(
    lambda key: len(key.encode()) <= 1024
)

full_rows = st.lists(
    st.fixed_dictionaries(
        {
            "key": valid_keys,
            "version_id": st.none() | st.from_regex(r"[A-Za-z0-9._]{1,32}", fullmatch=True),
            "is_latest": st.booleans(),
            "is_delete_marker": st.booleans(),
            "size": st.none() | st.integers(0, 50 * 1024**4),
            "last_modified_date": st.none() | st.datetimes(datetime(2006, 3, 14), datetime(2100, 1, 1)),
            "e_tag": st.none() | st.from_regex(r"[0-9a-f]{32}(-[1-9][0-9]?)?", fullmatch=True),
            "storage_class": st.sampled_from([None, "STANDARD", "GLACIER", "INTELLIGENT_TIERING"]),
            "intelligent_tiering_access_tier": st.sampled_from([None, "ARCHIVE"]),
            "object_owner": st.none() | st.just("owner"),
        }
    ),
    max_size=30,
)


def read_back(format: str, rows: list[dict[str, Any]]) -> Rows:
    with tempfile.TemporaryDirectory() as folder:
        manifest = load(write_tree(Path(folder), rows, format, columns=FULL, rows_per_file=7))
        return read_manifest(manifest, batch_rows=3)


@settings(deadline=None, max_examples=60)
@given(full_rows)
def test_the_three_formats_give_the_same_rows(rows: list[dict[str, Any]]) -> None:
    csv, parquet, orc = (read_back(format, rows) for format in FORMATS)
    assert csv == parquet == orc
    assert keys(csv) == [row["key"] for row in rows]
    assert [row.size for row in csv if isinstance(row, InventoryRow)] == [row["size"] for row in rows]


@pytest.mark.parametrize("format", FORMATS)
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_row_numbers_do_not_depend_on_batches_or_ranges(format: str, data: st.DataObject) -> None:
    total = data.draw(st.integers(1, 40), "rows")
    batch_rows = data.draw(st.integers(1, 45), "batch_rows")
    cuts = sorted(data.draw(st.lists(st.integers(0, total), max_size=4), "cuts"))
    spoiled = random.Random(total)
    rows = [{"key": "" if spoiled.random() < 0.2 else f"k{number}", "size": number} for number in range(total)]
    with tempfile.TemporaryDirectory() as folder:
        manifest = load(write_tree(Path(folder), rows, format))
        (file,) = manifest.files
        path = Path(file.location.key)

        def read(**options: Any) -> Rows:
            batches = list(read_rows(path, manifest.format, manifest.columns, file, **options))
            assert all(0 < len(batch) <= options.get("batch_rows", 1000) for batch in batches)
            return [row for batch in batches for row in batch]

        whole = read()
        spans = zip([0, *cuts], [*cuts, None], strict=True)
        assert [row for a, b in spans for row in read(start_row=a, stop_row=b, batch_rows=batch_rows)] == whole
        assert [row.row_number for row in whole] == list(range(total))
        assert count_rows(path, manifest.format) == total
