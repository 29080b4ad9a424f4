"""`--record_replaced`: the ledger says what the destination held before an object was written."""

from __future__ import annotations

import pytest

from local.workload import WorkObject
from tests.fixtures.s3 import S3Server
from tests.integration.conftest import MakeFerry, MakeProxy, new_bucket
from tests.integration.ledger import Ledger
from tests.integration.scenes import MIB, SPLIT, stocked

OBJECTS = [WorkObject("small", 100), WorkObject("medium", 3 * MIB), WorkObject("large", 12 * MIB)]


@pytest.mark.parametrize("mode", ["stream", "server"])
def test_etag_and_version_of_what_was_there_are_recorded(
    mode: str, minio: S3Server, ferry: MakeFerry, ledger: Ledger
) -> None:
    scene, target = stocked(minio, new_bucket(minio), OBJECTS), new_bucket(minio, versioned=True)
    client = minio.client()
    before = {key: client.put_object(Bucket=target, Key=key, Body=key.encode()) for key in ("small", "large")}

    ran = ferry(minio, minio, ledger, *SPLIT).run(
        scene.inventory(), f"s3://{target}", "--record_replaced", f"--copy_mode={mode}"
    )

    assert ran.statuses == {"VERIFIED": 3}, ran.explain()
    rows = ledger.objects()
    assert {key: (row["replaced_etag"], row["replaced_version"]) for key, row in rows.items()} == {
        "medium": (None, None),
        **{key: (put["ETag"].strip('"'), put["VersionId"]) for key, put in before.items()},
    }


def test_without_it_nothing_is_asked(minio: S3Server, proxied: MakeProxy, ferry: MakeFerry, ledger: Ledger) -> None:
    scene, target, proxy = stocked(minio, new_bucket(minio), OBJECTS[:2]), new_bucket(minio), proxied(minio)

    ran = ferry(proxy.server, proxy.server, ledger).run(scene.inventory(), f"s3://{target}")

    assert ran.statuses == {"VERIFIED": 2}, ran.explain()
    assert [request.method for request in proxy.asked(target) if request.key in ("small", "medium")] == ["PUT", "PUT"]
