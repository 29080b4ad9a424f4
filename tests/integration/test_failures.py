"""Objects that cannot be copied: counted, kept apart from the rest, and in the end a reason to stop."""

from __future__ import annotations

from local.workload import WorkObject
from tests.fixtures.compare import differences, keys_of
from tests.fixtures.s3 import S3Server
from tests.integration.conftest import MakeFerry, MakeProxy, new_bucket
from tests.integration.ledger import Ledger, until_stop_is_known
from tests.integration.proxy import Effect, Request, gate
from tests.integration.scenes import MIB, SPLIT, small_objects, stocked


def test_objects_nobody_may_read_fail_alone_and_are_tried_again_by_the_next_run(
    minio: S3Server, proxied: MakeProxy, ferry: MakeFerry, ledger: Ledger
) -> None:
    proxy, target = proxied(minio), new_bucket(minio)
    scene = stocked(minio, new_bucket(minio), [*small_objects(10), WorkObject("large", 11 * MIB)])
    forbidden = {scene.keys[2], scene.keys[7], "large"}

    def refuse(request: Request) -> Effect | None:
        return Effect(refuse=(403, "AccessDenied")) if request.key in forbidden else None

    proxy.rule = refuse
    user = ferry(proxy.server, minio, ledger, *SPLIT, "--workers=1")
    manifest = scene.inventory()
    run = user.run(manifest, f"s3://{target}")
    assert run.code == 1, run.explain()
    assert run.classes == {"small": {"VERIFIED": 8, "FAILED": 2}, "large": {"FAILED": 1}}
    assert ledger.keys("FAILED") == forbidden
    errors = [row["error"] for row in ledger.objects().values() if row["status"] == "FAILED"]
    assert all("source: " in error and "403" in error for error in errors)
    assert "objects.error in the ledger says why" in run.last_sentence

    proxy.forget()
    again = user.run(manifest, f"s3://{target}")
    assert (again.code, again.statuses) == (0, {"VERIFIED": 3, "SKIPPED": 8}), again.explain()
    client = minio.client()
    assert differences((client, scene.bucket), (client, target)) == []


def test_more_failures_than_allowed_stop_the_run(
    minio: S3Server, proxied: MakeProxy, ferry: MakeFerry, ledger: Ledger
) -> None:
    proxy, target = proxied(minio), new_bucket(minio)
    scene = stocked(minio, new_bucket(minio), small_objects(400, size=10))

    def refuse(request: Request) -> Effect | None:
        return Effect(refuse=(403, "AccessDenied")) if request.key.startswith("small/") else None

    proxy.rule = refuse
    user = ferry(proxy.server, minio, ledger, "--workers=2", "--max_in_flight=2", "--small_unit_objects=10")
    run = user.run(scene.inventory(), f"s3://{target}", "--max_failures=20")
    assert run.code == 3, run.explain()
    assert "--max_failures=20" in run.last_sentence
    assert 20 < ledger.count("FAILED") < 400
    assert ledger.run()["outcome"] == "broken"
    assert keys_of(minio.client(), target) == []


def test_a_share_of_failures_is_judged_over_all_workers(
    minio: S3Server, proxied: MakeProxy, ferry: MakeFerry, ledger: Ledger
) -> None:
    proxy, target = proxied(minio), new_bucket(minio)
    scene = stocked(minio, new_bucket(minio), small_objects(300, size=10))
    hold, opened = gate(lambda request: request.method == "GET" and request.key.startswith("small/"), 150)

    def refuse_half_then_hold(request: Request) -> Effect | None:
        forbidden = request.key.startswith("small/") and int(request.key[-5]) % 2 == 0
        return hold(request) or (Effect(refuse=(403, "AccessDenied")) if forbidden else None)

    proxy.rule = refuse_half_then_hold
    user = ferry(proxy.server, minio, ledger, "--workers=2", "--max_in_flight=2", "--small_unit_objects=10")
    running = user.start(scene.inventory(), f"s3://{target}", "--max_failures=10%")
    until_stop_is_known(running, ledger)
    opened.set()
    run = running.wait()
    assert run.code == 3, run.explain()
    assert ledger.run()["stop_requested"] == "max_failures"
    assert "--max_failures=10%" in run.last_sentence
    assert sum(run.statuses.values()) < 300


def test_bytes_damaged_on_the_way_are_a_mismatch_and_never_replace_what_was_there(
    minio: S3Server, proxied: MakeProxy, ferry: MakeFerry, ledger: Ledger
) -> None:
    reader, writer, target = proxied(minio), proxied(minio), new_bucket(minio)
    # Above 16 MiB the source keeps a CRC64NVME of the whole object.
    bigger = [WorkObject("medium", 2 * MIB), WorkObject("large", 17 * MIB)]
    scene = stocked(minio, new_bucket(minio), [*small_objects(4), *bigger])
    read_wrong, written_wrong = {scene.keys[0], "medium", "large"}, {scene.keys[1]}
    for key in scene.keys:
        minio.client().put_object(Bucket=target, Key=key, Body=b"there before")

    def damage_answers(request: Request) -> Effect | None:
        return Effect(damage_answer=request.method == "GET" and request.key in read_wrong)

    def damage_requests(request: Request) -> Effect | None:
        return Effect(damage_request=request.method == "PUT" and request.key in written_wrong)

    reader.rule, writer.rule = damage_answers, damage_requests
    user = ferry(reader.server, writer.server, ledger, *SPLIT, "--workers=1")
    run = user.run(scene.inventory(), f"s3://{target}")
    assert run.code == 1, run.explain()
    assert ledger.keys("MISMATCH") == read_wrong | written_wrong
    assert run.statuses == {"VERIFIED": 2, "MISMATCH": 4}
    for key in read_wrong | written_wrong:
        assert minio.client().get_object(Bucket=target, Key=key)["Body"].read() == b"there before", key
    assert "Uploads" not in minio.client().list_multipart_uploads(Bucket=target)


def test_a_large_object_that_changes_while_its_parts_are_copied_replaces_nothing(
    minio: S3Server, proxied: MakeProxy, ferry: MakeFerry, ledger: Ledger
) -> None:
    proxy, target = proxied(minio), new_bucket(minio)
    scene = stocked(minio, new_bucket(minio), [WorkObject("large", 17 * MIB)])
    minio.client().put_object(Bucket=target, Key="large", Body=b"there before")
    proxy.rule, opened = gate(lambda request: request.method == "GET" and request.key == "large", 2)
    user = ferry(proxy.server, minio, ledger, *SPLIT, "--workers=1")
    running = user.start(scene.inventory(), f"s3://{target}")
    running.until(lambda: ledger.recorded_parts() != {}, "a part is recorded")
    minio.client().put_object(Bucket=scene.bucket, Key="large", Body=b"new")
    opened.set()
    run = running.wait()
    assert (run.code, run.statuses) == (0, {"SOURCE_CHANGED": 1}), run.explain()
    assert minio.client().get_object(Bucket=target, Key="large")["Body"].read() == b"there before"
    assert "Uploads" not in minio.client().list_multipart_uploads(Bucket=target)
    assert ledger.rows("SELECT state FROM uploads") == [{"state": "aborted"}]


def test_what_looks_like_a_secret_in_an_error_is_never_recorded(
    minio: S3Server, proxied: MakeProxy, ferry: MakeFerry, ledger: Ledger
) -> None:
    objects = [WorkObject("?password=hunter2-hunter2", 100), WorkObject("large?password=hunter2-hunter2", 12 * MIB)]
    scene, proxy, target = stocked(minio, new_bucket(minio), objects), proxied(minio), new_bucket(minio)
    proxy.rule = lambda request: Effect(refuse=(403, "AccessDenied")) if request.key in scene.keys else None

    done = ferry(proxy.server, minio, ledger, *SPLIT).run(scene.inventory(), f"s3://{target}")

    assert done.statuses == {"FAILED": 2}, done.explain()
    errors = [row["error"] for row in ledger.rows("SELECT error FROM attempts UNION ALL SELECT error FROM objects")]
    assert len(errors) == 4
    assert all("password=***" in error and "hunter2" not in error for error in errors)
