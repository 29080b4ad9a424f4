"""The manifests of deploy/kubernetes as kustomize renders them, and the schemas they are held against."""

from __future__ import annotations

import copy
import subprocess
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

from model.routing import MIB
from storage.limits import body_cost
from tests.fixtures.tools import tool

REPOSITORY = Path(__file__).parents[2]
KUBERNETES = REPOSITORY / "deploy/kubernetes"
FOLDERS = (KUBERNETES, KUBERNETES / "flink")
DRIVER_BYTES = 400 * MIB
"""What a driver takes for a slice of 500,000 rows (docs/performance.md)."""
POOL_BYTES = 250 * MIB
"""An interpreter with the job imported, which no worker of a pool shares with another."""
MERGE_BY_NAME = "kubernetes.operator.pod-template.merge-arrays-by-name"
MAIN_CONTAINER = "flink-main-container"
"""Flink's own container in the pods that the operator makes."""
_DEFINITION = "META-INF/fabric8/flinkdeployments.flink.apache.org-v1.yml"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_UNITS = {"Ki": 1024, "Mi": MIB, "Gi": 1024 * MIB}

Document = dict[str, Any]


class Refused(Exception):
    """A schema does not allow a document."""


@cache
def _rendered(folder: Path) -> str:
    return subprocess.run([tool("kustomize"), "build", folder], check=True, capture_output=True, text=True).stdout


def rendered(folder: Path) -> list[Document]:
    """What `kubectl apply -k` would send of one folder."""
    return list(yaml.load_all(_rendered(folder), _LOADER))


def found(folder: Path, kind: str) -> Document:
    """The one document of a kind."""
    (document,) = [document for document in rendered(folder) if document["kind"] == kind]
    return document


def pod_templates(document: Document) -> Iterator[Document]:
    """Every pod template of a document; of a FlinkDeployment those that its operator makes of the partial ones."""
    spec = document.get("spec", {})
    if document["kind"] == "CronJob":
        yield spec["jobTemplate"]["spec"]["template"]
    if document["kind"] == "FlinkDeployment":
        by_name = spec["flinkConfiguration"].get(MERGE_BY_NAME) == "true"
        for role in ("jobManager", "taskManager"):
            template = _merged(spec["podTemplate"], spec[role].get("podTemplate", {}), by_name)
            if MAIN_CONTAINER not in [one["name"] for one in template["spec"]["containers"]]:
                template["spec"]["containers"].append({"name": MAIN_CONTAINER})
            yield template


def _merged(base: Document, over: Document, by_name: bool) -> Document:
    """`over` laid over `base`, as the operator does it (its guide, "Pod template", and FlinkUtils of 1.10)."""
    result = copy.deepcopy(base)
    for field, value in over.items():
        below = result.get(field)
        if isinstance(below, list) and isinstance(value, list):
            result[field] = _merged_list(below, value, by_name)
        elif isinstance(below, dict) and isinstance(value, dict):
            result[field] = _merged(below, value, by_name)
        else:
            result[field] = copy.deepcopy(value)
    return result


def _merged_list(base: list[Any], over: list[Any], by_name: bool) -> list[Any]:
    if by_name and all(isinstance(one, dict) and "name" in one for one in (*base, *over)):
        named = {one["name"]: one for one in base}
        for one in over:
            named[one["name"]] = _merged(named.get(one["name"], {}), one, by_name)
        return list(named.values())
    # plain values stay as they are below; objects are merged by their position
    common = [_merged(a, b, by_name) if isinstance(a, dict) else a for a, b in zip(base, over, strict=False)]
    return [*common, *base[len(over) :], *over[len(base) :]]


def containers(document: Document) -> Iterator[Document]:
    """Every container of a document, init containers too."""
    for template in pod_templates(document):
        yield from template["spec"].get("initContainers", ())
        yield from template["spec"]["containers"]


def container(document: Document, name: str) -> Document:
    """The one container of that name."""
    (one,) = [one for one in containers(document) if one["name"] == name]
    return one


def quantity(text: str) -> int:
    """Bytes of a Kubernetes quantity such as 2Gi."""
    return int(text[:-2]) * _UNITS[text[-2:]]


def bodies_bytes(limits: Any) -> int:
    """What the bodies of one worker take with every place of its limits in use."""
    streamed = body_cost(limits.whole_body_bytes + 1, limits.whole_body_bytes, limits.window_bytes)
    return int(
        limits.small_in_flight * limits.whole_body_bytes + (limits.medium_in_flight + limits.parts_in_flight) * streamed
    )


def check_kubernetes(document: Document, version: str) -> None:
    """Raises Refused where Kubernetes of that version does not know a document so, unknown fields included."""
    try:
        kubernetes_validate.validate(document, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        raise Refused(str(error)) from None


def check_flink(document: Document) -> None:
    """Raises Refused where the Flink Kubernetes Operator's definition does not know a document so."""
    try:
        _flink_schema().validate(document)
    except jsonschema.ValidationError as error:
        raise Refused(error.message) from None


@cache
def _flink_schema() -> jsonschema.Draft202012Validator:
    with zipfile.ZipFile(tool("flink-operator-api")) as jar:
        definition = yaml.load(jar.read(_DEFINITION), _LOADER)  # noqa: S506 - a safe one
    (version,) = definition["spec"]["versions"]
    schema: Document = version["schema"]["openAPIV3Schema"]
    schema["properties"] |= {name: {"type": "string"} for name in ("apiVersion", "kind")} | {"metadata": {}}
    return jsonschema.Draft202012Validator(_closed(schema))


def _closed(schema: Any) -> Any:
    """A structural schema that refuses unknown fields, which the API server would drop without a word."""
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(part) for name, part in schema.items()}
    open_ended = "additionalProperties" in schema or schema.get("x-kubernetes-preserve-unknown-fields")
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object" and not open_ended:
        closed["additionalProperties"] = False
    return closed
