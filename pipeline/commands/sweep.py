"""`s3ferry sweep`: find uploads that nobody will end, show them, and abort them when told to."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from model.errors import TransferError
from model.outcome import Exit
from options.config import JobConfig
from options.sweep import SweepConfig
from pipeline.commands.dsn import named_dsn
from pipeline.logs import printable
from pipeline.report import human_bytes

if TYPE_CHECKING:
    from ledger.uploads import LeftUpload
    from storage.open_uploads import OpenUpload

_AT_ONCE = 16
CLOCK_SKEW_S = 300.0
"""How far the server's clock may be behind the ledger's."""


class Found(NamedTuple):
    """An upload that may go. `left` is what the ledger knows of it, None where it was only listed."""

    upload: OpenUpload
    left: LeftUpload | None


def execute(config: SweepConfig) -> int:
    """Show the uploads, abort them with `--yes`, and return the exit code: 1 where one could not be aborted.

    Raises InvalidInput where no ledger is named, RunBroken. May be repeated: what is gone already is fine.
    """
    sweep = _Sweep(config)
    found = sweep.weigh(sorted(sweep.find(), key=lambda one: (one.upload.initiated, one.upload.key)))
    there = [(one, weight) for one, weight in found if weight is not None]
    gone = sweep.gone([one for one, weight in found if weight is None])
    failed = 0
    for one, weight in there:
        error = sweep.abort(one) if config.yes else None
        failed += error is not None
        sys.stdout.write(sweep.line(one, weight) + (f"  not aborted: {printable(error)}" if error else "") + "\n")
    total = human_bytes(sum(weight for _, weight in there))
    if not config.yes:
        sys.stdout.write(f"{len(there)} uploads hold {total}" + ("; --yes aborts them\n" if there else "\n"))
    else:
        sys.stdout.write(f"{len(there) - failed} of {len(there)} uploads aborted, which hold {total} together\n")
    if gone:
        closed = f"{sum(sweep.close(one) for one in gone)} of them closed" if config.yes else "--yes closes them"
        sys.stdout.write(f"{len(gone)} uploads are open in the ledger and gone at the destination; {closed}\n")
    return Exit.FAILURES if failed else Exit.OK


class _Sweep:
    """One sweep of one destination."""

    def __init__(self, config: SweepConfig) -> None:
        from storage.control import make_control_client  # noqa: PLC0415 (loads boto3)
        from storage.credentials import make_session  # noqa: PLC0415
        from transforms.context import store_config  # noqa: PLC0415 (loads psycopg)

        self._config = config
        self._bucket, self._prefix = config.destination.bucket, config.destination.prefix
        self._before = time.time() - config.older_than_s
        self._rows: list[LeftUpload] = []
        self._known: dict[tuple[str, str], Found] = {}
        self._dsn = named_dsn()
        store = store_config(config.endpoint, JobConfig())
        self._control: Any = make_control_client(store, make_session(store))

    # plan

    def find(self) -> list[Found]:
        """Every upload that is old enough and of no run under way, each once."""
        left = self._left()
        # a run claims an upload in the ledger before it creates it
        spared = {one.destination_key for one in left if one.live}
        endpoint = self._config.endpoint.endpoint_url or ""
        self._rows = [one for one in left if one.destination_endpoint == endpoint and one.destination_key not in spared]
        # what is of a row last: it may have been nobody's under another row
        known = sorted(self._known_uploads(), key=lambda one: one.left is not None)
        self._known = {(one.upload.key, one.upload.upload_id): one for one in known}
        find = self._config.find
        listed = () if find == "ledger" else self._listed()
        named = {(upload.key, upload.upload_id): Found(upload, None) for upload in listed}
        wanted = named.keys() if find == "listing" else named.keys() | self._known.keys()
        every = [self._known[name] if name in self._known else named[name] for name in wanted]
        return [one for one in every if one.upload.initiated <= self._before and one.upload.key not in spared]

    def gone(self, missing: list[Found]) -> list[LeftUpload]:
        """The rows, old enough, whose upload is not there: none was found, or it is among the `missing`."""
        if self._config.find == "listing":
            return []
        there = {one.left.identity for one in self._known.values() if one.left and one not in missing}
        return [row for row in self._rows if row.started_at <= self._before and row.identity not in there]

    def _left(self, prefix: str | None = None) -> list[LeftUpload]:
        from ledger.retry import repeat  # noqa: PLC0415 (loads psycopg)
        from ledger.uploads import left_uploads  # noqa: PLC0415

        below = self._prefix if prefix is None else prefix
        return repeat(self._dsn, "sweep", lambda conn: left_uploads(conn, self._bucket, below))

    def _listed(self) -> Iterator[OpenUpload]:
        from storage.open_uploads import list_uploads  # noqa: PLC0415

        listed = list(list_uploads(self._control, self._bucket, self._prefix))
        # MinIO lists nothing below a prefix that is no key, and what it has begun since its start without one
        yield from listed or (
            upload
            for upload in (list_uploads(self._control, self._bucket, "") if self._prefix else ())
            if upload.key.startswith(self._prefix)
        )

    def _known_uploads(self) -> Iterator[Found]:
        """The upload of each row: the one it names, or where none was recorded the oldest that no other row names.

        More of them under that key are nobody's, and found as if listed: MinIO may list them no other way.
        """
        from storage.open_uploads import OpenUpload, uploads_of  # noqa: PLC0415

        taken = {one.upload_id for one in self._rows}
        for row in self._rows:
            key = row.destination_key
            if row.upload_id:
                yield Found(OpenUpload(key, row.upload_id, row.started_at), row)
                continue
            # some servers list it only under its exact key
            listed = uploads_of(self._control, self._bucket, key, row.started_at - CLOCK_SKEW_S)
            free = [one for one in listed if one.upload_id not in taken]
            taken.update(one.upload_id for one in free[:1])
            yield from (Found(one, row) for one in free[:1])
            yield from (Found(one, None) for one in free[1:] if self._config.find == "all")

    # show

    def weigh(self, found: list[Found]) -> list[tuple[Found, int | None]]:
        """The uploads with the bytes they hold; None where one is gone."""
        from storage.open_uploads import held_bytes  # noqa: PLC0415

        with ThreadPoolExecutor(_AT_ONCE) as threads:
            weights = threads.map(lambda one: held_bytes(self._control, self._bucket, one.upload), found)
            return list(zip(found, weights, strict=True))

    def line(self, found: Found, weight: int) -> str:
        """What is known of one upload, on one line."""
        upload, left = found
        begun = datetime.fromtimestamp(upload.initiated, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        by = f"run {left.run_id}" if left is not None else "listed"
        place = f"s3://{self._bucket}/{printable(upload.key)}"
        return f"{begun}  {human_bytes(weight):>10}  {by:<10}  {place}  {upload.upload_id}"

    # act

    def abort(self, found: Found) -> str | None:
        """Abort one upload and close its row; what went wrong, or None."""
        from ledger.retry import repeat  # noqa: PLC0415
        from ledger.uploads import end_left  # noqa: PLC0415
        from storage.open_uploads import abort_upload  # noqa: PLC0415

        upload, left = found

        def abort() -> None:
            abort_upload(self._control, self._bucket, upload.key, upload.upload_id)

        try:
            if left is not None:
                ended = repeat(self._dsn, "sweep", lambda conn: end_left(conn, left, abort))
                return None if ended else "a run has taken it up again"
            if any(one.live and one.destination_key == upload.key for one in self._left(upload.key)):
                return "a run copies to its key"
            abort()
        except TransferError as error:
            return error.message
        return None

    def close(self, row: LeftUpload) -> bool:
        """Close the row of an upload that is gone; False where a run has taken it up again."""
        from ledger.retry import repeat  # noqa: PLC0415
        from ledger.uploads import end_left  # noqa: PLC0415

        return repeat(self._dsn, "sweep", lambda conn: end_left(conn, row, lambda: None))
