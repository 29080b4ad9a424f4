"""The transport is replaceable: a run with any of them copies and verifies the same."""

from __future__ import annotations

import pytest

from local.workload import WorkObject, awkward, with_metadata
from storage.transports import TRANSPORTS
from tests.fixtures.compare import differences
from tests.fixtures.s3 import S3Server
from tests.integration.conftest import MakeFerry, new_bucket
from tests.integration.ledger import Ledger
from tests.integration.scenes import MIB, SPLIT, UNSTORABLE, small_objects, stocked


@pytest.mark.parametrize("transport", [name for name in TRANSPORTS if name != "pyreqwest"])
def test_a_run_copies_and_verifies_objects_of_every_size(
    minio: S3Server, ledger: Ledger, ferry: MakeFerry, transport: str
) -> None:
    odd = [item for item in awkward() if item.key not in UNSTORABLE[minio.name]]
    sized = [WorkObject("medium", 2 * MIB), WorkObject("large", 11 * MIB)]
    scene = stocked(minio, new_bucket(minio), [*small_objects(20), *odd, *with_metadata(), *sized])
    target = new_bucket(minio)
    user = ferry(minio, minio, ledger, "--workers=2", *SPLIT)
    run = user.run(scene.inventory(), f"s3://{target}", f"--transport={transport}")
    assert run.code == 0, run.explain()
    assert run.statuses == {"VERIFIED": len(scene.keys)}
    client = minio.client()
    assert differences((client, scene.bucket), (client, target)) == []
