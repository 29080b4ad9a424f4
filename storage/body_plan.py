"""Which digests each kind of body gets, and with which of them its destination is asked to check it."""

from __future__ import annotations

from typing import NamedTuple

from model.status import DestinationEvidence, Grade
from storage.checksums import CRC64NVME, MD5, SHA256
from storage.config import Capabilities

AUTO = frozenset({SHA256, CRC64NVME})
"""The digests kept where none are named."""


class BodyPlan(NamedTuple):
    """One kind of body. `shows` is the evidence that lies in the server's taking it, NONE where it checks nothing."""

    digests: frozenset[str]
    shows: DestinationEvidence

    @property
    def server_proves(self) -> bool:
        return self.shows is not DestinationEvidence.NONE

    @property
    def readback(self) -> str:
        """The digest an object that is read back is compared by."""
        return SHA256 if SHA256 in self.digests else CRC64NVME

    def with_source(self, algorithm: str | None) -> frozenset[str]:
        """The digests of a body whose source evidence is a digest by `algorithm`."""
        return self.digests if algorithm is None or algorithm in self.digests else self.digests | {algorithm}


class BodyPlans(NamedTuple):
    """The plans of one destination: bodies sent whole, bodies streamed, and parts of an upload."""

    whole: BodyPlan
    streamed: BodyPlan
    part: BodyPlan


def body_plans(kept: frozenset[str], can: Capabilities, evidence: Grade | None) -> BodyPlans:
    """The plans for a destination that `can` this, where the ledger is to keep at least the digests `kept`.

    What is evidence is computed beyond them. A signature covers a whole body only where its SHA-256 is kept anyway
    or is all this server checks. `evidence` is what the user asked for, None the best without a second read.
    """
    trailing = DestinationEvidence.TRAILING_CRC64NVME if can.trailing_checksum else DestinationEvidence.NONE
    signed = can.signed_body and (SHA256 in kept or not can.trailing_checksum)
    return BodyPlans(
        whole=_plan(kept, DestinationEvidence.SIGNED_BODY if signed else trailing, can, evidence),
        streamed=_plan(kept, trailing, can, evidence),
        # only its CRC64NVME can be compared with what either side stores of the whole object
        part=_plan(kept | {CRC64NVME}, trailing, can, evidence),
    )


def _plan(kept: frozenset[str], shows: DestinationEvidence, can: Capabilities, evidence: Grade | None) -> BodyPlan:
    digests = set(kept)
    if shows is DestinationEvidence.SIGNED_BODY:
        digests.add(SHA256)
    elif shows is DestinationEvidence.TRAILING_CRC64NVME:
        digests.add(CRC64NVME)
    else:
        if can.etag_is_md5:
            digests.add(MD5)
        if evidence in (None, Grade.READBACK) and SHA256 not in kept:
            # an object read back is compared by one of the two
            digests.add(CRC64NVME)
    return BodyPlan(frozenset(digests), shows)
