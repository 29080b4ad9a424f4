"""The work of one inventory file is shared by all workers of a cluster."""

from __future__ import annotations

import pytest

from tests.clusters.clusters import Cluster
from tests.fixtures.s3 import S3Server
from tests.integration.conftest import MakeFerry, MakeProxy, new_bucket
from tests.integration.ledger import Ledger
from tests.integration.proxy import gate
from tests.integration.scenes import small_objects, stocked

pytestmark = pytest.mark.nightly
OBJECTS, COUNTED, WORKERS = 200, 190, 2
SHARES = """
SELECT (counters->>'small.objects')::int AS objects FROM workers
WHERE run_id = (SELECT max(run_id) FROM runs) AND counters ? 'small.objects'
"""


@pytest.mark.parametrize(
    ("cluster", "flags"),
    [("flink", ()), ("flink", ("--streaming",)), ("spark", ("--parallelism=2", "--sdk_worker_parallelism=2"))],
    ids=["flink-batch", "flink-streaming", "spark"],
)
def test_every_worker_copies_its_share(
    request: pytest.FixtureRequest,
    cluster: str,
    flags: tuple[str, ...],
    minio: S3Server,
    cluster_ledger: Ledger,
    proxied: MakeProxy,
    ferry: MakeFerry,
) -> None:
    here: Cluster = request.getfixturevalue(cluster)
    proxy, target = proxied(minio), new_bucket(minio)
    scene = stocked(minio, new_bucket(minio), small_objects(OBJECTS))
    user = ferry(proxy.server, proxy.server, cluster_ledger, "--lease_ttl=6", *here.flags, *flags)
    user.environment |= here.environment
    # the last ones wait until heartbeats have told of all the others
    proxy.rule, opened = gate(lambda request: request.bucket == target and request.method == "PUT", COUNTED)

    def shares() -> list[int]:
        return [row["objects"] for row in cluster_ledger.rows(SHARES)] if cluster_ledger.is_made() else []

    run = user.start(scene.inventory(), f"s3://{target}")
    run.until(lambda: sum(shares()) == COUNTED, "all but the last are counted")
    counted = shares()
    opened.set()

    ended = run.wait(240)
    assert ended.statuses == {"VERIFIED": OBJECTS}, ended.explain()
    assert len(counted) >= WORKERS
    assert max(counted) <= 0.75 * OBJECTS, counted
