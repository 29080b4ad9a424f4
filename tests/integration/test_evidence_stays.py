"""What was proven of an object stays in the ledger, and `ledger check` agrees with every run that came after."""

from __future__ import annotations

from local.workload import WorkObject
from tests.fixtures.s3 import S3Server
from tests.integration.conftest import MakeFerry, MakeProxy, new_bucket
from tests.integration.ferry import Ferry
from tests.integration.ledger import Ledger
from tests.integration.proxy import Effect
from tests.integration.scenes import MIB, SPLIT, small_objects, stocked

PROOF = ("destination_etag", "sha256", "crc64nvme", "destination_evidence", "verified_run", "verified_at")


def proofs(ledger: Ledger) -> dict[str, list[object]]:
    return {key: [row[name] for name in PROOF] for key, row in ledger.objects().items()}


def is_checked(user: Ferry, *run_ids: int) -> bool:
    return all(user.command("ledger", "check", str(run_id)).wait().code == 0 for run_id in run_ids)


def test_a_recopy_that_reads_nothing_takes_no_proof_away_and_the_next_run_copies_again(
    minio: S3Server, proxied: MakeProxy, ferry: MakeFerry, ledger: Ledger
) -> None:
    objects = [*small_objects(3), WorkObject("large", 12 * MIB)]
    scene, proxy, target = stocked(minio, new_bucket(minio), objects), proxied(minio), new_bucket(minio)
    user = ferry(proxy.server, minio, ledger, *SPLIT)
    run = scene.inventory(), f"s3://{target}"
    copied = user.run(*run)
    assert copied.statuses == {"VERIFIED": 4}, copied.explain()
    before = proofs(ledger)

    proxy.rule = lambda request: Effect(refuse=(403, "AccessDenied")) if request.key in scene.keys else None
    failed = user.run(*run, "--recopy")
    assert failed.statuses == {"FAILED": 4}, failed.explain()
    assert proofs(ledger) == before
    assert {row["status"] for row in ledger.objects().values()} == {"FAILED"}
    assert is_checked(user, copied.summary["run_id"], failed.summary["run_id"])

    proxy.rule = None
    again = user.run(*run)
    assert again.statuses == {"VERIFIED": 4}, again.explain()
    assert {row["verified_run"] for row in ledger.objects().values()} == {again.summary["run_id"]}
    assert is_checked(user, copied.summary["run_id"], failed.summary["run_id"], again.summary["run_id"])


def test_a_verification_agrees_with_the_check_whatever_it_found(
    minio: S3Server, ferry: MakeFerry, ledger: Ledger
) -> None:
    scene, target, client = stocked(minio, new_bucket(minio), small_objects(4)), new_bucket(minio), minio.client()
    user = ferry(minio, minio, ledger)
    run = scene.inventory(), f"s3://{target}"
    copied = user.run(*run)
    before = proofs(ledger)
    client.delete_object(Bucket=target, Key=scene.keys[0])
    client.put_object(Bucket=target, Key=scene.keys[1], Body=b"another")

    found = user.verify(*run, "--deep")

    assert found.statuses == {"VERIFIED": 2, "MISMATCH": 1, "DESTINATION_GONE": 1}, found.explain()
    assert is_checked(user, copied.summary["run_id"], found.summary["run_id"])
    after = ledger.objects()
    assert [after[key]["status"] for key in scene.keys[:2]] == ["DESTINATION_GONE", "MISMATCH"]
    assert {key: row[-2:] for key, row in proofs(ledger).items()} == {key: row[-2:] for key, row in before.items()}
