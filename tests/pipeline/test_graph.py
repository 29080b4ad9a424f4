"""The graph: its labels, its one leaf, and steps that travel to workers."""

from __future__ import annotations

import pickle
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.pipeline import PipelineVisitor
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.transforms.userstate import is_stateful_dofn

from options.config import VerifyOptions
from pipeline.graph import build_pipeline
from tests.transforms.examples import a_job
from transforms.context import FileSlice, JobContext

STEPS = [
    "Slices",
    "ReadInventory",
    "SelectObjects",
    "SkipVerified",
    "PartitionBySize",
    "SpreadSmall",
    "CopySmall",
    "RecordSmall",
    "SpreadMedium",
    "CopyMedium",
    "RecordMedium",
    "SpreadLarge",
    "OpenUploads",
    "KeyUploads",
    "GatherUploads",
    "SplitIntoParts",
    "SpreadParts",
    "CopyParts",
    "RecordParts",
    "AllParts",
    "KeyParts",
    "GatherParts",
    "AssembleParts",
    "SpreadAssemblies",
    "CompleteUploads",
    "RecordLarge",
    "EndedEarly",
    "RecordEndedEarly",
    "AllTallies",
    "FinaliseRun",
]
"""The top level of the graph, as runners and their user interfaces name it."""

VERIFYING = [
    "Slices",
    "ReadInventory",
    "SelectObjects",
    "EachObject",
    "PartitionBySize",
    "SpreadSmall",
    "VerifySmall",
    "RecordSmall",
    "SpreadMedium",
    "VerifyMedium",
    "RecordMedium",
    "PackLarge",
    "SpreadLarge",
    "VerifyLarge",
    "RecordLarge",
    "RecordEndedEarly",
    "AllTallies",
    "FinaliseRun",
]
"""The same of a run that verifies."""


class _Nodes(PipelineVisitor):
    def __init__(self) -> None:
        self.all: list[Any] = []

    def enter_composite_transform(self, node: Any) -> None:
        self.all.append(node)

    def visit_transform(self, node: Any) -> None:
        self.all.append(node)


@pytest.fixture
def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every transform of the graph."""
    # A pipeline that is never run leaves a temporary folder behind.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return built()


@pytest.fixture
def verifying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every transform of the graph of a run that verifies."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    job = a_job()
    return built(replace(job, config=replace(job.config, verify=VerifyOptions())))


def built(job: JobContext | None = None) -> list[Any]:
    """Every transform of a graph made anew."""
    pipeline = beam.Pipeline(runner=FnApiRunner())
    build_pipeline(pipeline, job or a_job(), [FileSlice(0, 0, 10)])
    visitor = _Nodes()
    pipeline.visit(visitor)
    return [node for node in visitor.all if node.full_label]


def test_the_steps_have_the_names_of_the_picture_in_its_order(nodes: list[Any]) -> None:
    assert [node.full_label for node in nodes if "/" not in node.full_label] == STEPS


def test_labels_are_unique(nodes: list[Any]) -> None:
    labels = [node.full_label for node in nodes]
    assert len(set(labels)) == len(labels)


def test_a_verification_reads_and_accounts_by_the_same_steps(verifying: list[Any]) -> None:
    assert [node.full_label for node in verifying if "/" not in node.full_label] == VERIFYING


def test_the_graph_has_one_leaf(nodes: list[Any]) -> None:
    assert leaves_of(nodes) == ["FinaliseRun/Close"]


def test_the_graph_of_a_verification_has_one_leaf(verifying: list[Any]) -> None:
    assert leaves_of(verifying) == ["FinaliseRun/Close"]


def leaves_of(nodes: list[Any]) -> list[str]:
    consumed = {value for node in nodes for value in (*node.inputs, *(side.pvalue for side in node.side_inputs))}
    return [
        node.full_label
        for node in nodes
        if not node.parts
        and not isinstance(node.transform, beam.Impulse)
        and consumed.isdisjoint(node.outputs.values())
    ]


@pytest.mark.parametrize("spread", ["SpreadSmall", "SpreadMedium", "SpreadLarge", "SpreadParts", "SpreadAssemblies"])
def test_between_two_reshuffles_something_is_grouped_by_key_or_flink_takes_them_for_one(
    nodes: list[Any], spread: str
) -> None:
    assert exchanges_before(spread, nodes) == {"by key"}


def exchanges_before(label: str, nodes: list[Any]) -> set[str]:
    """The nearest exchanges upstream of a step: names of Reshuffles, and `by key` for groupings and stateful steps."""
    producers = {value: node for node in nodes if not node.parts for value in node.outputs.values()}
    reshuffles = [node.full_label for node in nodes if isinstance(node.transform, beam.Reshuffle)]

    def exchange(node: Any) -> str | None:
        within = [name for name in reshuffles if node.full_label.startswith(f"{name}/")]
        stateful = isinstance(node.transform, beam.ParDo) and is_stateful_dofn(node.transform.fn)
        by_key = "by key" if stateful or isinstance(node.transform, beam.GroupByKey) else None
        return within[0] if within else by_key

    [start] = [node for node in nodes if node.full_label == label]
    found, before = set(), [producers[value] for value in start.inputs]
    while before:
        node = before.pop()
        if name := exchange(node):
            found.add(name)
        else:
            before += [producers[value] for value in node.inputs if value in producers]
    return found


def test_every_step_travels_to_a_worker_and_comes_back(nodes: list[Any]) -> None:
    steps = [node.transform.fn for node in nodes if isinstance(node.transform, beam.ParDo)]
    ours = [step for step in steps if type(step).__module__.startswith("transforms.")]
    assert len(ours) >= 16
    for step in ours:
        assert type(pickle.loads(pickle.dumps(step))) is type(step)


def test_the_graph_of_two_builds_is_the_same(nodes: list[Any]) -> None:
    assert [node.full_label for node in built()] == [node.full_label for node in nodes]
