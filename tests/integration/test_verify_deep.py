"""`s3ferry verify --deep`: bytes that changed beneath a server are found, although size and ETag say nothing."""

from __future__ import annotations

from collections import Counter

import pytest

from local.workload import WorkObject
from tests.fixtures.compare import differences
from tests.fixtures.s3 import S3Server
from tests.integration.conftest import MakeFerry, MakeProxy, new_bucket
from tests.integration.ledger import Ledger
from tests.integration.scenes import MIB, SPLIT, small_objects, stocked


def rot(server: S3Server, bucket: str, key: str) -> None:
    """Change one byte of the file the server keeps an object in; its metadata stay as they are."""
    assert server.folder is not None
    with (server.folder / bucket / key).open("r+b") as file:
        file.seek(100)
        byte = file.read(1)
        file.seek(100)
        file.write(bytes([byte[0] ^ 1]))


@pytest.mark.parametrize("wrong", ["small/0001.bin", "large"])
def test_bytes_that_rot_under_the_server_are_found_by_reading_and_mended(
    versitygw: S3Server, ledger: Ledger, ferry: MakeFerry, proxied: MakeProxy, wrong: str
) -> None:
    scene = stocked(versitygw, new_bucket(versitygw), [*small_objects(3), WorkObject("large", 11 * MIB)])
    target, inventory = new_bucket(versitygw), scene.inventory()
    proxy = proxied(versitygw)
    user = ferry(proxy.server, proxy.server, ledger, "--workers=1", *SPLIT)
    assert user.run(inventory, f"s3://{target}").code == 0
    before = ledger.objects()
    rot(versitygw, target, wrong)

    shallow = user.verify(inventory, f"s3://{target}")
    assert shallow.code == 0, "size, ETag and stored checksum are as they were\n" + shallow.explain()

    proxy.forget()
    deep = user.verify(inventory, f"s3://{target}", "--deep")
    assert deep.code == 1, deep.explain()
    assert deep.statuses == {"VERIFIED": 3, "MISMATCH": 1}
    assert ledger.keys("MISMATCH") == {wrong}
    assert proxy.reads(target) == Counter({key: 2 if key == wrong else 1 for key in scene.keys})
    assert proxy.reads(scene.bucket) == Counter()
    after = ledger.objects()
    for key in scene.keys:
        assert after[key]["destination_evidence"] == (
            before[key]["destination_evidence"] if key == wrong else "readback"
        )
        assert after[key]["sha256"] is not None or key == wrong

    again = user.verify(inventory, f"s3://{target}")
    assert again.statuses == {"VERIFIED": 3, "MISMATCH": 1}, "what a read found wrong is not taken back unread"

    mended = user.run(inventory, f"s3://{target}", "--check_destination=none")
    assert mended.statuses == {"SKIPPED": 3, "VERIFIED": 1}, mended.explain()
    client = versitygw.client()
    assert differences((client, scene.bucket), (client, target)) == []
