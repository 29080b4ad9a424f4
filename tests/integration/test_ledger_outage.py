"""The ledger away in the middle of a run: for a moment, and for good."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.fixtures.compare import differences, keys_of
from tests.fixtures.postgres import embedded_postgres
from tests.fixtures.s3 import S3Server
from tests.integration.conftest import MakeFerry, MakeProxy, fresh_ledger, new_bucket
from tests.integration.ledger import Ledger
from tests.integration.proxy import gate
from tests.integration.scenes import small_objects, stocked

OBJECTS = 60
IN_FLIGHT = 4
FLAGS = ("--workers=2", "--small_unit_objects=10", f"--max_in_flight={IN_FLIGHT}", "--flush_interval=0.1")


@pytest.fixture
def own_postgres() -> Iterator[Any]:
    """A PostgreSQL nobody else uses, so that it can be stopped."""
    with embedded_postgres() as server:
        yield server


@pytest.fixture
def own_ledger(own_postgres: Any) -> Iterator[Ledger]:
    """A ledger in it."""
    with fresh_ledger(own_postgres.get_uri()) as ledger:
        yield ledger
        own_postgres.ensure_postgres_running()


def test_a_run_goes_on_when_the_ledger_comes_back_and_nothing_is_lost_or_double(
    minio: S3Server, proxied: MakeProxy, ferry: MakeFerry, own_postgres: Any, own_ledger: Ledger
) -> None:
    proxy, target = proxied(minio), new_bucket(minio)
    scene = stocked(minio, new_bucket(minio), small_objects(OBJECTS))
    proxy.rule, opened = gate(lambda request: request.bucket == target and request.method == "PUT", OBJECTS // 3)
    user = ferry(proxy.server, proxy.server, own_ledger, *FLAGS)
    running = user.start(scene.inventory(), f"s3://{target}")
    running.until(lambda: own_ledger.count() >= OBJECTS // 4, "some rows are recorded")
    own_postgres.stop()
    opened.set()
    running.until(lambda: "trying again" in running.stderr, "the run has noticed")
    own_postgres.ensure_postgres_running()

    run = running.wait()
    assert run.code == 0, run.explain()
    assert run.statuses == {"VERIFIED": OBJECTS}
    assert own_ledger.value("SELECT count(*) FROM attempts") == OBJECTS
    assert proxy.writes(target) == dict.fromkeys(scene.keys, 1)
    client = minio.client()
    assert differences((client, scene.bucket), (client, target)) == []


@pytest.mark.nightly
def test_a_run_whose_ledger_is_gone_for_good_ends_and_copies_nothing_more_without_a_record(
    minio: S3Server, proxied: MakeProxy, ferry: MakeFerry, own_postgres: Any, own_ledger: Ledger
) -> None:
    proxy, target = proxied(minio), new_bucket(minio)
    scene = stocked(minio, new_bucket(minio), small_objects(OBJECTS * 10, size=100))
    proxy.rule, opened = gate(lambda request: request.bucket == target and request.method == "PUT", OBJECTS // 3)
    user = ferry(proxy.server, proxy.server, own_ledger, *FLAGS, "--flush_rows=10")
    running = user.start(scene.inventory(), f"s3://{target}")
    running.until(lambda: own_ledger.count() >= OBJECTS // 4, "some rows are recorded")
    own_postgres.stop()
    opened.set()

    run = running.wait()
    assert run.code == 3, run.explain()
    assert "ledger" in run.stderr
    there = set(keys_of(minio.client(), target))
    own_postgres.ensure_postgres_running()
    recorded = own_ledger.keys("VERIFIED")
    assert recorded <= there
    # Each of two workers holds four batches, one unit that it takes results of, and what is under way.
    assert len(there - recorded) <= 2 * (4 * 10 + 10 + IN_FLIGHT + 10)
    assert set(keys_of(minio.client(), target)) == there
