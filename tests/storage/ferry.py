"""What the storage tests drive: an engine, and clients and contexts for any pair of servers."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

from model.objects import ObjectRef
from model.parts import plan_parts
from model.records import IntegrityRecord, Part, PartOutcome, PartRecord, PartResult, Upload, upload_identity
from model.routing import Boundaries, size_class
from storage.capabilities import probe_destination, probe_reads
from storage.client import S3Client
from storage.completion import complete
from storage.config import Capabilities, StoreConfig, TransferLimits
from storage.control import make_control_client
from storage.copier import CopyContext, CopyRules, ObjectCopy
from storage.credentials import make_session, region_of
from storage.engine import Engine
from storage.limits import EndpointLimit, Rate
from storage.multipart import CONTROL_THREADS, Multipart, UploadEnd
from storage.part_copy import copy_part
from storage.signing import Signer
from storage.transports import make_transports
from tests.fixtures.s3 import S3Server

PART = 5 * 1024 * 1024
PREFIX = "copied/"


def body_of(name: str, size: int) -> bytes:
    """`size` bytes that only `name` has."""
    seed = hashlib.sha256(name.encode()).digest() * 1024
    return (seed * (size // len(seed) + 1))[:size]


@dataclass
class Endpoint:
    """One side: the data-plane client, the boto3 client of the control plane, and the limit it reports to."""

    client: S3Client
    control: Any
    limit: EndpointLimit


@dataclass
class Ferry:
    """An engine with everything opened on it."""

    engine: Engine
    threads: ThreadPoolExecutor
    _endpoints: dict[tuple[Any, ...], Endpoint] = field(default_factory=dict)
    _boto: dict[str, Any] = field(default_factory=dict)
    _stores: dict[int, tuple[StoreConfig, dict[str, str]]] = field(default_factory=dict)

    def boto(self, server: S3Server) -> Any:
        """A boto3 client of a server, to prepare and to look."""
        if server.endpoint_url not in self._boto:
            self._boto[server.endpoint_url] = server.client()
        return self._boto[server.endpoint_url]

    def endpoint(
        self, server: S3Server, side: str, *, url: str | None = None, secret: str | None = None, timeout_s: float = 10.0
    ) -> Endpoint:
        """Clients for `server` by the default transport, at `url` where a proxy stands before it; each made once."""
        server = replace(server, endpoint_url=url or server.endpoint_url, secret_key=secret or server.secret_key)
        name = (server, side, timeout_s)
        if name not in self._endpoints:
            self._endpoints[name] = self._open(server, side, timeout_s)
        return self._endpoints[name]

    def _open(self, server: S3Server, side: str, timeout_s: float) -> Endpoint:
        store = StoreConfig(
            side, server.endpoint_url, server.region, connect_timeout_s=timeout_s, idle_timeout_s=timeout_s
        )
        session = make_session(store, server.environment(side.upper()))
        control = make_control_client(store, session)
        self._stores[id(control)] = store, server.environment(side.upper())
        limit = EndpointLimit(64)
        client = S3Client(
            store,
            control.meta.endpoint_url,
            Signer(session, region_of(store, session, {}), side),
            *make_transports(store),
            limit,
        )
        return Endpoint(client, control, limit)

    def capabilities(self, destination: Endpoint, bucket: str) -> Capabilities:
        """What the probe finds at a destination."""
        found: Capabilities = self.engine.run(probe_destination(destination.client, destination.control, bucket, ""))
        return found

    def context(
        self,
        source: Endpoint,
        source_bucket: str,
        destination: Endpoint,
        destination_bucket: str,
        *,
        can: Capabilities | None = None,
        limits: TransferLimits | None = None,
        **rules: Any,
    ) -> CopyContext:
        """A context for copies; `rules` as in CopyRules, `can` in place of what the probe finds."""
        return CopyContext(
            source=source.client,
            destination=destination.client,
            destination_control=destination.control,
            source_can=self.engine.run(probe_reads(source.client, source_bucket)),
            destination_can=can or self.capabilities(destination, destination_bucket),
            rules=CopyRules(destination_bucket, **rules),
            limits=limits or TransferLimits(),
            requests=Rate(0),
            bytes=Rate(0),
        )

    def copy(self, context: CopyContext, *refs: ObjectRef) -> list[IntegrityRecord]:
        """The records of `refs`, in their order."""

        async def one(ref: ObjectRef) -> IntegrityRecord:
            return await ObjectCopy(context, ref, size_class(ref.size, Boundaries())).run()

        bundle = self.engine.open_bundle()
        bundle.submit(one, refs)
        return sorted(chain.from_iterable(bundle.drain()), key=lambda record: record.row_number)

    def steps(self, context: CopyContext) -> Multipart:
        """The multipart steps over `context`."""
        store, environment = self._stores[id(context.destination_control)]
        return Multipart(
            context, self.threads, lambda: make_control_client(store, make_session(store, environment), attempts=1)
        )

    def open_upload(self, context: CopyContext, ref: ObjectRef, part_size: int = PART) -> Upload:
        """Pin the source and create an upload with parts of `part_size` bytes."""
        steps = self.steps(context)
        pinned = self.engine.run(steps.pin(ref))
        upload_id = self.engine.run(steps.create(ref, pinned, full_object_crc=context.destination_can.full_object_crc))
        plan = plan_parts(ref.size, part_size)
        bucket = context.rules.destination_bucket
        return Upload(
            identity=upload_identity("destination", bucket, "source", ref, pinned.etag, plan.name),
            upload_id=upload_id,
            source=ref,
            source_etag=pinned.etag,
            destination_bucket=bucket,
            part_size=plan.part_size,
            part_count=plan.count,
            full_object_crc=context.destination_can.full_object_crc,
            started_at=time.time(),
        )

    def send_parts(
        self, context: CopyContext, upload: Upload, numbers: Sequence[int] | None = None
    ) -> list[PartResult]:
        """The results of these parts (all by default), in order."""
        plan = plan_parts(upload.source.size, upload.part_size)
        parts = [Part(upload, *span) for span in plan.spans()]
        bundle = self.engine.open_bundle()
        bundle.submit(
            lambda part: copy_part(context, part), [part for part in parts if numbers is None or part.number in numbers]
        )
        return sorted(chain.from_iterable(bundle.drain()), key=lambda result: result.number)

    def complete(
        self, context: CopyContext, upload: Upload, parts: Sequence[PartRecord]
    ) -> tuple[IntegrityRecord, UploadEnd]:
        """The end of the upload."""
        ended: tuple[IntegrityRecord, UploadEnd] = self.engine.run(complete(self.steps(context), upload, parts, 1))
        return ended

    def copy_by_parts(self, context: CopyContext, ref: ObjectRef) -> tuple[IntegrityRecord, UploadEnd]:
        """Open, send all parts, complete."""
        upload = self.open_upload(context, ref)
        return self.complete(context, upload, done(self.send_parts(context, upload)))

    def close(self) -> None:
        for endpoint in self._endpoints.values():
            self.engine.run(endpoint.client.close())
        self.engine.close()
        self.threads.shutdown(wait=False, cancel_futures=True)


def done(results: Sequence[PartResult]) -> list[PartRecord]:
    """The parts of results that all succeeded."""
    failed = [result for result in results if result.outcome is PartOutcome.FAILED]
    assert not failed, failed
    return [result.part for result in results if result.part is not None]


def put(client: Any, bucket: str, key: str, body: bytes, row: int = 0, **arguments: Any) -> ObjectRef:
    """Store an object and return the reference an inventory would give."""
    answer = client.put_object(Bucket=bucket, Key=key, Body=body, **arguments)
    return ObjectRef(0, row, bucket, key, answer.get("VersionId"), len(body), answer["ETag"].strip('"'), PREFIX + key)


@contextmanager
def running_ferry() -> Iterator[Ferry]:
    """A ferry, closed at the end."""
    made = Ferry(Engine(), ThreadPoolExecutor(CONTROL_THREADS))
    try:
        yield made
    finally:
        made.close()
