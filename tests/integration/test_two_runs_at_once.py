"""One job, one run: a second one, or one that would write below the same prefix, is refused."""

from __future__ import annotations

from tests.fixtures.compare import keys_of
from tests.fixtures.s3 import S3Server
from tests.integration.conftest import MakeFerry, MakeProxy, new_bucket
from tests.integration.ledger import Ledger
from tests.integration.proxy import gate
from tests.integration.scenes import small_objects, stocked


def test_a_second_run_of_the_job_or_below_its_prefix_is_refused_and_names_the_first(
    minio: S3Server, proxied: MakeProxy, ferry: MakeFerry, ledger: Ledger
) -> None:
    proxy, target = proxied(minio), new_bucket(minio)
    scene = stocked(minio, new_bucket(minio), small_objects(5))
    manifest = scene.inventory()
    user = ferry(proxy.server, proxy.server, ledger, "--workers=1", "--idle_timeout=300")
    proxy.rule, opened = gate(lambda request: request.bucket == target and request.method == "PUT", 0)
    first = user.start(manifest, f"s3://{target}/below/")
    first.until(lambda: len(proxy.writes(target)) == len(scene.keys), "the first run has sent all it has")
    asked = len(proxy.asked(target))

    same = user.run(manifest, f"s3://{target}/below/")
    overlapping = user.run(manifest, f"s3://{target}/below/deeper/", "--job=another")
    elsewhere = user.run(manifest, f"s3://{new_bucket(minio)}", "--job=a-third")

    run_id = ledger.value("SELECT min(run_id) FROM runs")
    for refused, what in ((same, "job"), (overlapping, f"destination s3://{target}/below/")):
        assert refused.code == 4, refused.explain()
        (line,) = [line for line in refused.stderr.splitlines() if line.startswith("s3ferry: ")]
        assert line.startswith(f"s3ferry: {what}")
        assert f"is held by run {run_id}" in line
        assert f"pid {first.pid}," in line
        assert f"s3ferry stop {run_id}" in line
    assert len(proxy.asked(target)) == asked
    assert elsewhere.code == 0, elsewhere.explain()

    opened.set()
    finished = first.wait()
    assert finished.code == 0, finished.explain()
    assert keys_of(minio.client(), target) == [f"below/{key}" for key in scene.keys]
