"""How objects are copied, how fast, and what counts as proof."""

from __future__ import annotations

import argparse

from options import values
from options.config import CopyPolicy
from options.errors import UsageError
from options.flags import Flag, add_flags, choice_flag, number_flag, seconds_flag, size_flag, switch

MIB = 1024**2
TIB = 1024**4
EVIDENCE = ("auto", "etag", "server", "readback")
COPY_MODE = ("auto", "stream", "server")
ON_CHANGE = ("report", "copy")
ON_MISMATCH = ("remove", "keep")
SOURCE_ETAG = ("md5", "opaque")
CHECK_DESTINATION = ("none", "sample", "list")
AUTO = "auto"
DIGESTS = ("md5", "sha256", "crc32c", "crc64nvme")
TRANSPORT = ("native", "pyreqwest", "aiohttp")
LEAST_MEMORY = 8 * MIB
_DEFAULT = CopyPolicy()

EVIDENCE_FLAGS = (
    choice_flag(
        "evidence",
        _DEFAULT.evidence,
        "what an object's destination must show to be VERIFIED; auto: the best without a second read, "
        "etag: the ETag is our MD5, server: the server checked a digest of the body, "
        "readback: the object is read again",
        values.one_of(*EVIDENCE),
        EVIDENCE,
    ),
    Flag(
        "hash",
        f"digests the ledger keeps of every object at least, of {', '.join(DIGESTS)}, with commas between; "
        "auto: sha256,crc64nvme; one that is evidence is computed and kept beside them",
        values.one_or_list(AUTO, *DIGESTS),
        _DEFAULT.hash,
        _DEFAULT.hash,
        "auto|NAMES",
    ),
    choice_flag(
        "copy_mode",
        _DEFAULT.copy_mode,
        "who moves the bytes; stream: this job, which hashes them, server: the server itself, within one endpoint, "
        "auto: the server for objects whose copy its own checksums or ETags prove, unless --hash names digests",
        values.one_of(*COPY_MODE),
        COPY_MODE,
    ),
    choice_flag(
        "on_change",
        _DEFAULT.on_change,
        "an object that is no longer the one the inventory names; report: SOURCE_CHANGED, copy: copy what is there now",
        values.one_of(*ON_CHANGE),
        ON_CHANGE,
    ),
    choice_flag(
        "on_mismatch",
        _DEFAULT.on_mismatch,
        "a destination object that is wrong though its copy, of a large one each part, was repeated; remove or keep it",
        values.one_of(*ON_MISMATCH),
        ON_MISMATCH,
    ),
    choice_flag(
        "source_etag",
        _DEFAULT.source_etag,
        "whether a plain source ETag may be taken for the MD5 where S3 says it is one; opaque: never",
        values.one_of(*SOURCE_ETAG),
        SOURCE_ETAG,
    ),
    choice_flag(
        "check_destination",
        _DEFAULT.check_destination,
        "whether objects that an earlier run verified are looked for again; sample: some 100 requests a run, "
        "list: all of them",
        values.one_of(*CHECK_DESTINATION),
        CHECK_DESTINATION,
    ),
    switch(
        "record_replaced",
        "look at the destination before each object is written (a request an object) and record ETag and version of "
        "what was there",
    ),
    switch("recopy", "copy every object, also those that an earlier run of the job verified"),
    switch(
        "retry_failed",
        "copy only objects that an earlier run of the job left neither VERIFIED nor COPIED; "
        "what the ledger does not know is EXCLUDED",
    ),
)

PACE_FLAGS = (
    number_flag("attempts", _DEFAULT.attempts, "most tries of one request that may be repeated", values.whole(1, 100)),
    number_flag(
        "max_in_flight",
        _DEFAULT.max_in_flight,
        "most small objects under way at once in one worker process",
        values.whole(1, 10_000),
    ),
    number_flag(
        "medium_in_flight",
        _DEFAULT.medium_in_flight,
        "most medium objects under way at once in one worker process",
        values.whole(1, 10_000),
    ),
    number_flag(
        "parts_in_flight",
        _DEFAULT.parts_in_flight,
        "most parts of large objects under way at once in one worker process",
        values.whole(1, 10_000),
    ),
    size_flag(
        "memory_budget",
        _DEFAULT.memory_budget_bytes,
        "bytes of object bodies one worker process may hold, at least 8MiB; 0: from the memory of machine or container",
        values.size(LEAST_MEMORY, TIB, zero=True),
    ),
    seconds_flag(
        "connect_timeout",
        _DEFAULT.connect_timeout_s,
        "seconds a connection may take to open",
        values.number(0.1, 3600),
    ),
    seconds_flag(
        "idle_timeout",
        _DEFAULT.idle_timeout_s,
        "seconds without a byte before a request is given up",
        values.number(0.1, 3600),
    ),
    choice_flag(
        "transport",
        _DEFAULT.transport,
        "what carries the bodies; native: our own, the least CPU, pyreqwest and aiohttp: those libraries",
        values.one_of(*TRANSPORT),
        TRANSPORT,
    ),
    number_flag(
        "max_requests_per_s",
        _DEFAULT.max_requests_per_s,
        "cap on requests per second and endpoint, shared by all workers of the job; 0: none",
        values.number(0.1, 1e9, zero=True),
    ),
    size_flag(
        "max_bytes_per_s",
        int(_DEFAULT.max_bytes_per_s),
        "cap on bytes per second and endpoint, shared by all workers of the job (a size: 100MB); 0: none",
        values.size(1024, 1024 * TIB, zero=True),
    ),
)


def add_copying_flags(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of this theme."""
    add_flags(parser, "evidence", EVIDENCE_FLAGS)
    add_flags(parser, "pace and limits", PACE_FLAGS)


def read_copying(given: argparse.Namespace) -> CopyPolicy:
    """The flags of this theme. Raises UsageError for flags that contradict each other."""
    if given.copy_mode == "server" and given.hash != AUTO:
        raise UsageError(
            "--hash", "with --copy_mode=server no byte passes here to be hashed; leave it out or use --copy_mode=stream"
        )
    if given.recopy and given.retry_failed:
        raise UsageError("--retry_failed", "--recopy copies everything; give one of the two")
    return CopyPolicy(
        evidence=given.evidence,
        hash=given.hash,
        copy_mode=given.copy_mode,
        on_change=given.on_change,
        on_mismatch=given.on_mismatch,
        source_etag=given.source_etag,
        check_destination=given.check_destination,
        attempts=given.attempts,
        max_in_flight=given.max_in_flight,
        medium_in_flight=given.medium_in_flight,
        parts_in_flight=given.parts_in_flight,
        memory_budget_bytes=given.memory_budget,
        connect_timeout_s=given.connect_timeout,
        idle_timeout_s=given.idle_timeout,
        transport=given.transport,
        max_requests_per_s=given.max_requests_per_s,
        max_bytes_per_s=float(given.max_bytes_per_s),
        recopy=given.recopy,
        record_replaced=given.record_replaced,
        retry_failed=given.retry_failed,
    )
