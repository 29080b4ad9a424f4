"""Values the tests of transforms and graph are made of, and a pipeline that runs in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.testing.test_pipeline import TestPipeline

from ledger.leases import RunRef
from model.objects import ObjectRef
from model.records import PartOutcome, PartRecord, PartResult, Upload
from options.config import JobConfig
from options.parse import parse_run
from storage.config import Capabilities
from storage.inventory.columns import InventoryFormat
from storage.inventory.location import Location
from storage.inventory.manifest import Manifest, ManifestFile
from transforms.context import JobContext

MIB = 1024**2
ARGUMENTS = ("--manifest=s3://inv/daily/manifest.json", "--destination=s3://dst/prefix/")


def in_process() -> TestPipeline:
    """A pipeline on FnApiRunner in this process, as the job's own runner with one worker."""
    return TestPipeline(runner=FnApiRunner())


def collected(check: Callable[[list[Any]], None]) -> Callable[[Any], None]:
    """`check` for `assert_that`: it gets all elements as a list."""
    return lambda elements: check(list(elements))


def a_config(*flags: str) -> JobConfig:
    return parse_run([*ARGUMENTS, *flags])


def a_job(*flags: str) -> JobContext:
    """The context of run 7 of a job with one inventory file."""
    file = ManifestFile(0, Location("inv", "daily/data/0.csv.gz"), 100, "0" * 32)
    manifest = Manifest(
        uri="s3://inv/daily/manifest.json",
        checksum="1" * 32,
        source_bucket="src",
        inventory_bucket="inv",
        format=InventoryFormat.CSV,
        columns=("Bucket", "Key", "Size", "ETag"),
        created_at=None,
        files=(file,),
    )
    can = Capabilities(checksum_mode=True, signed_body=True, trailing_checksum=True, full_object_crc=True)
    return JobContext(a_config(*flags), RunRef("a-job", 7, 1), "token", manifest, "src", can, can, workers=2)


def a_ref(row: int, size: int, key: str | None = None) -> ObjectRef:
    """The object of one row of file 0."""
    name = key or f"key-{row}"
    return ObjectRef(0, row, "src", name, None, size, "e" * 32, f"prefix/{name}")


def an_upload(parts: int, *, row: int = 0, recorded: tuple[PartRecord, ...] = ()) -> Upload:
    """An upload of one object in `parts` parts of 5 MiB."""
    return Upload(
        identity="identity",
        upload_id="upload-1",
        source=a_ref(row, parts * 5 * MIB, "large"),
        source_etag="e" * 32,
        destination_bucket="dst",
        part_size=5 * MIB,
        part_count=parts,
        full_object_crc=True,
        started_at=1.0,
        recorded=recorded,
    )


def a_part(number: int) -> PartRecord:
    return PartRecord(number, 5 * MIB, f"etag-{number}", None, "a" * 64, "crc=")


def done(upload: Upload, number: int, attempts: int = 1) -> PartResult:
    """Part `number` of `upload`, copied."""
    return PartResult(upload, number, PartOutcome.DONE, a_part(number), attempts=attempts)
