"""Parts of a cluster killed in the middle of a run, and runs that outlive the process that submitted them."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import psutil
import pytest

from local.workload import WorkObject
from tests.clusters.clusters import Cluster, FlinkCluster
from tests.fixtures.compare import differences, keys_of
from tests.fixtures.s3 import S3Server
from tests.integration.conftest import MakeFerry, MakeProxy, new_bucket
from tests.integration.ferry import Command, Ferry, until
from tests.integration.ledger import Ledger, until_stop_is_known
from tests.integration.proxy import Proxy, gate
from tests.integration.scenes import MIB, SPLIT, Scene, small_objects, stocked

PATIENCE_S = 240.0
# some tests wait for two runs, one after the other
pytestmark = [pytest.mark.nightly, pytest.mark.timeout(900)]


RECORDED = "SELECT source_key FROM objects WHERE source_bucket = %s AND status = 'VERIFIED'"


@dataclass
class Job:
    """One job on the cluster, its requests seen and held by a proxy."""

    user: Ferry
    ledger: Ledger
    proxy: Proxy
    scene: Scene
    manifest: str
    bucket: str

    def start(self, *flags: str) -> Command:
        return self.user.start(self.manifest, f"s3://{self.bucket}", *flags)

    def ends_well(self, run: Command) -> None:
        """This very run ends well; nothing is lost and nothing is left."""
        ended = run.wait(PATIENCE_S)
        assert ended.code == 0, ended.explain()
        self.is_done(ended.summary["run_id"])

    def copied(self) -> set[str]:
        """The keys the ledger holds as copied."""
        rows = self.ledger.rows(RECORDED, self.scene.bucket) if self.ledger.is_made() else []
        return {row["source_key"] for row in rows}

    def is_done(self, run_id: int) -> None:
        client = self.scene.server.client()
        assert differences((client, self.scene.bucket), (client, self.bucket)) == []
        assert "Uploads" not in client.list_multipart_uploads(Bucket=self.bucket)
        run = self.ledger.run(run_id)
        assert (run["outcome"], run["exit_code"], run["error"]) == ("succeeded", 0, None)
        rows = self.ledger.rows("SELECT status::text FROM objects WHERE job = %s", run["job"])
        assert Counter(row["status"] for row in rows) == Counter(VERIFIED=len(self.scene.rows))
        assert self.ledger.rows_read(run_id) == len(self.scene.rows) == self.ledger.counted(run_id).total()
        assert self.ledger.rows("SELECT * FROM uploads WHERE state = 'open' AND job = %s", run["job"]) == []
        held = "SELECT * FROM leases WHERE job = %s AND expires_at IS NOT NULL"
        assert self.ledger.rows(held, run["job"]) == []


MakeJob = Callable[[Iterable[WorkObject]], Job]


MakeJobOn = Callable[[Cluster, Iterable[WorkObject]], Job]


@pytest.fixture
def make_job_on(minio: S3Server, cluster_ledger: Ledger, proxied: MakeProxy, ferry: MakeFerry) -> MakeJobOn:
    def make(cluster: Cluster, objects: Iterable[WorkObject]) -> Job:
        cluster.up()
        proxy = proxied(minio)
        scene = stocked(minio, new_bucket(minio), objects)
        user = ferry(proxy.server, proxy.server, cluster_ledger, *SPLIT, *cluster.flags)
        user.environment |= cluster.environment
        return Job(user, cluster_ledger, proxy, scene, scene.inventory(rows_per_file=100), new_bucket(minio))

    return make


@pytest.fixture
def make_job(flink: FlinkCluster, make_job_on: MakeJobOn) -> MakeJob:
    return lambda objects: make_job_on(flink, objects)


def test_a_python_worker_that_is_killed_is_replaced(flink: FlinkCluster, make_job: MakeJob) -> None:
    job = make_job(small_objects(200))
    job.proxy.rule, opened = gate(lambda request: request.bucket == job.bucket and request.method == "PUT", 50)
    run = job.start()
    run.until(lambda: job.proxy.writes(job.bucket).total() > 50, "the copies are under way", PATIENCE_S)

    killed = {worker.pid for worker in flink.workers()}
    os.kill(min(killed), signal.SIGKILL)
    opened.set()

    job.ends_well(run)
    assert {worker.pid for worker in flink.workers()} - killed


def test_a_task_manager_that_is_killed_takes_no_part_of_a_large_object_with_it(
    flink: FlinkCluster, make_job: MakeJob
) -> None:
    job = make_job([*small_objects(20), WorkObject("large", 38 * MIB)])
    job.proxy.rule, opened = gate(lambda request: request.bucket == job.bucket and request.is_part, 4)
    run = job.start("--flush_interval=0.1")
    run.until(lambda: len(job.ledger.recorded_parts().get("large", ())) >= 3, "parts are recorded", PATIENCE_S)

    recorded = job.ledger.recorded_parts()["large"]
    os.kill(flink.pid("taskmanager-1"), signal.SIGKILL)
    until(lambda: flink.ask("/overview")["taskmanagers"] == 1, "its end is noticed")
    flink.up()
    opened.set()

    job.ends_well(run)
    sent = job.proxy.parts(job.bucket)
    assert job.proxy.uploads(job.bucket).total() == 1
    assert {number for number in recorded if sent["large", number] > 1} == set()


def test_a_detached_run_holds_its_job_and_status_waits_for_it(make_job: MakeJob) -> None:
    job = make_job(small_objects(50))
    job.proxy.rule, opened = gate(lambda request: request.bucket == job.bucket and request.method == "PUT", 5)
    submitted = job.start("--detach").wait(PATIENCE_S)
    assert submitted.code == 0, submitted.explain()
    run_id = int(submitted.stdout.removeprefix("run "))
    assert job.ledger.run(run_id)["outcome"] == "running"

    second = job.start().wait(PATIENCE_S)
    assert second.code == 4, second.explain()

    waiting = job.user.command("status", "--wait", str(run_id))
    opened.set()
    ended = waiting.wait(PATIENCE_S)

    assert ended.code == 0, ended.explain()
    assert "outcome: succeeded" in ended.stdout
    job.is_done(run_id)


def test_a_detached_run_whose_job_is_cancelled_frees_its_job_and_status_says_so(
    flink: FlinkCluster, make_job: MakeJob
) -> None:
    job = make_job(small_objects(50))
    job.proxy.rule, opened = gate(lambda request: request.bucket == job.bucket and request.method == "PUT", 5)
    submitted = job.start("--detach", "--lease_ttl=15").wait(PATIENCE_S)
    assert submitted.code == 0, submitted.explain()
    run_id = int(submitted.stdout.removeprefix("run "))
    until(lambda: job.proxy.writes(job.bucket).total() > 5, "the copies are under way")

    flink.cancel(f"s3ferry-run-{run_id}")
    opened.set()
    ended = job.user.command("status", "--wait", str(run_id)).wait(PATIENCE_S)

    assert ended.code == 3, ended.explain()
    assert "outcome: abandoned" in ended.stdout
    job.ends_well(job.start())


def test_what_spark_computes_again_is_asked_of_the_ledger_and_not_of_the_source(
    spark: Cluster, make_job_on: MakeJobOn
) -> None:
    job = make_job_on(spark, small_objects(200))
    job.proxy.rule, opened = gate(lambda request: request.bucket == job.bucket and request.method == "PUT", 50)
    # a unit is what an inventory file holds, and more than may be copied before the executor dies
    run = job.start("--flush_interval=0.1", "--small_unit_objects=100")
    run.until(lambda: len(job.copied()) >= 40, "copies are recorded", PATIENCE_S)

    proven = job.copied()
    [executor] = spark.executors()
    executor.kill()
    opened.set()

    job.ends_well(run)
    fetched = Counter(request.key for request in job.proxy.asked(job.scene.bucket) if request.method == "GET")
    assert {key for key in proven if fetched[key] > 1} == set()
    unit_of = {key: row // 100 for row, key in enumerate(job.scene.keys)}
    delivered_again = {unit_of[key] for key, times in fetched.items() if times > 1}
    assert delivered_again & {unit_of[key] for key in proven}


def by_signal(job: Job, run: Command) -> None:
    """As Kubernetes ends a pod."""
    run.signal_driver(signal.SIGTERM)


def by_command(job: Job, run: Command) -> None:
    """`s3ferry stop`."""
    run_id = job.ledger.value("SELECT max(run_id) FROM runs")
    assert job.user.command("stop", str(run_id)).wait().code == 0


@pytest.mark.parametrize("tell", [by_signal, by_command])
def test_a_run_that_is_told_to_stop_ends_what_is_under_way_and_the_next_one_finishes(
    make_job: MakeJob, tell: Callable[[Job, Command], None]
) -> None:
    job = make_job(small_objects(200))
    job.proxy.rule, opened = gate(lambda request: request.bucket == job.bucket and request.method == "PUT", 20)
    run = job.start("--max_in_flight=8", "--flush_interval=0.1", "--idle_timeout=300")
    run.until(lambda: len(job.copied()) >= 10, "copies are recorded", PATIENCE_S)

    tell(job, run)
    until_stop_is_known(run, job.ledger)
    opened.set()

    stopped = run.wait(PATIENCE_S)
    assert stopped.code == 5, stopped.explain()
    ended = job.ledger.run(stopped.summary["run_id"])
    assert (ended["outcome"], ended["exit_code"], ended["error"]) == ("interrupted", 5, None)
    copied = job.copied()
    assert copied == set(keys_of(job.scene.server.client(), job.bucket))
    assert 20 <= len(copied) < 200
    job.ends_well(job.start())
    assert set(job.proxy.writes(job.bucket).values()) == {1}


def test_a_signal_while_a_detached_run_is_submitted_stops_it_on_the_cluster(make_job: MakeJob) -> None:
    job = make_job(small_objects(50))
    job.proxy.rule, opened = gate(lambda request: request.bucket == job.bucket and request.method == "PUT", 0)
    submitting = job.start("--detach", "--max_in_flight=8")
    driver = psutil.Process(submitting.pid)
    submitting.until(
        lambda: any(child.name() == "java" for child in driver.children()), "a job server has started", PATIENCE_S
    )
    submitting.signal_driver(signal.SIGTERM)

    submitted = submitting.wait(PATIENCE_S)
    assert submitted.code == 5, submitted.explain()
    run_id = int(submitted.stdout.removeprefix("run "))
    waiting = job.user.command("status", "--wait", str(run_id))
    opened.set()
    ended = waiting.wait(PATIENCE_S)

    assert ended.code == 5, ended.explain()
    assert "outcome: interrupted" in ended.stdout
    job.ends_well(job.start())
