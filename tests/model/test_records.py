"""What a record says of itself."""

from __future__ import annotations

import pytest

from model.records import PartRecord


@pytest.mark.parametrize(
    ("digests", "has"),
    [(set(), True), ({"sha256"}, True), ({"sha256", "crc32c"}, True), ({"md5"}, False), ({"sha256", "md5"}, False)],
)
def test_a_part_has_the_digests_it_was_recorded_with(digests: set[str], has: bool) -> None:
    part = PartRecord(1, 5, "etag", None, "a" * 64, None, "AAAAAA==")
    assert part.has(frozenset(digests)) is has
