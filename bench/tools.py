"""The tools that are compared: how each is called, and what is known of an object after it has run."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.servers import ACCESS_KEY, REGION, SECRET_KEY, Server

_HERE = Path(__file__).parent
_LISTS = (_HERE / "peers.txt", _HERE.parent / "tests/fixtures/tools.txt")
_RCLONE_MULTIPART_ABOVE = 200 * 1024 * 1024
"""rclone's --s3-upload-cutoff: with --s3-no-head-object it reports copies above it as corrupted."""

S3FERRY = "s3ferry"
START_UP = "s3ferry, start-up"


@dataclass(frozen=True, slots=True)
class Job:
    """One copy: all of `source_bucket` into the empty `bucket`. `folder` is for the tool's own files."""

    source: Server
    destination: Server
    source_bucket: str
    bucket: str
    largest: int
    manifest: str
    ledger_dsn: str
    folder: Path

    @property
    def summary(self) -> Path:
        return self.folder / "summary.json"


@dataclass(frozen=True, slots=True)
class Call:
    """A command and what it adds to the environment."""

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tool:
    """`evidence` says, honestly and shortly, what can be shown afterwards for one object that was copied."""

    name: str
    call: Callable[[Job], Call]
    evidence: str
    verifies: bool
    """Whether the tool itself compares what it copied with what the source says or with its own digest."""
    ours: bool = False


def pinned() -> dict[str, str]:
    """Name -> version of every peer and server that is installed by the checkout's lists."""
    lines = [line.split() for path in _LISTS for line in path.read_text().splitlines()]
    return {line[0]: line[-1] for line in lines if line and not line[0].startswith("#")}


def binary(name: str) -> Path:
    """Where the installed `name` stands, whether or not it is there."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "s3ferry" / "tools"
    return cache / f"{name}-{pinned()[name]}"


def s3ferry_call(job: Job, flags: Sequence[str] = ()) -> Call:
    """`s3ferry run` with its defaults and `flags`."""
    command = [
        *(sys.executable, "-m", "pipeline.main", "run"),
        f"--manifest={job.manifest}",
        f"--destination=s3://{job.bucket}",
        f"--source_endpoint_url={job.source.url}",
        f"--destination_endpoint_url={job.destination.url}",
        f"--summary={job.summary}",
    ]
    for side, server in (("source", job.source), ("destination", job.destination)):
        if server.ca_bundle:
            command.append(f"--{side}_ca_bundle={server.ca_bundle}")
    environment = {
        f"{side}_AWS_{name}": value
        for side in ("SOURCE", "DESTINATION")
        for name, value in (("ACCESS_KEY_ID", ACCESS_KEY), ("SECRET_ACCESS_KEY", SECRET_KEY), ("REGION", REGION))
    }
    return Call([*command, *flags], {**environment, "LEDGER_DSN": job.ledger_dsn})


def _s3ferry(flags: Sequence[str]) -> Callable[[Job], Call]:
    return lambda job: s3ferry_call(job, flags)


def _rclone(*flags: str) -> Callable[[Job], Call]:
    def call(job: Job) -> Call:
        environment = {"RCLONE_CONFIG": ""}
        for remote, server in (("SRC", job.source), ("DST", job.destination)):
            environment |= {
                f"RCLONE_CONFIG_{remote}_TYPE": "s3",
                f"RCLONE_CONFIG_{remote}_PROVIDER": "Minio",
                f"RCLONE_CONFIG_{remote}_ENDPOINT": server.url,
                f"RCLONE_CONFIG_{remote}_ACCESS_KEY_ID": ACCESS_KEY,
                f"RCLONE_CONFIG_{remote}_SECRET_ACCESS_KEY": SECRET_KEY,
                f"RCLONE_CONFIG_{remote}_REGION": REGION,
            }
        used = [flag for flag in flags if flag != "--s3-no-head-object" or job.largest <= _RCLONE_MULTIPART_ABOVE]
        command = [str(binary("rclone")), "copy", f"SRC:{job.source_bucket}", f"DST:{job.bucket}", *used]
        return Call(command, environment)

    return call


_RCLONE_TUNED = ("--transfers=32", "--checkers=32", "--s3-no-check-bucket", "--fast-list")
_RCLONE_UNCHECKED = (
    *_RCLONE_TUNED,
    "--ignore-checksum",
    "--no-check-dest",
    "--s3-disable-checksum",
    "--s3-no-head",
    "--s3-no-head-object",
)


def _mc(job: Job) -> Call:
    def host(server: Server) -> str:
        return server.url.replace("://", f"://{ACCESS_KEY}:{SECRET_KEY}@", 1)

    environment = {
        "MC_HOST_src": host(job.source),
        "MC_HOST_dst": host(job.destination),
        "MC_CONFIG_DIR": str(job.folder / "mc"),
    }
    return Call([str(binary("mc")), "mirror", "--quiet", f"src/{job.source_bucket}", f"dst/{job.bucket}"], environment)


def _s3sync(*flags: str) -> Callable[[Job], Call]:
    def call(job: Job) -> Call:
        command = [str(binary("s3sync")), *flags]
        environment: dict[str, str] = {}
        for side, server in (("source", job.source), ("target", job.destination)):
            command += [
                f"--{side}-endpoint-url={server.url}",
                f"--{side}-region={REGION}",
                f"--{side}-force-path-style",
            ]
            environment |= {
                f"{side.upper()}_ACCESS_KEY": ACCESS_KEY,
                f"{side.upper()}_SECRET_ACCESS_KEY": SECRET_KEY,
            }
        return Call([*command, f"s3://{job.source_bucket}/", f"s3://{job.bucket}/"], environment)

    return call


def _boto3(job: Job) -> Call:
    command = [
        *(sys.executable, "-m", "bench.boto3_loop"),
        f"--source={job.source.url}/{job.source_bucket}",
        f"--destination={job.destination.url}/{job.bucket}",
        f"--digests={job.folder / 'digests.tsv'}",
    ]
    environment = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "AWS_DEFAULT_REGION": REGION}
    return Call(command, environment)


_LEDGER = "a row in PostgreSQL: digests, both ETags, on what evidence each side is believed, status, times"

_PEERS = (
    Tool(
        "rclone",
        _rclone(),
        "none; it compared the ETag of plain objects with the source's (MD5) and said so in its exit code",
        True,
    ),
    Tool(
        "rclone, 32 transfers",
        _rclone(*_RCLONE_TUNED),
        "none; compared as rclone's default does",
        True,
    ),
    Tool(
        "rclone, every check off",
        _rclone(*_RCLONE_UNCHECKED),
        "none, and nothing was compared",
        False,
    ),
    Tool("mc mirror", _mc, "none; no digest of its own", False),
    Tool(
        "s3sync",
        _s3sync(),
        "log lines; it compared the ETags both servers report",
        True,
    ),
    Tool(
        "s3sync, SHA-256",
        _s3sync("--additional-checksum-algorithm=SHA256"),
        "log lines, and a SHA-256 the destination stores; the source's own is not checked where it has none",
        True,
    ),
    Tool(
        "s3sync, every check off",
        _s3sync("--worker-size=32", "--disable-tagging", "--disable-etag-verify", "--disable-multipart-verify"),
        "log lines, and nothing was compared",
        False,
    ),
    Tool(
        "boto3, 32 threads",
        _boto3,
        "a file of MD5 and SHA-256; the MD5 was compared with the ETag of plain objects on both sides",
        True,
    ),
)


def tools(wanted: Sequence[str], variants: Mapping[str, Sequence[str]]) -> tuple[list[Tool], list[str]]:
    """s3ferry, its `variants` (name -> further flags) and the `wanted` peers; then the names that are not installed.

    A wanted name is the first word of a tool: `rclone` stands for all its settings.
    """
    found = [Tool(S3FERRY, _s3ferry(()), _LEDGER, True, ours=True)]
    found += [Tool(f"{S3FERRY}, {name}", _s3ferry(flags), _LEDGER, True, ours=True) for name, flags in variants.items()]
    missing = [name for name in wanted if name in pinned() and not binary(name).exists()]
    for tool in _PEERS:
        word = program(tool)
        if word in wanted and word not in missing:
            found.append(tool)
    return found, missing


def program(tool: Tool) -> str:
    """The program a tool is a setting of."""
    return tool.name.split(",")[0].split(" ")[0]


PROGRAMS = tuple(dict.fromkeys(program(tool) for tool in _PEERS))
EVIDENCE = {tool.name: tool.evidence for tool in _PEERS}
