"""The manifests are what Kubernetes and the Flink operator take: rendered by kustomize, held against the schemas."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest

from tests.deploy.manifests import (
    FOLDERS,
    KUBERNETES,
    Document,
    Refused,
    check_flink,
    check_kubernetes,
    found,
    pod_templates,
    rendered,
)

FLINK = KUBERNETES / "flink"
VERSIONS = ("1.31", "1.37")
"""The first whose Jobs have podFailurePolicy for good, and the newest the schemas are there for."""


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_manifest_is_valid(folder: object, version: str) -> None:
    documents = rendered(folder)
    assert documents
    for document in documents:
        if document["kind"] == "FlinkDeployment":
            check_flink(document)
        else:
            check_kubernetes(document, version)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_pod_templates_of_the_flink_cluster_are_valid_pods(version: str) -> None:
    for template in pod_templates(found(FLINK, "FlinkDeployment")):
        check_kubernetes({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, **template}, version)


def _wrong_field(document: Document) -> None:
    document["spec"]["concurencyPolicy"] = "Forbid"


def _nothing_to_run(document: Document) -> None:
    del document["spec"]["jobTemplate"]["spec"]["template"]


def _wrong_type(document: Document) -> None:
    document["spec"]["jobTemplate"]["spec"]["backoffLimit"] = "six"


def _wrong_place(document: Document) -> None:
    document["spec"]["podFailurePolicy"] = document["spec"]["jobTemplate"]["spec"].pop("podFailurePolicy")


@pytest.mark.parametrize("spoil", [_wrong_field, _nothing_to_run, _wrong_type, _wrong_place])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_broken_cron_job_is_refused(spoil: Callable[[Document], None], version: str) -> None:
    document = copy.deepcopy(found(KUBERNETES, "CronJob"))
    spoil(document)
    with pytest.raises(Refused):
        check_kubernetes(document, version)


def _unknown_flink_field(document: Document) -> None:
    document["spec"]["taskManager"]["podTemplates"] = {}


def _unknown_flink_version(document: Document) -> None:
    document["spec"]["flinkVersion"] = "v1_99"


def _number_in_the_configuration(document: Document) -> None:
    document["spec"]["flinkConfiguration"]["taskmanager.numberOfTaskSlots"] = 2


def _unknown_container_field(document: Document) -> None:
    document["spec"]["taskManager"]["podTemplate"]["spec"]["containers"][0]["enviroment"] = []


@pytest.mark.parametrize(
    "spoil",
    [_unknown_flink_field, _unknown_flink_version, _number_in_the_configuration, _unknown_container_field],
)
def test_a_broken_flink_deployment_is_refused(spoil: Callable[[Document], None]) -> None:
    document = copy.deepcopy(found(FLINK, "FlinkDeployment"))
    spoil(document)
    with pytest.raises(Refused):
        check_flink(document)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_no_manifest_holds_a_secret(folder: object) -> None:
    assert all(document["kind"] != "Secret" for document in rendered(folder))


def test_kustomize_names_the_images_of_the_flink_deployment_too() -> None:
    spec = found(FLINK, "FlinkDeployment")["spec"]
    (pool,) = spec["taskManager"]["podTemplate"]["spec"]["containers"]
    assert spec["image"].startswith("registry.example.com/s3ferry-flink:")
    assert pool["image"].startswith("registry.example.com/s3ferry-worker:")
