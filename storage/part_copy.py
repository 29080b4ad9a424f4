"""The copy of one part: a ranged conditional GET teed into UploadPart. Repeatable: S3 keeps the last."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from model.errors import Mismatch, OutcomeUnknown, SourceChanged, TransferError, Transient
from model.records import Part, PartOutcome, PartRecord, PartResult
from storage.checksums import CRC32C, CRC64NVME, MD5, SHA256, Digests, etag_of
from storage.client import part_query
from storage.copier import CopyContext, status_of
from storage.retry import repeated
from storage.signing import UNSIGNED, UNSIGNED_TRAILER
from storage.tee import framed, framed_length, tee, trailer_headers
from storage.transport import Buffer


async def copy_part(context: CopyContext, part: Part) -> PartResult:
    """Copy one part; after a mismatch once more. A failure of it is a value; RunBroken and Stopped come out."""
    work = _PartCopy(context, part)
    try:
        try:
            record = await repeated(work.run, context.limits.attempts)
        except Mismatch:
            record = await repeated(work.run, context.limits.attempts)
    except TransferError as error:
        return PartResult(
            part.upload, part.number, PartOutcome.FAILED, None, status_of(error), error.message, work.attempts
        )
    return PartResult(part.upload, part.number, PartOutcome.DONE, record, attempts=work.attempts)


class _PartCopy:
    """One part on its way: ranged conditional GET, tee, UploadPart."""

    def __init__(self, context: CopyContext, part: Part) -> None:
        self._context = context
        self._part = part
        self.attempts = 0

    async def run(self) -> PartRecord:
        context, part = self._context, self._part
        source = part.upload.source
        self.attempts += 1
        await context.requests.take(2)
        await context.bytes.take(part.length)
        trailing = context.destination_can.trailing_checksum
        digests = Digests(part.upload.digests(context.plans.part.digests))

        def approve() -> None:
            if digests.length != part.length:
                raise Transient(f"source: {digests.length} of {part.length} bytes of part {part.number} arrived")

        span = (part.offset, part.length) if part.upload.source.size else None
        async with context.source.get(
            source.bucket,
            source.key,
            etag=part.upload.source_etag,
            version=source.version_id,
            span=span,
            checksum_mode=False,
        ) as reply:
            if reply.headers.get("content-length") != str(part.length):
                raise SourceChanged(
                    f"source: part {part.number} has {reply.headers.get('content-length')} bytes, not {part.length}"
                )
            body: AsyncIterator[Buffer] = tee(reply, digests, context.limits.window_bytes, approve, context.pace)
            length, payload, headers = part.length, UNSIGNED, {}
            if trailing:
                body = framed(body, digests)
                length, payload = framed_length(part.length, context.limits.window_bytes), UNSIGNED_TRAILER
                headers = trailer_headers(part.length)
            etag = await self._put(body, length, payload, headers)
        return self._verified(etag, digests, trailing)

    async def _put(self, body: AsyncIterator[Buffer], length: int, payload: str, headers: Mapping[str, str]) -> str:
        upload = self._part.upload
        try:
            answer = await self._context.destination.put(
                upload.destination_bucket,
                upload.source.destination_key,
                body,
                length=length,
                payload=payload,
                headers=headers,
                query=part_query(self._part.number, upload.upload_id),
            )
        except OutcomeUnknown as error:
            raise Transient(error.message) from None
        return etag_of(answer)

    def _verified(self, etag: str, digests: Digests, trailing: bool) -> PartRecord:
        md5 = digests.hex(MD5)
        if md5 is not None and self._context.destination_can.etag_is_md5 and etag != md5 and not trailing:
            raise Mismatch(
                f"destination: the ETag of part {self._part.number} is {etag}, the MD5 of the bytes sent is {md5}"
            )
        return PartRecord(
            self._part.number,
            self._part.length,
            etag,
            md5,
            digests.hex(SHA256),
            digests.base64(CRC64NVME),
            digests.base64(CRC32C),
        )
