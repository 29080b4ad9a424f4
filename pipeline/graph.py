"""The job as one Beam graph: reads like the picture in the README."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apache_beam as beam

from model.records import PartResult, Upload
from model.status import SizeClass
from transforms.assemble_parts import AssembleParts
from transforms.complete_uploads import CompleteUploads
from transforms.context import FileSlice, JobContext
from transforms.copy_objects import CopyObjects
from transforms.copy_parts import CopyParts
from transforms.finalise_run import FinaliseRun
from transforms.open_uploads import OpenUploads
from transforms.partition_by_size import PartitionBySize
from transforms.read_inventory import ReadInventory
from transforms.select_objects import SelectObjects
from transforms.skip_verified import SkipVerified
from transforms.split_into_parts import ALREADY_DONE, SplitIntoParts
from transforms.tallies import RECORDS, TALLIES
from transforms.write_ledger import WriteLedger


def build_pipeline(
    pipeline: Any, job: JobContext, slices: Sequence[FileSlice], slice_number: int = 0, *, last: bool = True
) -> None:
    """Add the whole job over `slices` to `pipeline`. One leaf: FinaliseRun.

    `slice_number` counts the graphs of one run from 0; `last` says that the run ends with this one.
    """
    rows = pipeline | "Slices" >> beam.Create(list(slices), reshuffle=False) | "ReadInventory" >> ReadInventory(job)
    selected = rows.batches | "SelectObjects" >> SelectObjects(job)
    wanted = selected.refs | "SkipVerified" >> SkipVerified(job)
    small, medium, large = wanted.refs | "PartitionBySize" >> PartitionBySize(job.config.routing)

    copied_small = (
        small
        | "SpreadSmall" >> beam.Reshuffle()
        | "CopySmall" >> CopyObjects(job, SizeClass.SMALL)
        | "RecordSmall" >> WriteLedger(job)
    )
    copied_medium = (
        medium
        | "SpreadMedium" >> beam.Reshuffle()
        | "CopyMedium" >> CopyObjects(job, SizeClass.MEDIUM)
        | "RecordMedium" >> WriteLedger(job)
    )

    uploads = large | "SpreadLarge" >> beam.Reshuffle() | "OpenUploads" >> OpenUploads(job)
    parts = (
        uploads.uploads
        | "KeyUploads" >> beam.Map(_by_identity).with_output_types(tuple[str, Upload])
        | "GatherUploads" >> beam.Reshuffle()
        | "SplitIntoParts" >> SplitIntoParts(job)
    )
    copied_parts = (
        parts.parts
        | "SpreadParts" >> beam.Reshuffle()
        | "CopyParts" >> CopyParts(job)
        | "RecordParts" >> WriteLedger(job, parts=True)
    )
    completed = (
        (copied_parts, parts[ALREADY_DONE])
        | "AllParts" >> beam.Flatten()
        | "KeyParts" >> beam.Map(_by_upload).with_output_types(tuple[str, PartResult])
        | "GatherParts" >> beam.Reshuffle()
        | "AssembleParts" >> AssembleParts()
        | "SpreadAssemblies" >> beam.Reshuffle()
        | "CompleteUploads" >> CompleteUploads(job)
        | "RecordLarge" >> WriteLedger(job)
    )

    ended_early = (
        (selected[RECORDS], uploads[RECORDS], parts[RECORDS])
        | "EndedEarly" >> beam.Flatten()
        | "RecordEndedEarly" >> WriteLedger(job)
    )
    (
        (
            rows[TALLIES],
            selected[TALLIES],
            wanted[TALLIES],
            copied_small,
            copied_medium,
            completed,
            ended_early,
        )
        | "AllTallies" >> beam.Flatten()
        | "FinaliseRun" >> FinaliseRun(job, slice_number, last=last)
    )


def _by_identity(upload: Upload) -> tuple[str, Upload]:
    return upload.identity, upload


def _by_upload(result: PartResult) -> tuple[str, PartResult]:
    return result.upload.identity, result
