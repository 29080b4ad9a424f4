"""A large object killed at each point of its way: the next run sends what is not recorded, and nothing else.

A rule before the server stops the object at the point; everything is killed there, as by a loss of power; then the
requests of the next run are counted.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest

from local.workload import WorkObject
from tests.fixtures.compare import differences, keys_of
from tests.fixtures.s3 import S3Server
from tests.integration.conftest import MakeFerry, MakeProxy, new_bucket
from tests.integration.ferry import Ferry
from tests.integration.ledger import Ledger
from tests.integration.proxy import Effect, Proxy, Request, Rule, gate
from tests.integration.scenes import MIB, SPLIT, Scene, stocked

PARTS = 8
FLAGS = (*SPLIT, "--workers=2", "--flush_interval=0.1")
FLUSH_S = 1.0
SLACK_S = 2.0
"""What a busy machine and clocks of whole seconds may add."""
NEVER = threading.Event()
"""What is held until this is set is held until the test ends."""


@pytest.fixture(params=["minio", "versitygw"])
def server(request: pytest.FixtureRequest) -> S3Server:
    """A server that is both source and destination."""
    found: S3Server = request.getfixturevalue(request.param)
    return found


@dataclass
class Kill:
    """One large object of 38 MiB in 8 parts, on its way through a proxy into an empty bucket."""

    user: Ferry
    ledger: Ledger
    proxy: Proxy
    scene: Scene
    manifest: str
    target: str

    def at(self, rule: Rule, reached: str, *flags: str) -> None:
        """Start a run under `rule`, and kill it once `reached` (a name of a condition below) holds."""
        self.proxy.rule = rule
        run = self.user.start(self.manifest, f"s3://{self.target}", *flags)
        run.until(getattr(self, reached), reached)
        run.kill_group()
        assert self.ledger.count() == 0
        self.proxy.forget()

    def create_is_asked(self) -> bool:
        return bool(self.proxy.uploads(self.target))

    def upload_is_there(self) -> bool:
        return bool(self.uploads_at_destination())

    def three_parts_are_recorded(self) -> bool:
        return len(self.recorded()) >= 3

    def complete_is_asked(self) -> bool:
        return any(request.is_complete for request in self.proxy.asked(self.target))

    def object_is_there(self) -> bool:
        return keys_of(self.scene.server.client(), self.target) == ["large"]

    def recorded(self) -> set[int]:
        return self.ledger.recorded_parts().get("large", set())

    def uploads_at_destination(self) -> list[str]:
        listed = self.scene.server.client().list_multipart_uploads(Bucket=self.target, Prefix="large")
        return [upload["UploadId"] for upload in listed.get("Uploads", [])]

    def held_at_destination(self, upload_id: str) -> set[int]:
        listed = self.scene.server.client().list_parts(Bucket=self.target, Key="large", UploadId=upload_id)
        return {part["PartNumber"] for part in listed.get("Parts", [])}

    def finished_parts(self) -> dict[int, datetime]:
        """When the destination took each part that it holds, by number."""
        client, found = self.scene.server.client(), {}
        for upload_id in self.uploads_at_destination():
            listed = client.list_parts(Bucket=self.target, Key="large", UploadId=upload_id)
            found |= {part["PartNumber"]: part["LastModified"] for part in listed.get("Parts", [])}
        return found

    def between_parts(self, *flags: str) -> None:
        """Kill a run when three of its parts are recorded."""
        rule, _ = gate(lambda request: request.bucket == self.target and request.is_part, 6)
        self.at(rule, "three_parts_are_recorded", *flags)

    def finish(self, *flags: str) -> None:
        """The next run, to its end: the object is there and proven, and no upload is left."""
        ran = self.user.run(self.manifest, f"s3://{self.target}", *flags)
        assert ran.code == 0, ran.explain()
        assert ran.statuses == {"VERIFIED": 1}
        client = self.scene.server.client()
        assert differences((client, self.scene.bucket), (client, self.target)) == []
        assert self.uploads_at_destination() == []
        assert self.ledger.rows("SELECT * FROM uploads WHERE state = 'open'") == []

    def sent(self) -> dict[str, object]:
        """What the finishing run asked for: uploads created, parts sent, parts read, Completes."""
        completes = [request for request in self.proxy.asked(self.target) if request.is_complete]
        parts = self.proxy.parts(self.target)
        assert set(parts.values()) <= {1}
        return {
            "creates": self.proxy.uploads(self.target).total(),
            "parts": {number for _, number in parts},
            "reads": self.proxy.reads(self.scene.bucket).total(),
            "completes": len(completes),
        }


@pytest.fixture
def kill(server: S3Server, proxied: MakeProxy, ferry: MakeFerry, ledger: Ledger) -> Kill:
    """A large object whose run can be killed."""
    proxy = proxied(server)
    scene = stocked(server, new_bucket(server), [WorkObject("large", 38 * MIB)])
    user = ferry(proxy.server, proxy.server, ledger, *FLAGS)
    return Kill(user, ledger, proxy, scene, scene.inventory(), new_bucket(server))


def without_full_object_crcs() -> Rule:
    """A rule under which the probe finds that the server does not know full-object CRCs."""
    asked = count(1)
    return lambda request: (
        Effect(refuse=(501, "NotImplemented")) if request.is_probe and request.is_create and next(asked) == 1 else None
    )


def held(request: Request, *, is_it: bool) -> Effect | None:
    return Effect(hold=NEVER) if is_it and not request.is_probe else None


def unanswered(request: Request, *, is_it: bool) -> Effect | None:
    return Effect(hold_answer=NEVER) if is_it and not request.is_probe else None


def test_before_create(kill: Kill) -> None:
    kill.at(lambda request: held(request, is_it=request.is_create), "create_is_asked")
    assert kill.uploads_at_destination() == []

    kill.finish()
    assert kill.sent() == {"creates": 1, "parts": set(range(1, PARTS + 1)), "reads": PARTS, "completes": 1}


def test_after_create_and_before_it_is_recorded(kill: Kill) -> None:
    kill.at(lambda request: unanswered(request, is_it=request.is_create), "upload_is_there")
    assert kill.ledger.rows("SELECT upload_id FROM uploads") == [{"upload_id": ""}]

    kill.finish()
    assert kill.sent() == {"creates": 0, "parts": set(range(1, PARTS + 1)), "reads": PARTS, "completes": 1}


def test_between_parts(kill: Kill) -> None:
    kill.between_parts()
    recorded = kill.recorded()
    (upload_id,) = kill.uploads_at_destination()
    assert kill.ledger.value("SELECT upload_id FROM uploads WHERE state = 'open'") == upload_id

    kill.finish()
    left = set(range(1, PARTS + 1)) - recorded
    assert kill.sent() == {"creates": 0, "parts": left, "reads": len(left), "completes": 1}


@pytest.mark.nightly  # by the clock
def test_what_finished_before_the_last_flush_is_not_sent_again(kill: Kill) -> None:
    first, opened = gate(lambda request: request.bucket == kill.target and request.is_part, 3)
    kill.proxy.rule = lambda request: first(request) or held(request, is_it=request.is_complete)
    run = kill.user.start(kill.manifest, f"s3://{kill.target}", f"--flush_interval={FLUSH_S}")
    run.until(kill.three_parts_are_recorded, "three parts are recorded")
    opened.set()
    run.until(lambda: len(kill.finished_parts()) > 3, "more parts have finished")
    run.kill_group()
    killed_at = datetime.now(UTC)
    kill.proxy.forget()

    finished, recorded = kill.finished_parts(), kill.recorded()
    latest = killed_at - timedelta(seconds=FLUSH_S + SLACK_S)
    assert {number for number, when in finished.items() if when <= latest} <= recorded
    rows = kill.ledger.rows("SELECT part_number, finished_at FROM parts")
    late = {row["part_number"]: row["finished_at"] - finished[row["part_number"]] for row in rows}
    assert max(late.values()) <= timedelta(seconds=FLUSH_S + SLACK_S), late

    kill.finish()
    left = set(range(1, PARTS + 1)) - recorded
    assert kill.sent() == {"creates": 0, "parts": left, "reads": len(left), "completes": 1}


def test_between_the_last_part_and_complete(kill: Kill) -> None:
    kill.at(lambda request: held(request, is_it=request.is_complete), "complete_is_asked")
    assert kill.recorded() == set(range(1, PARTS + 1))

    kill.finish()
    assert kill.sent() == {"creates": 0, "parts": set(), "reads": 0, "completes": 1}


def test_after_complete_and_before_the_object_is_recorded(kill: Kill) -> None:
    kill.at(lambda request: unanswered(request, is_it=request.is_complete), "object_is_there")

    kill.finish()
    assert kill.sent() == {"creates": 0, "parts": set(), "reads": 0, "completes": 0}


def test_a_source_that_has_changed_since_is_begun_anew_and_its_old_upload_aborted(kill: Kill) -> None:
    kill.between_parts()
    put = kill.scene.server.client().put_object(Bucket=kill.scene.bucket, Key="large", Body=bytes(38 * MIB))
    row = kill.scene.rows[0] | {"e_tag": put["ETag"].strip('"')}
    kill.manifest = kill.scene.inventory([row], config_id="next")

    ran = kill.user.run(kill.manifest, f"s3://{kill.target}")

    assert ran.statuses == {"VERIFIED": 1}, ran.explain()
    assert kill.sent() == {"creates": 1, "parts": set(range(1, PARTS + 1)), "reads": PARTS, "completes": 1}
    assert kill.uploads_at_destination() == []
    states = kill.ledger.rows("SELECT state::text FROM uploads ORDER BY started_at")
    assert [row["state"] for row in states] == ["aborted", "completed"]


def test_what_was_begun_of_a_source_that_has_changed_is_aborted_though_nothing_is_copied(kill: Kill) -> None:
    kill.between_parts()
    kill.scene.server.client().put_object(Bucket=kill.scene.bucket, Key="large", Body=b"changed")

    ran = kill.user.run(kill.manifest, f"s3://{kill.target}")

    assert ran.statuses == {"SOURCE_CHANGED": 1}, ran.explain()
    assert kill.uploads_at_destination() == []


def test_what_was_begun_of_an_object_that_now_goes_whole_is_aborted(kill: Kill) -> None:
    kill.between_parts()

    kill.finish("--copy_mode=auto")
    assert kill.sent() == {"creates": 0, "parts": set(), "reads": 0, "completes": 0}


def test_an_upload_that_was_never_recorded_is_aborted_by_a_run_with_other_parts(kill: Kill) -> None:
    kill.at(lambda request: unanswered(request, is_it=request.is_create), "upload_is_there")

    kill.finish("--part_size=6MiB")
    assert kill.sent() == {"creates": 1, "parts": set(range(1, 8)), "reads": 7, "completes": 1}


def test_an_upload_with_other_parts_is_not_taken_for_one_that_was_never_recorded(kill: Kill) -> None:
    kill.between_parts("--part_size=5MiB")
    rule, _ = gate(lambda request: request.is_create, 0)
    kill.at(rule, "create_is_asked", "--part_size=6MiB")

    kill.finish("--part_size=6MiB")
    assert kill.sent() == {"creates": 1, "parts": set(range(1, 8)), "reads": 7, "completes": 1}


def test_parts_without_md5s_prove_nothing_against_a_sources_etag(kill: Kill) -> None:
    parts = "--part_size=8MiB"
    kill.at(lambda request: unanswered(request, is_it=request.is_complete), "object_is_there", parts)

    kill.finish(parts, "--part_layout=source")


@pytest.mark.parametrize("sent_to", ["this upload", "another", "not told"])
def test_a_part_that_only_the_ledger_holds_is_sent(kill: Kill, sent_to: str) -> None:
    kill.between_parts()
    recorded = kill.recorded()
    (upload_id,) = kill.uploads_at_destination()
    number = min(set(range(1, PARTS)) - recorded - kill.held_at_destination(upload_id))
    kill.ledger.execute(
        "INSERT INTO parts (identity, part_number, size, etag, sha256, crc64nvme, upload_id) SELECT identity, %s, %s,"
        " repeat('a', 32), repeat('a', 64), 'AAAAAAAAAAA=', %s FROM uploads",
        number,
        5 * MIB,
        {"this upload": upload_id, "another": "another", "not told": None}[sent_to],
    )

    kill.finish()
    left = set(range(1, PARTS + 1)) - recorded
    assert kill.sent() == {"creates": 0, "parts": left, "reads": len(left), "completes": 1}


@pytest.mark.parametrize("knew", [True, False])
def test_an_upload_goes_on_as_it_was_created_though_the_server_knows_full_object_crcs_only_now_or_no_more(
    kill: Kill, knew: bool
) -> None:
    stop, _ = gate(lambda request: request.bucket == kill.target and request.is_part, 6)
    refuse = without_full_object_crcs()
    kill.at(stop if knew else lambda request: refuse(request) or stop(request), "three_parts_are_recorded")
    assert kill.ledger.value("SELECT full_object_crc FROM uploads") is knew
    recorded = kill.recorded()

    kill.proxy.rule = refuse if knew else None
    kill.finish()
    left = set(range(1, PARTS + 1)) - recorded
    assert kill.sent() == {"creates": 0, "parts": left, "reads": len(left), "completes": 1}


@pytest.mark.parametrize("knew", [True, False])
def test_an_upload_that_was_never_recorded_goes_on_as_it_was_created(kill: Kill, knew: bool) -> None:
    refuse = without_full_object_crcs()

    def rule(request: Request) -> Effect | None:
        return (None if knew else refuse(request)) or unanswered(request, is_it=request.is_create)

    kill.at(rule, "upload_is_there")

    kill.proxy.rule = refuse if knew else None
    kill.finish()
    assert kill.sent() == {"creates": 0, "parts": set(range(1, PARTS + 1)), "reads": PARTS, "completes": 1}


def test_an_upload_announced_and_never_created_is_created_as_the_server_is_now(kill: Kill) -> None:
    refuse = without_full_object_crcs()
    kill.at(lambda request: refuse(request) or held(request, is_it=request.is_create), "create_is_asked")
    assert kill.ledger.value("SELECT full_object_crc FROM uploads") is False

    kill.finish()
    assert kill.ledger.value("SELECT full_object_crc FROM uploads") is True
    assert kill.ledger.value("SELECT destination_evidence::text FROM objects") == "full_object_crc64nvme"


@pytest.mark.parametrize("size", [100, 3 * MIB])
def test_what_was_begun_of_a_source_that_is_no_longer_large_is_aborted(kill: Kill, size: int) -> None:
    kill.between_parts()
    put = kill.scene.server.client().put_object(Bucket=kill.scene.bucket, Key="large", Body=bytes(size))
    row = kill.scene.rows[0] | {"e_tag": put["ETag"].strip('"'), "size": size}
    kill.manifest = kill.scene.inventory([row], config_id="next")

    kill.finish()
    assert kill.ledger.value("SELECT state::text FROM uploads") == "aborted"
