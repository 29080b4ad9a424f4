"""Uploads that nobody will go on with end with the step that finds them: aborted at the destination, and closed."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam
import pytest

from ledger.connect import connect
from ledger.leases import release
from ledger.runs import run_status, start_run
from ledger.schema import migrate
from ledger.uploads import StoredUpload, UploadState, adopt_upload, find_upload
from ledger.writer import write_objects
from model.objects import ObjectRef
from model.outcome import Outcome
from model.records import Upload
from model.status import Status
from tests.fixtures.s3 import S3Server
from tests.ledger.examples import a_record, a_run
from tests.transforms.examples import MIB, a_job, in_process
from transforms.assemble_parts import Assembly
from transforms.complete_uploads import CompleteUploads
from transforms.context import JobContext
from transforms.finalise_run import FinaliseRun
from transforms.open_uploads import OpenUploads
from transforms.worker import close_worker

KEY = "copied/large"


@dataclasses.dataclass
class Scene:
    """A run whose source and destination are one bucket of MinIO."""

    job: JobContext
    dsn: str
    client: Any
    bucket: str

    def begin(self, upload_id: str | None = None, **changes: Any) -> Upload:
        """An upload of this run to KEY, at the destination and in the ledger."""
        if upload_id is None:
            upload_id = self.client.create_multipart_upload(Bucket=self.bucket, Key=KEY)["UploadId"]
            self.client.upload_part(Bucket=self.bucket, Key=KEY, UploadId=upload_id, PartNumber=1, Body=b"part")
        endpoint = self.job.config.source.endpoint_url or ""
        stored = StoredUpload(
            identity="a" * 64,
            upload_id=upload_id,
            source_endpoint=endpoint,
            source_bucket=self.bucket,
            source_key="large",
            source_version=None,
            source_etag="0" * 32,
            destination_endpoint=endpoint,
            destination_bucket=self.bucket,
            destination_key=KEY,
            size=6 * MIB,
            part_size=6 * MIB,
            part_count=1,
            full_object_crc=False,
            started_at=time.time() - 5,
        )._replace(**changes)
        with connect(self.dsn, "test") as conn:
            adopt_upload(conn, self.job.run, stored)
        ref = ObjectRef(0, 0, self.bucket, "large", None, stored.size, stored.source_etag, KEY)
        return Upload(
            stored.identity, upload_id, ref, stored.source_etag, self.bucket, 6 * MIB, 1, False, stored.started_at
        )

    def record(self, **changes: Any) -> None:
        """What this run has written to KEY."""
        place = {"destination_bucket": self.bucket, "destination_key": KEY, "finished_at": time.time()}
        with connect(self.dsn, "test") as conn:
            write_objects(conn, self.job.run, [a_record(1, **place | changes)])

    def state(self) -> UploadState | None:
        with connect(self.dsn, "test") as conn:
            found = find_upload(conn, "a" * 64)
        return found and found.state

    def listed(self) -> list[str]:
        """The uploads to KEY at the destination."""
        listed = self.client.list_multipart_uploads(Bucket=self.bucket, Prefix=KEY)
        return [upload["UploadId"] for upload in listed.get("Uploads", [])]


@pytest.fixture
def scene(
    ledger_dsn: str, minio: S3Server, bucket: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Scene]:
    """A run under way."""
    monkeypatch.setenv("LEDGER_DSN", ledger_dsn)
    for side in ("SOURCE", "DESTINATION"):
        for name, value in minio.environment(side).items():
            monkeypatch.setenv(name, value)
    migrate(ledger_dsn)
    made = bucket(minio)
    endpoints = [f"--{side}_endpoint_url={minio.endpoint_url}" for side in ("source", "destination")]
    job = a_job(f"--destination=s3://{made}/copied/", *endpoints)
    run = start_run(ledger_dsn, a_run())
    yield Scene(dataclasses.replace(job, run=run, source_bucket=made), ledger_dsn, minio.client(), made)
    close_worker()


@pytest.mark.parametrize("other", [{"source_key": "another"}, {"source_key": "large", "source_etag": "1" * 32}])
def test_an_upload_whose_key_the_run_gave_to_another_object_is_discarded(scene: Scene, other: dict[str, str]) -> None:
    upload = scene.begin()
    scene.record(source_bucket=scene.bucket, **other)

    with in_process() as pipeline:
        pipeline | beam.Create([Assembly(upload, (), None, None, 1)]) | CompleteUploads(scene.job)

    assert scene.listed() == []
    assert scene.state() is UploadState.ABORTED


def test_an_upload_this_run_began_of_the_source_as_it_was_is_discarded(scene: Scene) -> None:
    old = scene.begin()
    put = scene.client.put_object(Bucket=scene.bucket, Key="large", Body=bytes(6 * MIB))
    ref = old.source._replace(etag=put["ETag"].strip('"'))

    with in_process() as pipeline:
        pipeline | beam.Create([ref]) | OpenUploads(scene.job)

    assert scene.state() is UploadState.ABORTED
    (left,) = scene.listed()
    assert left != old.upload_id


def test_the_end_of_a_run_discards_an_upload_whose_key_got_its_object_in_another_way(scene: Scene) -> None:
    scene.begin()
    scene.record(source_bucket=scene.bucket, source_key="large", source_etag="1" * 32)

    finalise(scene)

    assert scene.listed() == []
    assert scene.state() is UploadState.ABORTED


@pytest.mark.parametrize("end", ["the step that completes", "the end of the run"])
def test_an_upload_that_became_its_object_before_a_crash_is_closed_as_completed(scene: Scene, end: str) -> None:
    upload = scene.begin("an upload that is gone")
    scene.record(source_bucket=scene.bucket, source_key="large", source_etag="0" * 32, size=6 * MIB)

    if end == "the end of the run":
        finalise(scene)
    else:
        with in_process() as pipeline:
            pipeline | beam.Create([Assembly(upload, (), None, None, 1)]) | CompleteUploads(scene.job)

    assert scene.state() is UploadState.COMPLETED


def test_uploads_at_another_endpoint_are_left(scene: Scene) -> None:
    scene.begin("there", destination_endpoint="https://elsewhere.example")
    scene.record()

    finalise(scene)

    assert scene.state() is UploadState.OPEN


def test_the_end_of_a_run_may_be_repeated_after_its_lease_was_released(scene: Scene) -> None:
    scene.begin()
    scene.record()
    with connect(scene.dsn, "test") as conn:
        release(conn, scene.job.run)

    finalise(scene)

    with connect(scene.dsn, "test") as conn:
        assert run_status(conn, scene.job.run.run_id).outcome is not Outcome.RUNNING


def test_the_end_of_a_run_discards_an_upload_whose_creation_was_not_recorded(scene: Scene) -> None:
    scene.client.create_multipart_upload(Bucket=scene.bucket, Key=KEY)
    scene.begin("")
    scene.record()

    finalise(scene)

    assert scene.listed() == []
    assert scene.state() is UploadState.ABORTED


def test_the_end_of_a_run_keeps_an_upload_of_an_object_that_failed(scene: Scene) -> None:
    upload = scene.begin()
    scene.record(source_bucket=scene.bucket, source_key="large", status=Status.FAILED)

    finalise(scene)

    assert scene.listed() == [upload.upload_id]
    assert scene.state() is UploadState.OPEN


def finalise(scene: Scene) -> None:
    with in_process() as pipeline:
        pipeline | beam.Create([], reshuffle=False) | FinaliseRun(scene.job, 0, last=True)
