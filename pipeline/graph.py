"""The job as one Beam graph: reads like the picture in the README."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apache_beam as beam

from model.objects import CopyUnit, ObjectRef, pack_unit
from model.records import PartResult, Upload
from model.status import SizeClass
from transforms.assemble_parts import AssembleParts
from transforms.complete_uploads import CompleteUploads
from transforms.context import FileSlice, JobContext
from transforms.copy_objects import CopyObjects
from transforms.copy_parts import CopyParts
from transforms.finalise_run import FinaliseRun
from transforms.load_destination import LoadDestination
from transforms.open_uploads import OpenUploads
from transforms.partition_by_size import PartitionBySize
from transforms.read_inventory import ReadInventory
from transforms.select_objects import SelectObjects
from transforms.skip_verified import SkipVerified
from transforms.split_into_parts import ALREADY_DONE, SplitIntoParts
from transforms.tallies import RECORDS, TALLIES
from transforms.verify_objects import VerifyObjects
from transforms.write_ledger import WriteLedger


def build_pipeline(
    pipeline: Any, job: JobContext, slices: Sequence[FileSlice], slice_number: int = 0, *, last: bool = True
) -> None:
    """Add the whole job over `slices` to `pipeline`. One leaf: FinaliseRun.

    `slice_number` counts the graphs of one run from 0; `last` says that the run ends with this one.
    """
    rows = pipeline | "Slices" >> beam.Create(list(slices), reshuffle=False) | "ReadInventory" >> ReadInventory(job)
    selected = rows.batches | "SelectObjects" >> SelectObjects(job)
    tallies = _copied(job, selected) if job.config.verify is None else _verified(job, selected)
    (
        (rows[TALLIES], selected[TALLIES], *tallies)
        | "AllTallies" >> beam.Flatten()
        | "FinaliseRun" >> FinaliseRun(job, slice_number, last=last)
    )


def build_loading(pipeline: Any, job: JobContext, files: Sequence[FileSlice]) -> None:
    """Add the loading of the destination's inventory to `pipeline`; it comes before the job's own graphs."""
    (
        pipeline
        | "DestinationFiles" >> beam.Create(list(files), reshuffle=False)
        | "LoadDestination" >> LoadDestination(job)
        | "CountObjects" >> beam.CombineGlobally(sum).without_defaults()
    )


def _verified(job: JobContext, selected: Any) -> Sequence[Any]:
    """Look at each object at the destination; tallies of how that ended."""
    refs = selected.refs | "EachObject" >> beam.FlatMap(list).with_output_types(ObjectRef)
    small, medium, large = refs | "PartitionBySize" >> PartitionBySize(job.config.routing)
    verified_small = (
        small
        | "SpreadSmall" >> beam.Reshuffle()
        | "VerifySmall" >> VerifyObjects(job, SizeClass.SMALL)
        | "RecordSmall" >> WriteLedger(job)
    )
    verified_medium = (
        medium
        | "SpreadMedium" >> beam.Reshuffle()
        | "VerifyMedium" >> VerifyObjects(job, SizeClass.MEDIUM)
        | "RecordMedium" >> WriteLedger(job)
    )
    verified_large = (
        large
        | "PackLarge" >> beam.Map(_alone).with_output_types(CopyUnit)
        | "SpreadLarge" >> beam.Reshuffle()
        | "VerifyLarge" >> VerifyObjects(job, SizeClass.LARGE)
        | "RecordLarge" >> WriteLedger(job)
    )
    ended_early = selected[RECORDS] | "RecordEndedEarly" >> WriteLedger(job)
    return verified_small, verified_medium, verified_large, ended_early


def _copied(job: JobContext, selected: Any) -> Sequence[Any]:
    """Copy each object that no earlier run proved; tallies of how that ended."""
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
    return wanted[TALLIES], copied_small, copied_medium, completed, ended_early


def _alone(ref: ObjectRef) -> CopyUnit:
    return pack_unit(SizeClass.LARGE, [ref])


def _by_identity(upload: Upload) -> tuple[str, Upload]:
    return upload.identity, upload


def _by_upload(result: PartResult) -> tuple[str, PartResult]:
    return result.upload.identity, result
