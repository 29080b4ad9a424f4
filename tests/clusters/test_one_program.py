"""One program on every runner: the same job, and the same destination, ledger and requests whoever carries it out."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from awscrt.checksums import crc64nvme

from local.workload import content
from pipeline.clusters import JOB_SERVERS
from tests.clusters.clusters import SPARK_JAR, Cluster, FlinkCluster, job_server_folder
from tests.fixtures.compare import differences
from tests.fixtures.s3 import S3Server
from tests.integration.conftest import MakeFerry, new_bucket
from tests.integration.ferry import Finished
from tests.integration.ledger import Ledger
from tests.integration.proxy import Proxy, proxy_before
from tests.integration.scenes import SPLIT, Scene, mixed_objects, stocked

PATIENCE_S = 240.0
Told = tuple[tuple[str, ...], dict[str, str]]
"""Flags of a run, and what its own process has in its environment."""


def direct(request: pytest.FixtureRequest) -> Told:
    return ("--runner=DirectRunner", "--workers=2"), {}


def flink_batch(request: pytest.FixtureRequest) -> Told:
    cluster: Cluster = request.getfixturevalue("flink")
    return cluster.flags, dict(cluster.environment)


def flink_streaming(request: pytest.FixtureRequest) -> Told:
    flags, environment = flink_batch(request)
    return (*flags, "--streaming"), environment


def spark_local(request: pytest.FixtureRequest) -> Told:
    folder = job_server_folder(SPARK_JAR)
    return ("--runner=SparkRunner", "--spark_master_url=local[2]"), {JOB_SERVERS: str(folder)}


def spark_cluster(request: pytest.FixtureRequest) -> Told:
    cluster: Cluster = request.getfixturevalue("spark")
    return cluster.flags, dict(cluster.environment)


JOB_TYPES = {flink_batch: "BATCH", flink_streaming: "STREAMING"}
"""What Flink is to call its jobs; the other runners have one kind."""
RUNNERS = (direct, flink_batch, flink_streaming, spark_cluster, pytest.param(spark_local, marks=pytest.mark.nightly))


@dataclass(frozen=True)
class Copied:
    """One run over the mixed scenario, and the requests it made."""

    scene: Scene
    bucket: str
    ledger: Ledger
    proxy: Proxy
    run: Finished
    job_type: str | None
    asked_type: str | None

    @property
    def run_id(self) -> int:
        return int(self.run.summary["run_id"])

    @property
    def sizes(self) -> dict[str, int]:
        return {row["key"]: row["size"] for row in self.scene.rows}


@pytest.fixture(scope="module", params=RUNNERS, ids=lambda runner: runner.__name__)
def copied(
    request: pytest.FixtureRequest, minio: S3Server, cluster_ledger: Ledger, module_ferry: MakeFerry
) -> Iterator[Copied]:
    flags, environment = request.param(request)
    with ExitStack() as stack:
        proxy = stack.enter_context(proxy_before(minio))
        scene = stocked(minio, new_bucket(minio), mixed_objects(minio))
        bucket = new_bucket(minio)
        user = module_ferry(proxy.server, proxy.server, cluster_ledger, *SPLIT, *flags)
        user.environment |= environment
        run = user.run(scene.inventory(rows_per_file=50), f"s3://{bucket}", patience_s=PATIENCE_S)
        assert run.code == 0, run.explain()
        asked = JOB_TYPES.get(request.param)
        cluster: FlinkCluster | None = request.getfixturevalue("flink") if asked else None
        found = cluster.job_type(f"s3ferry-run-{run.summary['run_id']}") if cluster else None
        yield Copied(scene, bucket, cluster_ledger, proxy, run, found, asked)


def test_flink_has_the_kind_of_job_that_was_asked_for(copied: Copied) -> None:
    assert copied.job_type == copied.asked_type


def test_every_row_is_verified_in_its_size_class(copied: Copied) -> None:
    assert copied.run.classes == {"small": {"VERIFIED": 120}, "medium": {"VERIFIED": 5}, "large": {"VERIFIED": 2}}
    assert copied.run.last_sentence == "127 rows accounted for: 127 VERIFIED"


def test_the_destination_is_the_source_byte_for_byte_with_its_metadata(copied: Copied) -> None:
    client = copied.scene.server.client()
    assert differences((client, copied.scene.bucket), (client, copied.bucket)) == []


def test_the_ledger_holds_digests_that_an_independent_look_at_the_bytes_confirms(copied: Copied) -> None:
    rows = copied.ledger.objects(copied.run_id)
    assert rows.keys() == set(copied.scene.keys)
    for key, row in rows.items():
        body = b"".join(content(key, row["size"]))
        whole = hashlib.sha256(body).hexdigest()
        assert row["status"] == "VERIFIED", row
        assert row["sha256"] == (None if row["size_class"] == "large" else whole), key
        assert row["crc64nvme"] == base64.b64encode(crc64nvme(body).to_bytes(8, "big")).decode(), key


def test_the_accounts_balance(copied: Copied) -> None:
    assert copied.ledger.rows_read(copied.run_id) == len(copied.scene.rows)
    assert copied.ledger.counted(copied.run_id) == Counter(VERIFIED=len(copied.scene.rows))


def test_each_byte_is_fetched_once(copied: Copied) -> None:
    fetched: Counter[tuple[str, str | None]] = Counter(
        (request.key, request.range)
        for request in copied.proxy.asked(copied.scene.bucket)
        if request.method == "GET" and not request.query
    )
    assert set(fetched.values()) == {1}
    parts = Counter(key for key, _ in fetched)
    large = {"large/one.bin": 3, "large/two ä+.bin": 4}
    assert parts == Counter({key: large.get(key, 1) for key in copied.scene.keys})


def test_each_object_and_part_is_sent_once(copied: Copied) -> None:
    writes, parts = copied.proxy.writes(copied.bucket), copied.proxy.parts(copied.bucket)
    assert set(writes.values()) == set(parts.values()) == {1}
    assert copied.proxy.uploads(copied.bucket) == Counter({"large/one.bin": 1, "large/two ä+.bin": 1})
    assert writes.keys() | {key for key, _ in parts} == set(copied.scene.keys)


def test_the_run_has_succeeded_and_leaves_nothing_behind(copied: Copied) -> None:
    run = copied.ledger.run(copied.run_id)
    assert (run["outcome"], run["exit_code"], run["error"]) == ("succeeded", 0, None)
    assert copied.ledger.rows("SELECT * FROM leases WHERE run_id = %s AND expires_at IS NOT NULL", copied.run_id) == []
    assert copied.ledger.rows("SELECT * FROM uploads WHERE state <> 'completed' AND job = %s", run["job"]) == []
    assert "Uploads" not in copied.scene.server.client().list_multipart_uploads(Bucket=copied.bucket)


def test_nothing_is_said_that_a_user_has_no_use_for(copied: Copied) -> None:
    lines = copied.run.stderr.splitlines()
    assert not [line for line in lines if "Traceback" in line or "org.apache" in line or " WARN" in line]
    assert len(lines) < 40, copied.run.stderr


def test_no_secret_is_said(copied: Copied) -> None:
    said = copied.run.stdout + copied.run.stderr + str(copied.run.summary) + str(copied.ledger.run(copied.run_id))
    assert copied.scene.server.secret_key not in said
