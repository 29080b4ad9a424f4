"""The workload: how presets scale, that bytes follow from the key, and that seeding may be repeated."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable

import pytest

from local.workload import (
    AWKWARD_KEYS,
    MEDIUM,
    PART,
    SCALED_LARGE,
    SMALL,
    WorkObject,
    awkward,
    content,
    demonstration,
    preset,
    seed,
    with_metadata,
)
from tests.fixtures.s3 import S3Server


def test_the_mixed_scenario_at_a_thousandth_keeps_one_large_object() -> None:
    sizes = Counter(item.size for item in preset("mixed", 1 / 1000))
    assert sizes == {SMALL: 900, MEDIUM: 9, SCALED_LARGE: 1}


@pytest.mark.parametrize(("name", "objects"), [("small", 1000), ("medium", 10), ("large", 1), ("mixed", 910)])
def test_every_preset_scales(name: str, objects: int) -> None:
    assert len(preset(name, 1 / 1000)) == objects


def test_the_longest_awkward_key_has_the_most_bytes_s3_allows() -> None:
    assert max(len(key.encode()) for key in AWKWARD_KEYS) == 1024


def test_keys_of_the_demonstration_are_unique() -> None:
    keys = [item.key for item in demonstration()]
    assert len(set(keys)) == len(keys)


def test_bytes_follow_from_the_key_and_may_be_had_from_any_part_on() -> None:
    whole = b"".join(content("k", 2 * PART + 7))
    assert whole == b"".join(content("k", 2 * PART + 7))
    assert b"".join(content("k", 2 * PART + 7, offset=PART)) == whole[PART:]
    assert b"".join(content("other", 100)) != whole[:100]


def test_seeding_gives_the_rows_of_an_inventory(moto: S3Server, bucket: Callable[..., str]) -> None:
    name = bucket(moto)
    rows = seed(moto.client(), name, [*awkward(), *with_metadata()])
    assert [row["key"] for row in rows] == [item.key for item in [*awkward(), *with_metadata()]]
    for row in rows:
        body = b"".join(content(row["key"], row["size"]))
        assert row["e_tag"] == hashlib.md5(body).hexdigest()  # noqa: S324


def test_seeding_again_uploads_nothing(moto: S3Server, bucket: Callable[..., str]) -> None:
    name, client = bucket(moto), moto.client()
    first = seed(client, name, awkward())
    uploads: list[object] = []
    client.meta.events.register("before-call.s3.PutObject", lambda **_: uploads.append(1))
    assert seed(client, name, awkward()) == first
    assert uploads == []


def test_a_large_object_is_uploaded_in_parts(moto: S3Server, bucket: Callable[..., str]) -> None:
    name = bucket(moto)
    rows = seed(moto.client(), name, [WorkObject("big", PART + 1, {"ContentType": "text/x"})])
    assert rows[0]["e_tag"].endswith("-2")
    assert moto.client().head_object(Bucket=name, Key="big")["ContentType"] == "text/x"
