"""The work of one inventory file is shared by all workers of a cluster."""

from __future__ import annotations

import pytest

from tests.clusters.clusters import Cluster
from tests.fixtures.s3 import S3Server
from tests.integration.conftest import MakeFerry, new_bucket
from tests.integration.ledger import Ledger
from tests.integration.scenes import small_objects, stocked

pytestmark = pytest.mark.nightly
OBJECTS, WORKERS = 200, 2
COUNTED = "SELECT (counters->>'small.objects')::int AS objects FROM workers WHERE run_id = %s"


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
    ferry: MakeFerry,
) -> None:
    here: Cluster = request.getfixturevalue(cluster)
    scene = stocked(minio, new_bucket(minio), small_objects(OBJECTS))
    user = ferry(minio, minio, cluster_ledger, *here.flags, *flags)
    user.environment |= here.environment

    run = user.run(scene.inventory(), f"s3://{new_bucket(minio)}", patience_s=240)

    assert run.statuses == {"VERIFIED": OBJECTS}, run.explain()
    shares = sorted(row["objects"] for row in cluster_ledger.rows(COUNTED, run.summary["run_id"]) if row["objects"])
    assert len(shares) >= WORKERS
    assert shares[-1] <= 0.75 * OBJECTS, shares
