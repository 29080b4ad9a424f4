"""The whole command line as the role that owns nothing, on a ledger another role has made."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from local.workload import WorkObject
from tests.fixtures.compare import differences, keys_of
from tests.fixtures.roles import TwoRoles, two_roles
from tests.fixtures.s3 import S3Server
from tests.integration.conftest import MakeFerry, new_bucket
from tests.integration.ledger import Ledger
from tests.integration.scenes import MIB, SPLIT, small_objects, stocked


@pytest.fixture
def roles(postgres_uri: str) -> Iterator[TwoRoles]:
    with two_roles(postgres_uri) as roles:
        yield roles


def test_the_daily_role_runs_the_whole_command_line(
    minio: S3Server, ferry: MakeFerry, roles: TwoRoles, postgres_uri: str
) -> None:
    target = new_bucket(minio)
    objects = [*small_objects(20), WorkObject("medium", 2 * MIB), WorkObject("large", 12 * MIB)]
    scene = stocked(minio, new_bucket(minio), objects)
    user = ferry(minio, minio, Ledger(roles.run_dsn), *SPLIT, "--workers=2")
    manifest = scene.inventory()

    first, second = user.run(manifest, f"s3://{target}"), user.run(manifest, f"s3://{target}")
    assert (first.code, first.statuses) == (0, {"VERIFIED": len(objects)}), first.explain()
    assert (second.code, second.statuses) == (0, {"SKIPPED": len(objects)}), second.explain()
    client = minio.client()
    assert differences((client, scene.bucket), (client, target)) == []
    seen = Ledger(make_conninfo(postgres_uri, dbname="ferry"))
    assert seen.keys("VERIFIED") == set(scene.keys)

    for command in (("status", "1"), ("ledger", "migrate"), ("sweep", f"--destination=s3://{target}", "--yes")):
        more = (f"--destination_endpoint_url={minio.endpoint_url}",) if command[0] == "sweep" else ()
        ended = user.command(*command, *more).wait()
        assert ended.code == 0, ended.explain()


def test_the_daily_role_is_told_who_makes_a_new_ledger(minio: S3Server, ferry: MakeFerry, roles: TwoRoles) -> None:
    with psycopg.connect(roles.owner_dsn) as owner:
        owner.execute("DROP TABLE schema_migrations")
    scene, target = stocked(minio, new_bucket(minio), small_objects(1)), new_bucket(minio)
    run = ferry(minio, minio, Ledger(roles.run_dsn), "--workers=1").run(scene.inventory(), f"s3://{target}")
    assert run.code == 3, run.explain()
    assert "run `s3ferry ledger migrate` as the role that owns the tables" in run.stderr.splitlines()[-1]
    assert keys_of(minio.client(), target) == []
