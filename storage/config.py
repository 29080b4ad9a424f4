"""What storage needs to know of an endpoint and of a worker process. Frozen, picklable, no secrets."""

from __future__ import annotations

from dataclasses import dataclass

from model.routing import KIB, MIB

SOURCE = "source"
DESTINATION = "destination"
COPY = "copy"
"""Whose refusals those of CopyObject and UploadPartCopy are: they are about both objects at once."""


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """One endpoint. `side` is "source" or "destination" and names the environment variables of its keys."""

    side: str
    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    role_arn: str | None = None
    addressing: str = "auto"
    ca_bundle: str | None = None
    connect_timeout_s: float = 15.0
    idle_timeout_s: float = 15.0
    transport: str = "native"
    """The fast transport, by its name in `storage.transports`."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a first probe found an endpoint to do. See `storage.capabilities`."""

    trailing_checksum: bool = False
    """Takes a trailing CRC64NVME, and refuses a wrong one."""
    signed_body: bool = False
    """Refuses a body that is not the one whose SHA-256 was signed."""
    etag_is_md5: bool = False
    """The ETag of a plain upload is the MD5 of its body."""
    full_object_crc: bool = False
    """CreateMultipartUpload takes ChecksumType FULL_OBJECT with CRC64NVME."""
    checksum_mode: bool = True
    """Bears `x-amz-checksum-mode: ENABLED` on reads."""


@dataclass(frozen=True, slots=True)
class TransferLimits:
    """Sizes in bytes, counts per worker process, rates per second for this process (0: none)."""

    whole_body_bytes: int = MIB
    """Bodies up to this are read whole, verified, and sent signed; above it they stream."""
    window_bytes: int = 512 * KIB
    """What one streamed body holds: one window under way and one held back. At least 8 KiB: S3's smallest chunk."""
    small_in_flight: int = 64
    medium_in_flight: int = 16
    parts_in_flight: int = 8
    memory_budget_bytes: int = 256 * MIB
    attempts: int = 5
    requests_per_s: float = 0.0
    bytes_per_s: float = 0.0
