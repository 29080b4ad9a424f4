"""The servers of the benchmarks, each a process on loopback: MinIO, the null server, PostgreSQL."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

ACCESS_KEY, SECRET_KEY, REGION = "bench-access-key", "bench-secret-key", "us-east-1"
_START_S = 60.0
_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Server:
    """An S3 endpoint; `pid` is its process, for its CPU. `ca_bundle` is a PEM file for HTTPS."""

    url: str
    pid: int
    ca_bundle: str | None = None

    def client(self) -> Any:
        """A boto3 client that sends no checksum of its own accord."""
        import boto3  # noqa: PLC0415 - heavy
        from botocore.config import Config  # noqa: PLC0415

        return boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name=REGION,
            verify=self.ca_bundle,
            config=Config(
                s3={"addressing_style": "path"},
                max_pool_connections=32,
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )


@contextmanager
def _process(command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> Iterator[int]:
    """The id of a running process, which is ended on the way out. Its output is added to `log`."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, env={**os.environ, **(environment or {})}, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    """A loopback port nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def minio(binary: Path, folder: Path) -> Iterator[Server]:
    """A MinIO whose data are in `folder/data` and stay there."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    environment = {
        "MINIO_ROOT_USER": ACCESS_KEY,
        "MINIO_ROOT_PASSWORD": SECRET_KEY,
        "MINIO_BROWSER": "off",
        "MINIO_UPDATE": "off",
        "MINIO_SCANNER_SPEED": "slowest",
    }
    command = [str(binary), "server", "--quiet", "--address", f"127.0.0.1:{port}", str(folder / "data")]
    log = folder / "log"
    with _process(command, log, environment) as pid:
        url = f"http://127.0.0.1:{port}"
        _await(f"{url}/minio/health/live", log)
        yield Server(url, pid)


@contextmanager
def empty_minio(binary: Path, folder: Path) -> Iterator[Server]:
    """A MinIO that starts with nothing, on a disk that has nothing left to write for anyone else."""
    shutil.rmtree(folder, ignore_errors=True)
    os.sync()
    with minio(binary, folder) as server:
        yield server


def _await(url: str, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        try:
            with urlopen(url, timeout=5):  # noqa: S310 - a loopback URL made here
                return
        except HTTPError:
            pass
        except (URLError, OSError):
            pass
        time.sleep(0.05)
    raise RuntimeError(f"{url} gives no answer: {log.read_text(errors='replace')[-2000:]}")


def warm(folder: Path) -> None:
    """Reads all files under `folder`, so that no tool is the first to find them outside the page cache."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb", buffering=0) as file:
                while file.read(1 << 22):
                    pass


def built_nullserver(folder: Path) -> Path:
    """The null server's binary, built into `folder` from the checkout. Needs Go."""
    binary = folder / "nullserver"
    source = _HERE / "nullserver"
    subprocess.run(["go", "build", "-trimpath", "-o", str(binary.resolve()), "."], cwd=source, check=True)
    return binary


@contextmanager
def nullserver(binary: Path, folder: Path, *, tls: bool, latency_ms: int, size: int) -> Iterator[Server]:
    """A null server that answers after `latency_ms` milliseconds, with objects of `size` bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    ready, ca_bundle = folder / "ready.json", folder / "ca.pem"
    ready.unlink(missing_ok=True)
    scheme = "tls" if tls else "http"
    command = [str(binary), f"--{scheme}", "127.0.0.1:0", "--ready", str(ready), "--ca_bundle", str(ca_bundle)]
    command += ["--latency", f"{latency_ms}ms", "--size", str(size)]
    with _process(command, folder / "log") as pid:
        deadline = time.monotonic() + _START_S
        while not ready.exists():
            if time.monotonic() > deadline:
                raise RuntimeError(f"the null server did not start: {(folder / 'log').read_text()[-2000:]}")
            time.sleep(0.01)
        port = json.loads(ready.read_text())[scheme]
        if tls:
            yield Server(f"https://127.0.0.1:{port}", pid, str(ca_bundle))
        else:
            yield Server(f"http://127.0.0.1:{port}", pid)


@dataclass(frozen=True, slots=True)
class Postgres:
    """A PostgreSQL; `pid` is its first process."""

    dsn: str
    pid: int

    @contextmanager
    def database(self) -> Iterator[str]:
        """The DSN of an empty database, dropped afterwards; what earlier ones left to write is written first."""
        import psycopg  # noqa: PLC0415 - heavy
        from psycopg import sql  # noqa: PLC0415
        from psycopg.conninfo import make_conninfo  # noqa: PLC0415

        name = sql.Identifier(database := f"bench_{uuid.uuid4().hex[:12]}")
        with psycopg.connect(self.dsn, autocommit=True) as admin:
            admin.execute("CHECKPOINT")
            admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(name))
        try:
            yield make_conninfo(self.dsn, dbname=database)
        finally:
            with psycopg.connect(self.dsn, autocommit=True) as admin:
                admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))


@contextmanager
def postgres(folder: Path) -> Iterator[Postgres]:
    """An embedded PostgreSQL with its data in `folder`."""
    from local.postgres import running_postgres  # noqa: PLC0415 - heavy

    with running_postgres(folder) as dsn:
        yield Postgres(dsn, int((folder / "postmaster.pid").read_text().split()[0]))
