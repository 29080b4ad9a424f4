"""Runners repeat work and cut it as they like: the results are the same, and nothing is copied twice."""

from __future__ import annotations

from collections import Counter

import pytest

from local.workload import WorkObject
from tests.fixtures.compare import differences
from tests.fixtures.s3 import S3Server
from tests.integration.conftest import MakeFerry, MakeProxy, new_bucket
from tests.integration.ledger import Ledger
from tests.integration.scenes import MIB, SPLIT, Scene, small_objects, stocked


@pytest.fixture
def scene(minio: S3Server) -> Scene:
    """Objects of each size class, one row of a small and one of a large object twice."""
    objects = [
        *small_objects(60),
        *(WorkObject(f"medium/{n}", 2 * MIB) for n in range(3)),
        WorkObject("large", 11 * MIB),
    ]
    return stocked(minio, new_bucket(minio), objects)


@pytest.mark.parametrize("workers", [1, 2])
def test_bundles_that_are_repeated_cost_no_second_request_and_change_no_result(
    workers: int, scene: Scene, minio: S3Server, proxied: MakeProxy, ferry: MakeFerry, ledger: Ledger
) -> None:
    proxy, target = proxied(minio), new_bucket(minio)
    user = ferry(proxy.server, proxy.server, ledger, *SPLIT, f"--workers={workers}", "--small_unit_objects=10")
    manifest = scene.inventory([*scene.rows, scene.rows[0], scene.rows[-1]])
    run = user.run(manifest, f"s3://{target}", "--direct_runner_bundle_repeat=1")
    assert run.code == 0, run.explain()
    assert run.classes == {
        "small": {"VERIFIED": 60, "DUPLICATE": 1},
        "medium": {"VERIFIED": 3},
        "large": {"VERIFIED": 1, "DUPLICATE": 1},
    }
    assert ledger.rows_read(run.summary["run_id"]) == 66
    assert ledger.value("SELECT count(*) FROM attempts") == 64
    whole = [key for key in scene.keys if key != "large"]
    # The second row of an object may meet the first while that is under way.
    once = {key: times for key, times in proxy.reads(scene.bucket).items() if key not in ("large", scene.keys[0])}
    assert once == dict.fromkeys(set(whole) - {scene.keys[0]}, 1)
    assert proxy.parts(target) == Counter({("large", number): 1 for number in (1, 2, 3)})
    assert proxy.uploads(target)["large"] == 1
    assert _is_copied(scene, target) == []


def test_a_manifest_in_slices_is_one_run_with_one_summary(
    scene: Scene, minio: S3Server, ferry: MakeFerry, ledger: Ledger
) -> None:
    target = new_bucket(minio)
    user = ferry(minio, minio, ledger, *SPLIT, "--workers=2", "--slice_rows=25")
    # The last two rows, in another slice, name objects of the first and the last row again.
    manifest = scene.inventory([*scene.rows, scene.rows[0], scene.rows[-1]], rows_per_file=40)
    run = user.run(manifest, f"s3://{target}")
    assert run.code == 0, run.explain()
    assert run.classes == {
        "small": {"VERIFIED": 60, "DUPLICATE": 1},
        "medium": {"VERIFIED": 3},
        "large": {"VERIFIED": 1, "DUPLICATE": 1},
    }
    slices = ledger.rows(
        "SELECT slice, file_number, rows::int, expected_rows::int FROM manifest_files ORDER BY slice, file_number"
    )
    assert [tuple(row.values()) for row in slices] == [
        (-1, 0, 0, 40),
        (-1, 1, 0, 26),
        (0, 0, 25, None),
        (1, 0, 15, None),
        (1, 1, 10, None),
        (2, 1, 16, None),
    ]
    assert ledger.counted(run.summary["run_id"]) == {"VERIFIED": 64, "DUPLICATE": 2}
    assert ledger.run()["outcome"] == "succeeded"
    assert _is_copied(scene, target) == []
    # Standard output, standard error and the summary are in a folder of the command's.
    left = [path.name for path in user.folder.rglob("*") if "command-0" not in path.parts and path.is_file()]
    assert left == []


def test_a_verification_whose_bundles_are_repeated_looks_once_and_accounts_for_each_row(
    scene: Scene, minio: S3Server, proxied: MakeProxy, ferry: MakeFerry, ledger: Ledger
) -> None:
    proxy, target, client = proxied(minio), new_bucket(minio), minio.client()
    user = ferry(proxy.server, proxy.server, ledger, *SPLIT, "--workers=2", "--small_unit_objects=10")
    manifest = scene.inventory([*scene.rows, scene.rows[0]])
    assert user.run(manifest, f"s3://{target}").code == 0
    client.put_object(Bucket=target, Key=scene.keys[1], Body=b"another")
    proxy.forget()
    done = user.verify(manifest, f"s3://{target}", "--direct_runner_bundle_repeat=1")
    assert done.code == 1, done.explain()
    assert done.statuses == {"VERIFIED": 63, "DUPLICATE": 1, "MISMATCH": 1}
    assert ledger.rows_read(done.summary["run_id"]) == 65
    looks = Counter(request.key for request in proxy.asked(target) if request.method == "HEAD")
    # The second row of an object may meet the first while that is under way.
    assert {key: times for key, times in looks.items() if key != scene.keys[0]} == dict.fromkeys(scene.keys[1:], 1)


def _is_copied(scene: Scene, target: str) -> list[str]:
    client = scene.server.client()
    return differences((client, scene.bucket), (client, target))
