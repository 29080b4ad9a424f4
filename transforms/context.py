"""`JobContext`: what every DoFn of one run is given, made once by the driver."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from ledger.leases import RunRef
from model.routing import Boundaries
from model.status import DestinationEvidence, Grade, evidence_meeting
from model.version import VERSION
from options.config import EndpointOptions, JobConfig
from storage.body_plan import AUTO
from storage.config import Capabilities, StoreConfig, TransferLimits
from storage.copier import CopyMode
from storage.inventory.manifest import Manifest
from storage.memory import available_bytes, body_budget


class FileSlice(NamedTuple):
    """Rows `start` up to `stop` (None: to the end) of one inventory file."""

    file_number: int
    start: int = 0
    stop: int | None = None


@dataclass(frozen=True, slots=True)
class JobContext:
    """Frozen and picklable; no secrets. `token` tells runs apart inside one process."""

    config: JobConfig
    run: RunRef
    token: str
    manifest: Manifest
    source_bucket: str
    source_can: Capabilities
    destination_can: Capabilities
    workers: int
    copy_mode: CopyMode = CopyMode.STREAM
    check_each: bool = False
    """Whether SkipVerified looks at every destination object it would skip."""
    destination_manifest: Manifest | None = None
    """An inventory of the destination to verify against."""
    version: str = VERSION
    # below the version, which a worker of another one has to find where it was
    started_at: datetime | None = None
    """When the run began, by the ledger's clock: with its number it tells this ledger from others."""
    source_principal: str | None = None
    destination_principal: str | None = None
    """The driver's, as in `storage.credentials.static_principal`."""


def store_config(side: EndpointOptions, config: JobConfig) -> StoreConfig:
    """The storage room's view of one endpoint's options."""
    return StoreConfig(
        side=side.side,
        endpoint_url=side.endpoint_url,
        region=side.region,
        profile=side.profile,
        role_arn=side.role_arn,
        addressing=side.addressing,
        ca_bundle=side.ca_bundle,
        connect_timeout_s=config.copy.connect_timeout_s,
        idle_timeout_s=config.copy.idle_timeout_s,
        transport=config.copy.transport,
    )


def boundaries(config: JobConfig) -> Boundaries:
    return Boundaries(config.routing.small_below_bytes, config.routing.medium_up_to_bytes)


def transfer_limits(config: JobConfig, workers: int) -> TransferLimits:
    """This process's share of the job's limits, for `workers` processes."""
    policy = config.copy
    return TransferLimits(
        small_in_flight=policy.max_in_flight,
        medium_in_flight=policy.medium_in_flight,
        parts_in_flight=policy.parts_in_flight,
        memory_budget_bytes=policy.memory_budget_bytes or body_budget(available_bytes(), workers),
        attempts=policy.attempts,
        requests_per_s=policy.max_requests_per_s / workers,
        bytes_per_s=policy.max_bytes_per_s / workers,
    )


def evidence_grade(config: JobConfig) -> Grade | None:
    """What `--evidence` asks for; None is auto."""
    return None if config.copy.evidence == "auto" else Grade(config.copy.evidence)


def kept_digests(config: JobConfig) -> frozenset[str]:
    """What `--hash` asks the ledger to keep at least."""
    return AUTO if config.copy.hash == "auto" else frozenset(config.copy.hash.split(","))


def adopted_evidence(job: JobContext) -> frozenset[DestinationEvidence]:
    """The same for an object that another tool wrote: no server checked its body for us, so any proof will do."""
    return evidence_meeting(evidence_grade(job.config) or Grade.ETAG)


def trusted_evidence(job: JobContext) -> frozenset[DestinationEvidence]:
    """The destination evidence an earlier run must have reached for its object to be skipped."""
    asked = evidence_grade(job.config)
    if asked is not None:
        return evidence_meeting(asked)
    can = job.destination_can
    # bodies sent whole, streamed, by parts, and what the server copied: each is held to the best of its kind
    proven = [can.signed_body or can.trailing_checksum, can.trailing_checksum, can.full_object_crc]
    if job.copy_mode is not CopyMode.STREAM:
        proven.append(False)
    unproven = Grade.ETAG if can.etag_is_md5 else Grade.READBACK
    return frozenset().union(*(evidence_meeting(Grade.SERVER if server else unproven) for server in proven))
