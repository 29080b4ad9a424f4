"""Objects at the edges of what S3 takes, through the real stateful DoFns and against a server that has no bytes."""

from __future__ import annotations

from collections.abc import Iterator

import apache_beam as beam
import pytest

from model.objects import ObjectRef
from model.parts import MAX_OBJECT, S3_LIMITS, PartPlan, plan_parts
from model.records import Part, PartOutcome, PartResult, Upload
from model.routing import GIB, MIB
from model.status import DestinationEvidence, SourceEvidence, Status
from storage.checksums import multipart_etag
from storage.config import Capabilities
from storage.copier import CopyContext
from storage.source_layout import source_layout
from tests.fixtures.s3 import S3Server
from tests.fixtures.simulated_s3 import RUNNING, SimulatedS3, base64_crc, simulated_s3
from tests.storage.ferry import Ferry, running_ferry
from tests.transforms.examples import a_job, in_process
from transforms.assemble_parts import AssembleParts, Assembly
from transforms.split_into_parts import SplitIntoParts

CAN = Capabilities(trailing_checksum=True, signed_body=True, full_object_crc=True)


@pytest.fixture
def store() -> Iterator[SimulatedS3]:
    """A server without bytes."""
    with simulated_s3() as running:
        yield running


@pytest.fixture(scope="module")
def ferry() -> Iterator[Ferry]:
    """An engine and what is opened on it."""
    with running_ferry() as running:
        yield running


@pytest.fixture
def context(ferry: Ferry, store: SimulatedS3) -> CopyContext:
    """Copies from the bucket src to the bucket dst of the store."""
    server = S3Server("simulated", store.endpoint_url)
    source, destination = ferry.endpoint(server, "source"), ferry.endpoint(server, "destination")
    return ferry.context(source, "src", destination, "dst", can=CAN)


ASSEMBLED: dict[str, list[Assembly]] = {}
"""What came out of each pipeline, by upload id: found by name, because what a DoFn holds is pickled."""


def sent(part: Part, url: str) -> tuple[str, PartResult]:
    """A part as CopyParts leaves it, taken by the store at `url`."""
    upload = part.upload
    record = RUNNING[url].upload_part(upload.upload_id, part.number, part.offset, part.length)
    return upload.identity, PartResult(upload, part.number, PartOutcome.DONE, record)


def keep(assembly: Assembly) -> None:
    ASSEMBLED.setdefault(assembly.upload.upload_id, []).append(assembly)


def through_the_stateful_steps(upload: Upload, store: SimulatedS3) -> Assembly:
    """Split, have the store take each part, and assemble, as the graph does."""
    with in_process() as pipeline:
        split = (
            pipeline
            | beam.Create([(upload.identity, upload)] * 2).with_output_types(tuple[str, Upload])
            | beam.Reshuffle()
            | SplitIntoParts(a_job())
        )
        _ = (
            split.parts
            | "AnyOrder" >> beam.Reshuffle()
            | "Sent" >> beam.Map(sent, store.endpoint_url).with_output_types(tuple[str, PartResult])
            | "Together" >> beam.Reshuffle()
            | AssembleParts()
            | "Kept" >> beam.Map(keep)
        )
    (assembly,) = ASSEMBLED.pop(upload.upload_id)
    return assembly


@pytest.mark.parametrize(
    ("size", "parts"),
    [
        (5 * GIB - 1, 160),
        (5 * GIB, 160),
        (5 * GIB + 1, 161),
        (100 * GIB, 3_200),
        (MAX_OBJECT, 10_000),
    ],
)
def test_an_object_is_planned_numbered_combined_and_completed(
    ferry: Ferry, store: SimulatedS3, context: CopyContext, size: int, parts: int
) -> None:
    there = store.put("src/large", size)
    ref = ObjectRef(0, 0, "src", "large", None, size, there.etag, "large")
    upload = ferry.open_upload(context, ref, 32 * MIB)

    assembly = through_the_stateful_steps(upload, store)
    record, _ = ferry.complete(context, upload, assembly.parts)

    assert (record.status, record.error) == (Status.VERIFIED, None)
    assert record.crc64nvme == base64_crc(size)
    assert record.source_evidence is SourceEvidence.STORED_CHECKSUM
    assert record.destination_evidence is DestinationEvidence.FULL_OBJECT_CRC64NVME
    made = store.objects["dst/large"]
    assert made.size == size
    assert record.destination_etag == multipart_etag([part.etag for part in sorted(assembly.parts)])
    assert made.parts == [length for _, _, length in plan_parts(size, 32 * MIB).spans()]
    assert len(made.parts) == parts
    assert store.uploads == {}


@pytest.mark.parametrize(
    "lengths",
    [
        [5 * GIB],
        [5 * GIB, 1],
        [5 * GIB - 1, 5 * GIB - 1, 2],
        [5 * MIB, 5 * GIB, 5 * MIB + 1, 5 * GIB, 3],
        [5 * GIB] * 10_000,
        [5 * MIB] * 9_998 + [6 * MIB, 7],
    ],
    ids=["most", "most-and-one", "less-than-most", "uneven", "largest", "uneven-at-the-end"],
)
def test_the_layout_of_a_source_is_asked_for_and_followed(
    ferry: Ferry, store: SimulatedS3, context: CopyContext, lengths: list[int]
) -> None:
    size = sum(lengths)
    there = store.put("src/large", size, parts=lengths)
    ref = ObjectRef(0, 0, "src", "large", None, size, there.etag, "large")

    layout = ferry.engine.run(source_layout(context, ref, there.etag, S3_LIMITS))

    assert layout is not None
    assert layout.certain
    assert [length for _, _, length in layout.plan.spans()] == lengths
    bare = ferry.open_upload(context, ref)
    plan = layout.plan
    upload = bare._replace(part_size=plan.part_size, part_count=plan.count, runs=plan.runs)
    assembly = through_the_stateful_steps(upload, store)
    assert ferry.complete(context, upload, assembly.parts)[0].status is Status.VERIFIED
    assert store.objects["dst/large"].parts == lengths


def test_ten_thousand_parts_are_listed_page_by_page(ferry: Ferry, store: SimulatedS3, context: CopyContext) -> None:
    size = 10_000 * 5 * MIB
    there = store.put("src/many", size)
    upload = ferry.open_upload(context, ObjectRef(0, 0, "src", "many", None, size, there.etag, "many"), 5 * MIB)
    for number, offset, length in PartPlan(size, 5 * MIB).spans():
        store.upload_part(upload.upload_id, number, offset, length)

    held = ferry.engine.run(ferry.steps(context).stored_parts("many", upload.upload_id))

    assert len(held) == 10_000
    assert len([request for request in store.requests if "part-number-marker" in request]) >= 10
