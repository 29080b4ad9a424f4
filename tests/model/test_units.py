"""Units of packed references, and the identity of an upload."""

from __future__ import annotations

import pickle

import pytest

from model.objects import ObjectRef, pack_unit, unpack_unit
from model.records import upload_identity
from model.status import SizeClass

REF = ObjectRef(1, 2, "bucket", "kéy\n", None, 100, "e" * 32, "pre/kéy\n")


def test_a_unit_gives_back_what_was_packed_in_order() -> None:
    refs = [REF._replace(row_number=number, size=number, version_id=f"v{number}") for number in range(300)]
    unit = pack_unit(SizeClass.SMALL, refs)
    assert unpack_unit(unit) == refs
    assert (unit.objects, unit.object_bytes) == (300, sum(range(300)))


def test_the_same_references_give_the_same_bytes() -> None:
    assert pack_unit(SizeClass.SMALL, [REF] * 10) == pack_unit(SizeClass.SMALL, [REF] * 10)


def test_a_unit_is_much_smaller_than_its_rows() -> None:
    refs = [REF._replace(row_number=number, key=f"some/folder/{number:08}") for number in range(256)]
    assert len(pack_unit(SizeClass.SMALL, refs).packed) < len(pickle.dumps(refs)) / 2


def identity(ref: ObjectRef = REF, **changed: str | int) -> str:
    named = {"destination_endpoint": "d", "destination_bucket": "db", "source_endpoint": "s"}
    etag, plan = str(changed.pop("etag", "e")), str(changed.pop("plan", "5"))
    return upload_identity(**{**named, **changed}, ref=ref, source_etag=etag, plan=plan)  # type: ignore[arg-type]


def test_the_identity_of_an_upload_comes_from_the_data() -> None:
    assert identity() == identity(REF._replace(file_number=9, row_number=9, etag=None))
    assert len(identity()) == 64


@pytest.mark.parametrize(
    "other",
    [
        identity(destination_endpoint="x"),
        identity(destination_bucket="x"),
        identity(source_endpoint="x"),
        identity(etag="x"),
        identity(plan="6"),
        identity(REF._replace(bucket="x")),
        identity(REF._replace(key="x")),
        identity(REF._replace(destination_key="x")),
        identity(REF._replace(version_id="x")),
        identity(REF._replace(size=101)),
    ],
)
def test_any_difference_is_another_upload(other: str) -> None:
    assert other != identity()


def test_fields_do_not_run_into_each_other() -> None:
    one = identity(REF._replace(bucket="ab", key="c"))
    assert one != identity(REF._replace(bucket="a", key="bc"))
