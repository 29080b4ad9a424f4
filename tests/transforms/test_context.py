"""JobContext: what travels to the workers, and what must not."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest

from model.status import DestinationEvidence, Grade, evidence_meeting
from options.config import CopyPolicy, JobConfig
from options.copying import DIGESTS
from storage.checksums import Digests
from storage.config import Capabilities
from storage.copier import CopyMode
from storage.limits import EndpointLimit
from storage.transport_aiohttp import AiohttpTransport
from tests.transforms.examples import a_config, a_job
from transforms.context import kept_digests, store_config, transfer_limits, trusted_evidence
from transforms.worker import open_client


def test_a_job_travels_whole() -> None:
    job = a_job("--source_endpoint_url=http://src", "--max_failures=5%")
    assert pickle.loads(pickle.dumps(job)) == job


def test_no_secret_of_the_drivers_environment_travels_with_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {
        "SOURCE_AWS_SECRET_ACCESS_KEY": "secret-of-the-source",
        "DESTINATION_AWS_SESSION_TOKEN": "token-of-the-destination",
        "LEDGER_DSN": "postgresql://ferry:password-of-the-ledger@db/ledger",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    travelling = pickle.dumps(a_job())
    for part in (b"secret-of-the-source", b"token-of-the-destination", b"password-of-the-ledger"):
        assert part not in travelling


@pytest.mark.parametrize(
    ("flag", "digests"),
    [
        ("--hash=auto", {"sha256", "crc64nvme"}),
        ("--hash=crc32c", {"crc32c"}),
        ("--hash=crc64nvme,md5", {"md5", "crc64nvme"}),
    ],
)
def test_the_digests_to_keep_are_those_named(flag: str, digests: set[str]) -> None:
    assert kept_digests(a_config(flag)) == digests


def test_every_digest_that_may_be_named_is_one_that_is_computed() -> None:
    digests = Digests(frozenset(DIGESTS))
    assert all(digests.raw(name) is not None for name in DIGESTS)


def test_the_transport_asked_for_carries_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    for side in ("SOURCE", "DESTINATION"):
        monkeypatch.setenv(f"{side}_AWS_ACCESS_KEY_ID", "id")
        monkeypatch.setenv(f"{side}_AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv(f"{side}_AWS_REGION", "us-east-1")
    config = a_config("--transport=aiohttp")
    for side in (config.source, config.destination_endpoint):
        client, _ = open_client(store_config(side, config), EndpointLimit(1))
        assert isinstance(client.fast, AiohttpTransport)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_the_jobs_rates_are_shared_among_its_workers(workers: int) -> None:
    limits = transfer_limits(a_config("--max_requests_per_s=100", "--max_bytes_per_s=10MB"), workers)
    assert limits.requests_per_s * workers == pytest.approx(100)
    assert limits.bytes_per_s * workers == pytest.approx(10_000_000)


def test_a_memory_budget_that_is_named_holds_for_each_worker() -> None:
    config = JobConfig(copy=CopyPolicy(memory_budget_bytes=64 * 1024**2))
    assert (
        transfer_limits(config, 1).memory_budget_bytes == transfer_limits(config, 4).memory_budget_bytes == 64 * 1024**2
    )


EVERY_CHECK = Capabilities(signed_body=True, trailing_checksum=True, full_object_crc=True, etag_is_md5=True)
SERVER = frozenset(evidence_meeting(Grade.SERVER))


@pytest.mark.parametrize(
    ("can", "mode", "trusted"),
    [
        (EVERY_CHECK, "stream", SERVER),
        (EVERY_CHECK, "server", evidence_meeting(Grade.ETAG)),
        (Capabilities(signed_body=True, etag_is_md5=True), "stream", evidence_meeting(Grade.ETAG)),
        (Capabilities(signed_body=True), "stream", SERVER),
        (Capabilities(etag_is_md5=True), "stream", evidence_meeting(Grade.ETAG)),
        (Capabilities(), "stream", {DestinationEvidence.READBACK}),
    ],
)
def test_what_a_body_of_any_kind_is_held_to_here_is_trusted_of_an_earlier_run(
    can: Capabilities, mode: str, trusted: frozenset[DestinationEvidence]
) -> None:
    assert trusted_evidence(replace(a_job(), destination_can=can, copy_mode=CopyMode(mode))) == trusted
