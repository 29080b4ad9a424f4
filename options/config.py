"""`JobConfig`: every decision of a run, made once at the edge and handed to DoFns as an argument.

Frozen and picklable; holds no secret. Sizes are in bytes and times in seconds, as the names say.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class EndpointOptions:
    """One side of the copy. `side` is "source" or "destination"; None leaves the choice to the AWS chain."""

    side: str
    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    role_arn: str | None = None
    addressing: str = "auto"
    """auto: path-style with an endpoint URL, virtual-hosted without; or path, virtual."""
    ca_bundle: str | None = None


@dataclass(frozen=True, slots=True)
class InventoryOptions:
    """What to read and how."""

    manifests: tuple[str, ...] = ()
    """One or more; the rows of all are one run."""
    csv_key_encoding: str = "plus"
    skip_bad_files: bool = False
    spool_dir: str | None = None
    """Where inventory files are spooled; None is the temporary directory."""


@dataclass(frozen=True, slots=True)
class DestinationOptions:
    """Where objects go: `bucket`, and `prefix` put before each source key as it is."""

    bucket: str = ""
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class RoutingOptions:
    """Size classes and how each fans out."""

    small_below_bytes: int = 1024 * 1024
    medium_up_to_bytes: int = 100 * 1024 * 1024
    small_unit_objects: int = 256
    small_unit_bytes: int = 64 * 1024 * 1024
    medium_unit_objects: int = 4
    part_size_bytes: int = 32 * 1024 * 1024
    slice_rows: int = 500_000
    part_layout: str = "size"
    """size: equal parts of `part_size_bytes`; source: cut as the source object was, so that ETags agree."""
    max_parts: int = 10_000
    """Most parts of one upload the destination takes."""


@dataclass(frozen=True, slots=True)
class CopyPolicy:
    """How objects are copied and what counts as proof."""

    evidence: str = "auto"
    """auto (the best grade without a second read), etag, server or readback."""
    on_change: str = "report"
    on_mismatch: str = "remove"
    source_etag: str = "md5"
    """md5: a plain source ETag is believed to be the MD5 where S3 says so; opaque: it never is."""
    check_destination: str = "sample"
    attempts: int = 5
    max_in_flight: int = 64
    """Small objects under way at once in one worker process."""
    medium_in_flight: int = 16
    parts_in_flight: int = 8
    memory_budget_bytes: int = 0
    """Bytes of bodies one worker process may hold; 0 derives it from the cgroup and the worker count."""
    connect_timeout_s: float = 15.0
    idle_timeout_s: float = 15.0
    transport: str = "native"
    max_requests_per_s: float = 0.0
    max_bytes_per_s: float = 0.0
    """Caps for the whole job; 0 means none."""
    hash: str = "auto"
    """The digests the ledger keeps: auto, or names with commas between (`options.copying.DIGESTS`)."""
    copy_mode: str = "stream"
    """stream: every byte passes here; server: the server copies; auto: the server, where its word is evidence."""
    recopy: bool = False
    """Copy what earlier runs verified, too."""
    record_replaced: bool = False
    """Look at the destination before each object is written."""
    retry_failed: bool = False
    """Copy only what an earlier run tried and did not bring to its end."""


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """What `verify` looks at, and what becomes of it."""

    destination_manifest: str | None = None
    """An inventory of the destination, joined with the source's; None asks the destination object by object."""
    list_destination: bool = False
    """A listing of the destination takes the place of its inventory."""
    deep: bool = False
    adopt: bool = False

    @property
    def is_joined(self) -> bool:
        """Whether what the destination holds is known before its objects are looked at."""
        return self.destination_manifest is not None or self.list_destination


@dataclass(frozen=True, slots=True)
class LedgerOptions:
    """How the ledger is written. Its DSN is a secret and comes from the environment (LEDGER_DSN or PG*)."""

    flush_rows: int = 2_000
    flush_bytes: int = 4 * 1024 * 1024
    flush_interval_s: float = 1.0
    lease_ttl_s: float = 60.0
    lease_wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class RunPolicy:
    """What the run as a whole may do."""

    job: str | None = None
    runner: str = "DirectRunner"
    workers: int = 0
    """Worker processes of DirectRunner; 0 means one per core."""
    summary: str | None = None
    max_failures: str | None = None
    """N or P%: above it the run stops; None never stops for failures."""
    strict_source: bool = False
    log_level: str = "INFO"
    export: str | None = None
    """Local folder for dead letters, retry and restore manifests; None writes none."""
    detach: bool = False
    """Submit the job to a cluster and return."""


@dataclass(frozen=True, slots=True)
class JobConfig:
    """All options of one `run` or `verify`."""

    source: EndpointOptions = field(default_factory=lambda: EndpointOptions("source"))
    destination_endpoint: EndpointOptions = field(default_factory=lambda: EndpointOptions("destination"))
    inventory: InventoryOptions = field(default_factory=InventoryOptions)
    destination: DestinationOptions = field(default_factory=DestinationOptions)
    routing: RoutingOptions = field(default_factory=RoutingOptions)
    copy: CopyPolicy = field(default_factory=CopyPolicy)
    ledger: LedgerOptions = field(default_factory=LedgerOptions)
    run: RunPolicy = field(default_factory=RunPolicy)
    beam_args: tuple[str, ...] = ()
    """Python-side Beam flags passed through, as given; Java runner options as --name=value."""
    verify: VerifyOptions | None = None
    """None copies."""
