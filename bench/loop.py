"""`python -m bench.loop`: the bare loop, the least a verified copy of small objects can cost in this language.

GET, MD5 + SHA-256 + CRC64NVME, PUT signed with the SHA-256, by pyreqwest, uvloop and awscrt: no Beam, no
ledger, no retries, no evidence. It shares no code with s3ferry on purpose, so that a ratio to it shows
what s3ferry's own code costs. Prints one JSON object; all figures are of the copying alone, without start-up.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import json
import resource
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
_OK = 200


@dataclass(frozen=True, slots=True)
class Work:
    """One process's share: the object numbers `first` <= n < `last`, each of `size` bytes."""

    endpoint: str
    ca_bundle: str | None
    first: int
    last: int
    size: int
    in_flight: int


class Figures(NamedTuple):
    """Of one process. `began` and `ended` are monotonic seconds, shared by all processes of a machine."""

    began: float
    ended: float
    cpu_s: float
    start_up_cpu_s: float
    peak_rss_bytes: int


def copy_all(work: Work) -> Figures:
    """Copies one share and measures it."""
    import uvloop  # noqa: PLC0415 - counted as start-up of the process that copies

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return uvloop.run(_copy_all(work))


async def _copy_all(work: Work) -> Figures:
    loop = _Loop(work)
    start_up, began = _cpu_s(), time.monotonic()
    numbers = iter(range(work.first, work.last))
    await asyncio.gather(*(loop.copy_from(numbers) for _ in range(min(work.in_flight, work.last - work.first))))
    ended = time.monotonic()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    figures = Figures(began, ended, _cpu_s() - start_up, start_up, peak)
    await loop.close()
    return figures


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class _Loop:
    def __init__(self, work: Work) -> None:
        from awscrt import auth, checksums, http  # noqa: PLC0415

        self._auth, self._http, self._crc64nvme = auth, http, checksums.crc64nvme
        self._credentials = auth.AwsCredentialsProvider.new_static("bench", "bench-secret")
        self._endpoint, self._host = work.endpoint, urlsplit(work.endpoint).netloc
        self._size = work.size
        # two, as any client has that copies from one endpoint to another
        self._source, self._destination = self._client(work), self._client(work)

    @staticmethod
    def _client(work: Work) -> Any:
        from pyreqwest.client import ClientBuilder  # noqa: PLC0415

        builder = (
            ClientBuilder()
            .http1_only()
            .gzip(False)
            .brotli(False)
            .zstd(False)
            .deflate(False)
            .follow_redirects(False)
            .referer(False)
            .no_proxy()
            .pool_max_idle_per_host(work.in_flight)
            .tcp_nodelay(True)
        )
        if work.ca_bundle:
            builder = builder.add_root_certificate_pem(Path(work.ca_bundle).read_bytes())
        return builder.build()

    async def copy_from(self, numbers: Iterator[int]) -> None:
        """Copies one object after the other until there are none left."""
        for number in numbers:
            await self._copy(f"loop/{number:07}@{self._size}")

    async def _copy(self, key: str) -> None:
        source, destination = f"/source/{key}", f"/destination/{key}"
        request = self._source.get(self._endpoint + source).headers(self._signed("GET", source, {}, EMPTY_SHA256))
        response = await request.build().send()
        etag = response.headers["etag"].strip('"')
        body = memoryview(await response.bytes())
        self._expect(response.status, "GET")
        md5 = hashlib.md5(body, usedforsecurity=False).hexdigest()
        sha256 = hashlib.sha256(body).hexdigest()
        crc = base64.b64encode(self._crc64nvme(body).to_bytes(8, "big")).decode()
        if md5 != etag or len(body) != self._size:
            raise RuntimeError(f"{key}: the bytes read are not the object's")
        headers = self._signed("PUT", destination, {"x-amz-checksum-crc64nvme": crc}, sha256)
        request = self._destination.put(self._endpoint + destination).headers(headers).body_bytes(body)
        response = await request.build().send()
        self._expect(response.status, "PUT")

    @staticmethod
    def _expect(status: int, method: str) -> None:
        if status != _OK:
            raise RuntimeError(f"{method} was answered with {status}")

    def _signed(self, method: str, target: str, headers: dict[str, str], payload: str) -> dict[str, str]:
        auth, http = self._auth, self._http
        request = http.HttpRequest(method, target, http.HttpHeaders([("host", self._host), *headers.items()]))
        config = auth.AwsSigningConfig(
            algorithm=auth.AwsSigningAlgorithm.V4,
            signature_type=auth.AwsSignatureType.HTTP_REQUEST_HEADERS,
            credentials_provider=self._credentials,
            region="us-east-1",
            service="s3",
            date=datetime.now(UTC),
            use_double_uri_encode=False,
            should_normalize_uri_path=False,
            signed_body_value=payload,
            signed_body_header_type=auth.AwsSignedBodyHeaderType.X_AMZ_CONTENT_SHA_256,
        )
        auth.aws_sign_request(request, config).result()
        signed = dict(request.headers)
        del signed["host"]
        return signed

    async def close(self) -> None:
        for client in (self._source, self._destination):
            await client.close()


def run(works: list[Work]) -> list[Figures]:
    """Each share in a process of its own; one share in this one."""
    if len(works) == 1:
        return [copy_all(works[0])]
    with ProcessPoolExecutor(len(works), mp_context=get_context("spawn")) as pool:
        return list(pool.map(copy_all, works))


def shares(options: argparse.Namespace) -> list[Work]:
    """The work of each process; `--in_flight` is of all of them together."""
    cuts = [options.count * number // options.processes for number in range(options.processes + 1)]
    each = max(1, options.in_flight // options.processes)
    return [
        Work(options.endpoint, options.ca_bundle, cuts[number], cuts[number + 1], options.size, each)
        for number in range(options.processes)
    ]


def summed(figures: list[Figures], count: int) -> dict[str, Any]:
    """What is printed: seconds, CPU seconds, bytes."""
    seconds = max(one.ended for one in figures) - min(one.began for one in figures)
    cpu = sum(one.cpu_s for one in figures)
    return {
        "objects": count,
        "seconds": seconds,
        "objects_per_s": count / seconds if seconds else 0.0,
        "cpu_s": cpu,
        "cpu_ms_per_object": 1000 * cpu / count if count else 0.0,
        "start_up_cpu_s": sum(one.start_up_cpu_s for one in figures),
        "peak_rss_bytes": sum(one.peak_rss_bytes for one in figures),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.loop", allow_abbrev=False, description=__doc__)
    parser.add_argument("--endpoint", required=True, help="URL of a null server")
    parser.add_argument("--ca_bundle", help="certificates (PEM) to trust")
    parser.add_argument("--count", type=int, default=20_000, help="objects to copy")
    parser.add_argument("--size", type=int, default=100_000, help="bytes of each")
    parser.add_argument(
        "--in_flight", type=int, default=64, help="objects under way at once, in all processes together"
    )
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    json.dump(summed(run(shares(options)), options.count), sys.stdout)
    print()


if __name__ == "__main__":
    main()
