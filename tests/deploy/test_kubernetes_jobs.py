"""What the manifests ask of s3ferry, it takes: flags, secrets, exit codes, memory; and pods are confined."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest

from ledger.dsn import ledger_dsn
from model.outcome import Exit
from options.config import JobConfig
from options.parse import parse_run
from storage.config import StoreConfig
from storage.credentials import make_session
from storage.memory import WORKER_BASE_BYTES, body_budget
from tests.deploy.manifests import (
    DRIVER_BYTES,
    FOLDERS,
    KUBERNETES,
    MAIN_CONTAINER,
    MERGE_BY_NAME,
    POOL_BYTES,
    Document,
    bodies_bytes,
    container,
    containers,
    found,
    pod_templates,
    quantity,
    rendered,
)
from transforms import context
from transforms.context import transfer_limits

FLINK = KUBERNETES / "flink"

by_folder = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


def job_of(folder: Path) -> JobConfig:
    """The configuration s3ferry makes of a CronJob's arguments."""
    command, *flags = container(found(folder, "CronJob"), "s3ferry")["args"]
    assert command == "run"
    return parse_run(flags)


@by_folder
def test_the_arguments_are_ones_that_s3ferry_takes(folder: Path) -> None:
    job = job_of(folder)
    assert job.inventory.manifests == ("s3://acme-inventory/photos/daily/latest",)
    assert job.run.job == "photos"


def test_the_flink_job_goes_to_the_cluster_of_the_manifest() -> None:
    name = found(FLINK, "FlinkDeployment")["metadata"]["name"]
    job = job_of(FLINK)
    assert job.run.runner == "FlinkRunner"
    assert f"--flink_master={name}-rest:8081" in job.beam_args
    assert "--environment_config=localhost:50000" in job.beam_args


def test_the_pool_listens_to_its_own_pod_alone() -> None:
    assert container(found(FLINK, "FlinkDeployment"), "worker-pool")["args"] == ["--address=localhost:50000"]


def test_one_flink_version_and_one_job_server_in_image_and_manifests() -> None:
    image = (FLINK / "Dockerfile").read_text()
    spec = found(FLINK, "FlinkDeployment")["spec"]
    (version,) = re.findall(r"flink:(1\.\d+)\.\d+-java17", image)
    assert spec["flinkVersion"] == f"v{version.replace('.', '_')}"
    assert f"COPY beam-flink-{version}-job-server.jar /opt/beam/" in image
    assert f"ENV HADOOP_CLASSPATH=/opt/beam/beam-flink-{version}-job-server.jar" in image
    assert "cp /opt/beam/*.jar /java" in container(found(FLINK, "CronJob"), "java")["command"][-1]
    assert {"name": "S3FERRY_JOB_SERVERS", "value": "/java"} in container(found(FLINK, "CronJob"), "s3ferry")["env"]


class Asked(dict[str, str]):
    """An environment that remembers what it was asked for."""

    def __init__(self, names: list[str]) -> None:
        super().__init__({name: f"host={name}" for name in names})
        self.names: set[str] = set()

    def get(self, name: str, default: object = None) -> object:  # type: ignore[override]
        self.names.add(name)
        return super().get(name, default)


@pytest.mark.parametrize(
    ("folder", "kind", "name"),
    [(KUBERNETES, "CronJob", "s3ferry"), (FLINK, "CronJob", "s3ferry"), (FLINK, "FlinkDeployment", "worker-pool")],
)
def test_every_secret_has_a_name_s3ferry_reads_and_none_is_missing(folder: Path, kind: str, name: str) -> None:
    env = container(found(folder, kind), name)["env"]
    secrets = [entry["name"] for entry in env if "valueFrom" in entry]
    environ = Asked(secrets)

    assert ledger_dsn(environ) == "host=LEDGER_DSN"
    for side in ("source", "destination"):
        keys = make_session(StoreConfig(side), environ).get_credentials().get_frozen_credentials()
        assert keys.access_key == f"host={side.upper()}_AWS_ACCESS_KEY_ID"
        assert keys.secret_key == f"host={side.upper()}_AWS_SECRET_ACCESS_KEY"
    assert set(secrets) <= environ.names


@by_folder
def test_secrets_come_by_reference_from_the_one_secret_that_is_documented(folder: Path) -> None:
    for document in rendered(folder):
        for one in containers(document):
            for entry in one.get("env", ()):
                if "value" in entry:
                    assert entry["name"] in ("PATH", "S3FERRY_JOB_SERVERS")
                else:
                    assert entry["valueFrom"]["secretKeyRef"] == {"name": "s3ferry", "key": entry["name"]}


@by_folder
def test_one_run_at_a_time_and_only_what_another_try_may_cure_is_tried_again(folder: Path) -> None:
    spec = found(folder, "CronJob")["spec"]
    job = spec["jobTemplate"]["spec"]
    given_up, evicted = job["podFailurePolicy"]["rules"]

    assert spec["concurrencyPolicy"] == "Forbid"
    assert job["backoffLimit"] > 0
    assert job["template"]["spec"]["restartPolicy"] == "Never"  # podFailurePolicy needs it
    assert given_up["action"] == "FailJob"
    assert given_up["onExitCodes"]["operator"] == "In"
    assert given_up["onExitCodes"]["containerName"] == "s3ferry"
    assert set(given_up["onExitCodes"]["values"]) == set(Exit) - {Exit.OK, Exit.BROKEN, Exit.INTERRUPTED}
    assert evicted == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}


@by_folder
def test_a_pod_in_the_place_of_a_killed_one_waits_for_its_lease(folder: Path) -> None:
    ledger = job_of(folder).ledger
    assert ledger.lease_wait_s > ledger.lease_ttl_s


def unconfined(document: Document) -> list[str]:
    """Names of the containers of a document that the Pod Security Standard `restricted` does not let in."""
    names = []
    for template in pod_templates(document):
        pod = template["spec"].get("securityContext", {})
        held = pod.get("runAsNonRoot") is True and pod.get("seccompProfile") == {"type": "RuntimeDefault"}
        for one in (*template["spec"].get("initContainers", ()), *template["spec"]["containers"]):
            own = one.get("securityContext", {})
            bare = own.get("capabilities") == {"drop": ["ALL"]} and own.get("allowPrivilegeEscalation") is False
            if not (held and bare) or own.get("runAsNonRoot") is False or own.get("runAsUser") == 0:
                names.append(one["name"])
    return names


@by_folder
def test_every_container_of_every_pod_is_confined(folder: Path) -> None:
    assert [name for document in rendered(folder) for name in unconfined(document)] == []


@by_folder
def test_no_container_but_flinks_own_may_write_to_its_root(folder: Path) -> None:
    for document in rendered(folder):
        for one in containers(document):
            # the main container of Flink's own image writes its configuration
            assert one["name"] == MAIN_CONTAINER or one["securityContext"].get("readOnlyRootFilesystem")


def test_a_task_managers_pod_holds_flink_and_the_pool_and_a_job_managers_flink_alone() -> None:
    names = [
        [one["name"] for one in template["spec"]["containers"]]
        for template in pod_templates(found(FLINK, "FlinkDeployment"))
    ]
    assert names == [[MAIN_CONTAINER], [MAIN_CONTAINER, "worker-pool"]]


def test_merged_by_position_flinks_container_would_lose_its_confinement() -> None:
    cluster = copy.deepcopy(found(FLINK, "FlinkDeployment"))
    del cluster["spec"]["flinkConfiguration"][MERGE_BY_NAME]
    assert unconfined(cluster) == [MAIN_CONTAINER]


@pytest.mark.parametrize(
    ("folder", "kind", "name"),
    [(KUBERNETES, "CronJob", "s3ferry"), (FLINK, "CronJob", "s3ferry"), (FLINK, "FlinkDeployment", "worker-pool")],
)
def test_s3ferry_runs_as_its_own_user_with_limits_and_a_writable_tmp(folder: Path, kind: str, name: str) -> None:
    document = found(folder, kind)
    one = container(document, name)
    (template,) = [template for template in pod_templates(document) if one in template["spec"]["containers"]]
    user = one["securityContext"].get("runAsUser") or template["spec"]["securityContext"]["runAsUser"]
    volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
    (tmp,) = [mount["name"] for mount in one["volumeMounts"] if mount["mountPath"] == "/tmp"]  # noqa: S108

    assert user == 10001
    assert {"cpu", "memory", "ephemeral-storage"} == set(one["resources"]["limits"])
    assert one["resources"]["requests"]["memory"] == one["resources"]["limits"]["memory"]
    assert quantity(volumes[tmp]["emptyDir"]["sizeLimit"]) <= quantity(one["resources"]["limits"]["ephemeral-storage"])


def test_the_memory_limit_is_enough_for_driver_and_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_of(KUBERNETES)
    limit = quantity(container(found(KUBERNETES, "CronJob"), "s3ferry")["resources"]["limits"]["memory"])
    monkeypatch.setattr(context, "available_bytes", lambda: limit)
    limits = transfer_limits(job, job.run.workers)

    assert job.run.workers > 0, "without --workers there is one for each core of the node"
    assert limits.memory_budget_bytes == body_budget(limit, job.run.workers)
    assert limits.memory_budget_bytes >= bodies_bytes(limits), "the budget would hold up transfers"
    assert DRIVER_BYTES + job.run.workers * (WORKER_BASE_BYTES + limits.memory_budget_bytes) <= limit


def test_the_memory_limit_of_the_pool_is_enough_for_a_worker_in_each_slot() -> None:
    cluster = found(FLINK, "FlinkDeployment")
    slots = int(cluster["spec"]["flinkConfiguration"]["taskmanager.numberOfTaskSlots"])
    limit = quantity(container(cluster, "worker-pool")["resources"]["limits"]["memory"])
    limits = transfer_limits(job_of(FLINK), slots * cluster["spec"]["taskManager"]["replicas"])

    assert limits.memory_budget_bytes == job_of(FLINK).copy.memory_budget_bytes >= bodies_bytes(limits)
    assert POOL_BYTES + slots * (WORKER_BASE_BYTES + limits.memory_budget_bytes) <= limit


def test_the_flink_cluster_is_set_up_as_the_guide_to_clusters_says() -> None:
    cluster = found(FLINK, "FlinkDeployment")["spec"]
    wanted = {
        "classloader.resolve-order": "parent-first",
        "classloader.check-leaked-classloader": "false",
        "restart-strategy.type": "fixed-delay",
        "restart-strategy.fixed-delay.attempts": "6",
        "restart-strategy.fixed-delay.delay": "15 s",
    }
    assert wanted.items() <= cluster["flinkConfiguration"].items()
    assert cluster["mode"] == "standalone", "a native cluster has no slots before it has a job"
