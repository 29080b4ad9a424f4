"""The ledger in trouble in the middle of a run: it goes on, or stops and says why, and the next run finishes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from ledger.schema import migrate
from tests.fixtures.compare import differences, keys_of
from tests.fixtures.full_disk import SmallDisk
from tests.fixtures.pgbouncer import pgbouncer_before
from tests.fixtures.roles import TwoRoles, two_roles
from tests.fixtures.s3 import S3Server
from tests.integration.conftest import MakeFerry, MakeProxy, new_bucket
from tests.integration.ferry import Command, Finished
from tests.integration.ledger import Ledger
from tests.integration.proxy import Proxy, gate
from tests.integration.scenes import Scene, small_objects, stocked

OBJECTS = 60
FLAGS = ("--workers=2", "--small_unit_objects=10", "--max_in_flight=4", "--flush_interval=0.1")
RUNS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 's3ferry run %'"


class Middle:
    """Runs of one job, the first of which is disturbed when a third of its objects are copied."""

    def __init__(self, server: S3Server, proxy: Proxy, make: MakeFerry, ledger: Ledger, dsn: str | None = None) -> None:
        self.server, self.proxy, self.ledger = server, proxy, ledger
        self.target = new_bucket(server)
        self.scene: Scene = stocked(server, new_bucket(server), small_objects(OBJECTS))
        self.manifest = self.scene.inventory()
        self.user = make(proxy.server, proxy.server, Ledger(dsn) if dsn else ledger, *FLAGS)

    def start(self) -> Command:
        """The first run, which sends a third of the objects and waits before the others until `open` is called."""
        rule, opened = gate(lambda request: request.bucket == self.target and request.method == "PUT", OBJECTS // 3)
        self.proxy.rule, self.open = rule, opened.set
        running = self.user.start(self.manifest, f"s3://{self.target}")
        running.until(lambda: self.ledger.count() >= OBJECTS // 4, "some rows are recorded")
        return running

    def has_all(self, run: Finished) -> None:
        """The run ended well; destination and ledger hold every object, once."""
        assert run.code == 0, run.explain()
        assert run.statuses == {"VERIFIED": OBJECTS}
        assert self.ledger.keys("VERIFIED") == set(self.scene.keys)
        assert self.ledger.value("SELECT count(*) FROM attempts") == OBJECTS
        assert self.proxy.writes(self.target) == dict.fromkeys(self.scene.keys, 1)
        self.is_copied()

    def is_copied(self) -> None:
        client = self.server.client()
        assert differences((client, self.scene.bucket), (client, self.target)) == []

    def the_next_run_finishes(self) -> None:
        """What is recorded is skipped, the rest is copied."""
        recorded = self.ledger.keys("VERIFIED")
        self.proxy.forget()
        run = self.user.run(self.manifest, f"s3://{self.target}")
        assert run.code == 0, run.explain()
        assert Counter(run.statuses) == Counter(VERIFIED=OBJECTS - len(recorded), SKIPPED=len(recorded))
        assert not self.proxy.reads(self.scene.bucket).keys() & recorded
        assert self.ledger.keys("VERIFIED") == set(self.scene.keys)
        self.is_copied()


@pytest.fixture
def middle(minio: S3Server, proxied: MakeProxy, ferry: MakeFerry) -> Callable[..., Middle]:
    return lambda ledger, dsn=None: Middle(minio, proxied(minio), ferry, ledger, dsn)


def administer(ledger: Ledger, statement: str) -> int:
    """One statement, by the administrator; how many rows it gave."""
    with psycopg.connect(ledger.dsn, autocommit=True) as admin:
        return admin.execute(statement).rowcount


def test_connections_that_die_behind_a_pooler_cost_nothing(
    middle: Callable[..., Middle], ledger: Ledger, tmp_path: Path
) -> None:
    with pgbouncer_before(ledger.dsn, tmp_path) as pooler:
        case = middle(ledger, pooler.dsn(ledger.dsn))
        running = case.start()
        assert administer(ledger, RUNS) > 0
        case.open()
        case.has_all(running.wait())
        assert pooler.transactions(ledger.dsn) > 10


@pytest.fixture
def roles(postgres_uri: str) -> Iterator[TwoRoles]:
    with two_roles(postgres_uri) as roles:
        yield roles


@pytest.fixture
def daily(middle: Callable[..., Middle], roles: TwoRoles, postgres_uri: str) -> Middle:
    """Runs of the role that owns nothing; the administrator watches."""
    return middle(Ledger(make_conninfo(postgres_uri, dbname="ferry")), roles.run_dsn)


def test_a_run_that_finds_no_connection_left_waits_for_one(daily: Middle) -> None:
    administer(daily.ledger, "ALTER ROLE ferry_run CONNECTION LIMIT 0")
    running = daily.user.start(daily.manifest, f"s3://{daily.target}")
    running.until(lambda: "too many connections" in running.stderr, "the start has noticed")
    administer(daily.ledger, "ALTER ROLE ferry_run CONNECTION LIMIT -1")
    daily.has_all(running.wait())


@pytest.mark.nightly
def test_a_run_that_never_gets_a_connection_says_what_is_missing(daily: Middle) -> None:
    administer(daily.ledger, "ALTER ROLE ferry_run CONNECTION LIMIT 0")
    run = daily.user.run(daily.manifest, f"s3://{daily.target}")
    assert run.code == 3, run.explain()
    last = run.stderr.splitlines()[-1]
    assert last.startswith("s3ferry: the ledger did not answer for 30 s: ")
    assert last.endswith("let the ledger's server, database, role or pooler take more connections")
    assert keys_of(daily.server.client(), daily.target) == []


def test_connections_that_are_lost_when_none_is_left_are_waited_for(daily: Middle) -> None:
    running = daily.start()
    administer(daily.ledger, "ALTER ROLE ferry_run CONNECTION LIMIT 0")
    assert administer(daily.ledger, RUNS) > 0
    daily.open()
    running.until(lambda: "too many connections" in running.stderr, "the run has noticed")
    administer(daily.ledger, "ALTER ROLE ferry_run CONNECTION LIMIT -1")
    daily.has_all(running.wait())


def test_a_table_that_is_locked_for_long_is_waited_for(middle: Callable[..., Middle], ledger: Ledger) -> None:
    case = middle(ledger)
    running = case.start()
    with psycopg.connect(ledger.dsn) as other:
        other.execute("LOCK TABLE objects IN EXCLUSIVE MODE")
        case.open()
        running.until(lambda: "lock timeout; trying again" in _flat(running.stderr), "the run has noticed")
    case.has_all(running.wait())


def test_a_row_the_ledger_refuses_costs_no_other_and_the_next_run_finishes(
    middle: Callable[..., Middle], ledger: Ledger
) -> None:
    case = middle(ledger)
    poison = case.scene.keys[7]
    migrate(ledger.dsn)
    administer(ledger, f"ALTER TABLE objects ADD CONSTRAINT no_poison CHECK (source_key <> '{poison}')")
    run = case.user.run(case.manifest, f"s3://{case.target}")
    assert run.code == 1, run.explain()
    assert run.statuses == {"VERIFIED": OBJECTS - 1, "FAILED": 1}
    assert ledger.keys("VERIFIED") == set(case.scene.keys) - {poison}
    [letter] = ledger.rows("SELECT status::text, reason, text FROM dead_letters")
    assert letter["status"] == "FAILED"
    assert "no_poison" in letter["reason"]
    assert poison in letter["text"]
    administer(ledger, "ALTER TABLE objects DROP CONSTRAINT no_poison")
    case.the_next_run_finishes()


@pytest.fixture
def small_ledger(small_dsn: str) -> Ledger:
    """A ledger whose tables are on `disk`."""
    return Ledger(small_dsn)


def test_a_run_goes_on_when_there_is_room_on_the_disk_again(
    middle: Callable[..., Middle], small_ledger: Ledger, disk: SmallDisk
) -> None:
    case = middle(small_ledger)
    running = case.start()
    disk.fill()
    case.open()
    running.until(lambda: "No space left on device" in running.stderr, "the run has noticed")
    disk.free()
    case.has_all(running.wait())


@pytest.mark.nightly
def test_a_run_stops_when_the_disk_stays_full_and_the_next_one_finishes(
    middle: Callable[..., Middle], small_ledger: Ledger, disk: SmallDisk
) -> None:
    case = middle(small_ledger)
    running = case.start()
    disk.fill()
    case.open()
    run = running.wait()
    assert run.code == 3, run.explain()
    assert "free space on the ledger's disk" in run.stderr.splitlines()[-1] + run.stdout
    assert running.left == []
    disk.free()
    assert small_ledger.keys("VERIFIED") <= set(keys_of(case.server.client(), case.target))
    case.the_next_run_finishes()


def _flat(text: str) -> str:
    return " ".join(text.split())
