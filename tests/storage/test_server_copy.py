"""Copies a server without bytes makes itself: pinned by the source's ETag, repeated where they end in nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from model.objects import ObjectRef
from model.records import IntegrityRecord, Part, PartResult
from model.routing import GIB, MIB
from model.status import DestinationEvidence, SizeClass, Status
from storage.config import Capabilities, TransferLimits
from storage.copier import CopyContext, CopyMode
from storage.server_copy import copy_on_server, copy_part_on_server
from tests.fixtures.s3 import S3Server
from tests.fixtures.simulated_s3 import SimulatedS3, simulated_s3
from tests.storage.ferry import Ferry

SIZE = 3 * GIB
CAN = Capabilities(etag_is_md5=True)


@pytest.fixture
def store() -> Iterator[SimulatedS3]:
    """A server without bytes that holds src/large."""
    with simulated_s3() as running:
        running.put("src/large", SIZE)
        yield running


@pytest.fixture
def ref(store: SimulatedS3) -> ObjectRef:
    return ObjectRef(0, 0, "src", "large", None, SIZE, store.objects["src/large"].etag, "large")


@pytest.fixture
def context(ferry: Ferry, store: SimulatedS3) -> CopyContext:
    """Copies from the bucket src to the bucket dst of the store, made by the store."""
    server = S3Server("simulated", store.endpoint_url)
    source, destination = ferry.endpoint(server, "source"), ferry.endpoint(server, "destination")
    made = ferry.context(source, "src", destination, "dst", can=CAN, copy_mode=CopyMode.SERVER)
    return replace(made, limits=TransferLimits(attempts=3))


CopyWhole = Callable[[], IntegrityRecord]
CopyPart = Callable[[], PartResult]


@pytest.fixture
def copy_whole(ferry: Ferry, context: CopyContext, ref: ObjectRef) -> CopyWhole:
    """Copies the object by CopyObject."""
    return lambda: ferry.engine.run(copy_on_server(ferry.steps(context), ref, SizeClass.LARGE))


@pytest.fixture
def copy_part(ferry: Ferry, context: CopyContext, ref: ObjectRef) -> CopyPart:
    """Copies the first part of an upload of the object by UploadPartCopy."""
    upload = ferry.open_upload(context, ref, 32 * MIB)
    part = Part(upload, 1, 0, 32 * MIB)
    return lambda: ferry.engine.run(copy_part_on_server(ferry.steps(context), part))


def puts(store: SimulatedS3) -> int:
    return sum(request.startswith("PUT ") for request in store.requests)


def test_an_object_is_copied_in_one_request(store: SimulatedS3, copy_whole: CopyWhole) -> None:
    record = copy_whole()

    assert (record.status, record.attempts, puts(store), record.untouched) == (Status.VERIFIED, 1, 1, False)
    assert record.destination_evidence is DestinationEvidence.STORED_CHECKSUM
    assert store.objects["dst/large"].size == SIZE


def test_a_source_that_changes_after_it_was_looked_at_is_not_copied(store: SimulatedS3, copy_whole: CopyWhole) -> None:
    store.before_copy = lambda: setattr(store.objects["src/large"], "etag", "f" * 32)

    record = copy_whole()

    assert (record.status, puts(store), record.untouched) == (Status.SOURCE_CHANGED, 1, True)
    assert "412 PreconditionFailed" in (record.error or "")
    assert "dst/large" not in store.objects


def test_a_source_that_changes_between_parts_is_not_copied(store: SimulatedS3, copy_part: CopyPart) -> None:
    store.objects["src/large"].etag = "f" * 32

    result = copy_part()

    assert (result.failure, puts(store)) == (Status.SOURCE_CHANGED, 1)
    assert "412 PreconditionFailed" in (result.error or "")
    assert [upload.parts for upload in store.uploads.values()] == [{}]


def test_a_copy_answered_without_a_result_is_asked_for_again(store: SimulatedS3, copy_whole: CopyWhole) -> None:
    store.empty_answers = 2

    record = copy_whole()

    assert (record.status, record.attempts, puts(store)) == (Status.VERIFIED, 3, 3)


def test_a_part_answered_without_a_result_is_asked_for_again(store: SimulatedS3, copy_part: CopyPart) -> None:
    store.empty_answers = 2

    result = copy_part()

    assert (result.part is not None, result.attempts, puts(store)) == (True, 3, 3)


def test_no_more_copies_are_asked_for_than_the_attempts_allowed(
    store: SimulatedS3, copy_whole: CopyWhole, copy_part: CopyPart
) -> None:
    store.empty_answers = 99

    record, result = copy_whole(), copy_part()

    assert (record.status, record.attempts) == (Status.FAILED, 3)
    assert (result.failure, result.attempts) == (Status.FAILED, 3)
    assert puts(store) == 6
