"""The choice of digests and of the destination's check, as a table."""

from __future__ import annotations

import pytest

from model.status import DestinationEvidence, Grade
from storage.body_plan import AUTO, BodyPlan, BodyPlans, body_plans
from storage.checksums import CRC32C, CRC64NVME, MD5, SHA1, SHA256
from storage.config import Capabilities

SIGNED = DestinationEvidence.SIGNED_BODY
TRAILING = DestinationEvidence.TRAILING_CRC64NVME
NONE = DestinationEvidence.NONE

ALL = Capabilities(trailing_checksum=True, signed_body=True, etag_is_md5=True, full_object_crc=True)
SIGNED_ONLY = Capabilities(signed_body=True, etag_is_md5=True)
TRAILING_ONLY = Capabilities(trailing_checksum=True, etag_is_md5=True)
ETAG_ONLY = Capabilities(etag_is_md5=True)
NOTHING = Capabilities()


def plan(shows: DestinationEvidence, *digests: str) -> BodyPlan:
    return BodyPlan(frozenset(digests), shows)


def of_all(shows: DestinationEvidence, *digests: str) -> BodyPlans:
    return BodyPlans(*[plan(shows, *digests)] * 3)


TABLE = {
    "auto signs whole bodies": (
        AUTO,
        ALL,
        BodyPlans(plan(SIGNED, SHA256, CRC64NVME), *[plan(TRAILING, SHA256, CRC64NVME)] * 2),
    ),
    "without SHA-256 nothing is signed": ({CRC64NVME}, ALL, of_all(TRAILING, CRC64NVME)),
    "SHA-256 alone is enough for a signed body": (
        {SHA256},
        ALL,
        BodyPlans(plan(SIGNED, SHA256), *[plan(TRAILING, SHA256, CRC64NVME)] * 2),
    ),
    "the trailer is computed beside what is named": (
        {MD5, CRC32C},
        ALL,
        of_all(TRAILING, MD5, CRC32C, CRC64NVME),
    ),
    "a signature that is the only check is made": (
        {CRC64NVME},
        SIGNED_ONLY,
        BodyPlans(plan(SIGNED, SHA256, CRC64NVME), *[plan(NONE, MD5, CRC64NVME)] * 2),
    ),
    "a trailer that is the only check is sent": (AUTO, TRAILING_ONLY, of_all(TRAILING, SHA256, CRC64NVME)),
    "an ETag that is the only evidence needs the MD5": (AUTO, ETAG_ONLY, of_all(NONE, SHA256, CRC64NVME, MD5)),
    "parts have a CRC64NVME whatever is named": (
        {SHA256},
        NOTHING,
        BodyPlans(*[plan(NONE, SHA256)] * 2, plan(NONE, SHA256, CRC64NVME)),
    ),
    "what may be read back has a digest to be compared by": ({CRC32C}, NOTHING, of_all(NONE, CRC32C, CRC64NVME)),
}


@pytest.mark.parametrize("case", TABLE)
def test_the_plans_of_a_destination(case: str) -> None:
    kept, can, expected = TABLE[case]
    assert body_plans(frozenset(kept), can, None) == expected


@pytest.mark.parametrize(("evidence", "more"), [(Grade.ETAG, set()), (Grade.READBACK, {CRC64NVME})])
def test_an_object_that_is_never_read_back_needs_no_digest_for_it(evidence: Grade, more: set[str]) -> None:
    plans = body_plans(frozenset({CRC32C}), ETAG_ONLY, evidence)
    assert plans.whole.digests == plans.streamed.digests == {CRC32C, MD5} | more


@pytest.mark.parametrize("evidence", [None, Grade.READBACK])
@pytest.mark.parametrize("can", [ALL, SIGNED_ONLY, TRAILING_ONLY, ETAG_ONLY, NOTHING])
@pytest.mark.parametrize("name", [MD5, SHA256, CRC32C, CRC64NVME])
def test_the_digest_an_object_is_read_back_by_is_computed(name: str, can: Capabilities, evidence: Grade | None) -> None:
    for kind in body_plans(frozenset({name}), can, evidence):
        assert kind.readback in kind.digests


def test_the_digest_of_the_source_is_computed_beside_them() -> None:
    whole = body_plans(frozenset({CRC64NVME}), ALL, None).whole
    assert whole.with_source(SHA1) == {SHA1, CRC64NVME}
    assert whole.with_source(CRC64NVME) == whole.with_source(None) == {CRC64NVME}
