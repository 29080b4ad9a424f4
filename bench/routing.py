"""`python -m bench.routing MANIFEST WORKERS`: one run of s3ferry up to the point where copying would start.

Counts and spools the files, cuts slices, and runs each through ReadInventory, SelectObjects, SkipVerified,
PartitionBySize and the shuffle behind it, with workers as `s3ferry run` has them. Prints one JSON object.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.job import config_for, start_job
from pipeline.nursery import Nursery


def route(manifest_path: str, workers: int, flags: Sequence[str]) -> dict[str, Any]:
    """Rows read and routed, and the seconds it took: to count them, and to route them."""
    with contextlib.ExitStack() as stack:
        nursery = stack.enter_context(Nursery()) if workers > 1 else None
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        from pipeline.preflight import Preflight  # noqa: PLC0415 - loads Beam, after the settings above
        from pipeline.runners import preset_of, run_graph  # noqa: PLC0415
        from pipeline.slices import plan_slices  # noqa: PLC0415
        from transforms.read_inventory import clear_spool  # noqa: PLC0415
        from transforms.worker import close_worker  # noqa: PLC0415

        config = config_for(manifest_path, workers, [f"--spool_dir={folder}", *flags])
        preflight = Preflight(config)
        stack.callback(preflight.close)
        manifest = preflight.manifest()
        job = start_job(os.environ["LEDGER_DSN"], config, manifest)
        began = time.monotonic()
        counted, _ = preflight.count_rows(manifest, job.run)
        slices = plan_slices(counted, config.routing.slice_rows)
        planned = time.monotonic()
        found = folder / "counts"
        for number, files in enumerate(slices):
            run_graph(preset_of(config), nursery.command if nursery else None, _graph(job, files, f"{found}-{number}"))
        routed = time.monotonic()
        close_worker()
        clear_spool(config.inventory.spool_dir, job.run, others=False)
        return {
            "rows": sum(rows for _, rows in counted),
            "routed": sum(int(path.read_text()) for path in folder.glob("counts-*")),
            "slices": len(slices),
            "planning_s": planned - began,
            "routing_s": routed - planned,
        }


def _graph(job: Any, files: Any, found: str) -> Any:
    import apache_beam as beam  # noqa: PLC0415 - heavy

    from transforms.partition_by_size import PartitionBySize  # noqa: PLC0415
    from transforms.read_inventory import ReadInventory  # noqa: PLC0415
    from transforms.select_objects import SelectObjects  # noqa: PLC0415
    from transforms.skip_verified import SkipVerified  # noqa: PLC0415

    def build(pipeline: Any) -> None:
        rows = pipeline | "Slices" >> beam.Create(list(files), reshuffle=False) | "ReadInventory" >> ReadInventory(job)
        selected = rows.batches | "SelectObjects" >> SelectObjects(job)
        wanted = selected.refs | "SkipVerified" >> SkipVerified(job)
        small, medium, large = wanted.refs | "PartitionBySize" >> PartitionBySize(job.config.routing)
        counts = (
            small | "SpreadSmall" >> beam.Reshuffle() | "CountSmall" >> beam.Map(_objects_in),
            medium | "SpreadMedium" >> beam.Reshuffle() | "CountMedium" >> beam.Map(_objects_in),
            large | "SpreadLarge" >> beam.Reshuffle() | "CountLarge" >> beam.Map(_objects_in),
        )
        total = counts | "All" >> beam.Flatten() | "Sum" >> beam.CombineGlobally(sum)
        total | "Note" >> beam.Map(_note, found)

    return build


def _objects_in(element: Any) -> int:
    """1 for a large object, the number of objects for a unit."""
    return int(getattr(element, "objects", 1))


def _note(total: int, path: str) -> None:
    Path(path).write_text(str(total))


def main() -> None:
    # a handler on the root keeps Beam from printing its own log into the JSON
    logging.getLogger().addHandler(logging.NullHandler())
    manifest, workers, *flags = sys.argv[1:]
    print(json.dumps(route(manifest, int(workers), flags)))


if __name__ == "__main__":
    main()
