"""What docs/scheduling.md says, done: an event reaches the job, queries answer, commands are taken, sums hold."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import boto3
import pytest
from moto import mock_aws

from ledger.connect import Connection, connect
from ledger.leases import RunRef, release
from ledger.runs import drop_history, finish_run, start_run
from ledger.schema import migrate
from model.outcome import Exit, Outcome
from model.routing import MIB
from options.ledger_command import parse_ledger
from options.parse import parse_run
from options.sweep import parse_sweep
from storage.memory import WORKER_BASE_BYTES, body_budget
from tests.deploy.manifests import DRIVER_BYTES, REPOSITORY, bodies_bytes
from tests.ledger.examples import a_run
from transforms.context import transfer_limits

GUIDE = (REPOSITORY / "docs/scheduling.md").read_text(encoding="utf-8")
BUCKET = "acme-inventory"
KEY = "photos/daily/2026-11-24T01-00Z/manifest.checksum"


@pytest.fixture
def dsn(ledger_dsn: str) -> str:
    """A migrated ledger."""
    migrate(ledger_dsn)
    return ledger_dsn


@pytest.fixture
def conn(dsn: str) -> Iterator[Connection]:
    """A connection to it."""
    with connect(dsn, "test") as connection:
        yield connection


def blocks(language: str) -> list[str]:
    """The guide's code blocks of one language, indented ones too."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", GUIDE, re.MULTILINE | re.DOTALL)
    return [text.replace(f"\n{indent}", "\n").strip() for indent, text in found]


@pytest.fixture(scope="module")
def events() -> list[dict[str, Any]]:
    """What the guide's rule lets through of an inventory's arrival, in moto's S3 and EventBridge, set up as it says."""
    (setting,) = re.findall(r"--notification-configuration '(.+)'", GUIDE)
    pattern, targets = blocks("json")
    region = {"region_name": "eu-central-1", "aws_access_key_id": "test", "aws_secret_access_key": "test"}
    with mock_aws():
        s3, rules, queues = (boto3.client(name, **region) for name in ("s3", "events", "sqs"))
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        s3.put_bucket_notification_configuration(Bucket=BUCKET, NotificationConfiguration=json.loads(setting))
        rules.put_rule(Name="s3ferry-photos", EventPattern=pattern)
        assert rules.put_targets(Rule="s3ferry-photos", Targets=json.loads(targets))["FailedEntryCount"] == 0
        # in the place of the target, which needs a cluster
        rules.remove_targets(Rule="s3ferry-photos", Ids=["s3ferry-photos"])
        queue = queues.create_queue(QueueName="seen")["QueueUrl"]
        asked = queues.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
        rules.put_targets(Rule="s3ferry-photos", Targets=[{"Id": "seen", "Arn": asked["Attributes"]["QueueArn"]}])
        for key in ("photos/daily/data/0.csv.gz", KEY.replace("checksum", "json"), KEY, KEY.replace("daily", "weekly")):
            s3.put_object(Bucket=BUCKET, Key=key, Body=b"0")
        seen = queues.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", [])
        return [json.loads(message["Body"]) for message in seen]


def test_the_rule_takes_the_event_of_a_complete_inventory_and_no_other(events: list[dict[str, Any]]) -> None:
    assert [event["detail"]["object"]["key"] for event in events] == [KEY]


def test_the_target_makes_a_run_of_the_event(events: list[dict[str, Any]]) -> None:
    (target,) = json.loads(blocks("json")[1])
    text = target["InputTransformer"]["InputTemplate"]
    for name, path in target["InputTransformer"]["InputPathsMap"].items():
        value: Any = events[0]
        for step in path.removeprefix("$.").split("."):
            value = value[step]
        text = text.replace(f"<{name}>", value)
    (override,) = json.loads(text)["containerOverrides"]
    command, *flags = override["command"]

    assert (override["name"], command) == ("s3ferry", "run")
    assert parse_run(flags).inventory.manifests == (f"s3://{BUCKET}/{KEY}",)


def _ended(conn: Connection, ref: RunRef, outcome: Outcome, ago: timedelta) -> None:
    finish_run(conn, ref, outcome, 0, {})
    release(conn, ref)
    conn.execute("UPDATE runs SET finished_at = clock_timestamp() - %s WHERE run_id = %s", (ago, ref.run_id))


def test_the_query_names_jobs_without_a_success_of_late(dsn: str, conn: Connection) -> None:
    for job, outcome, ago in (
        ("fresh", Outcome.SUCCEEDED, timedelta(hours=2)),
        ("stale", Outcome.SUCCEEDED, timedelta(days=2)),
        ("stale", Outcome.FAILED, timedelta(hours=1)),
        ("never", Outcome.BROKEN, timedelta(hours=1)),
    ):
        _ended(conn, start_run(dsn, a_run(job=job, destination_prefix=f"{job}/")), outcome, ago)
    (query,) = blocks("sql")
    assert {row[0] for row in conn.execute(query).fetchall()} == {"stale", "never"}


def test_the_runs_whose_history_may_go_are_old_and_still_have_one(dsn: str, conn: Connection) -> None:
    old, dropped, young = (start_and_end(dsn, conn, days) for days in (100, 100, 10))
    drop_history(conn, dropped.run_id)
    (command,) = [block for block in blocks("sh") if block.startswith("psql")]
    (query,) = re.findall(r'-c "([^"]+)"', command)
    assert conn.execute(query).fetchall() == [(old.run_id,)]
    assert young.run_id > old.run_id


def start_and_end(dsn: str, conn: Connection, days: int) -> RunRef:
    """A run that ended so many days ago."""
    ref = start_run(dsn, a_run())
    _ended(conn, ref, Outcome.SUCCEEDED, timedelta(days=days))
    return ref


def test_the_commands_of_keeping_house_are_taken() -> None:
    house = [block for block in blocks("sh") if "sweep" in block or "ledger drop" in block]
    sweep, drop = (shlex.split(block.rpartition("s3ferry ")[2]) for block in house)
    assert sweep[0] == "sweep"
    assert parse_sweep(sweep[1:]).yes
    assert drop[0] == "ledger"
    assert parse_ledger([*drop[1:], "12"]).run_id == 12


@pytest.mark.parametrize("workers", [1, 2, 4, 8, 16])
def test_the_least_memory_the_guide_names_is_enough(workers: int) -> None:
    base, each, least = map(int, re.findall(r"at least (\d+) MiB \+ (\d+) MiB x workers, and (\d+) MiB", GUIDE)[0])
    limit = max(base + each * workers, least * workers) * MIB
    budget = body_budget(limit, workers)
    limits = transfer_limits(parse_run(["--manifest=s3://inventory/latest", "--destination=s3://copies"]), workers)

    assert DRIVER_BYTES + workers * (WORKER_BASE_BYTES + budget) <= limit
    assert budget >= bodies_bytes(limits) == 112 * MIB


def test_every_exit_code_has_its_row() -> None:
    assert set(re.findall(r"^\| (\d) \| ", GUIDE, re.MULTILINE)) == {str(code.value) for code in Exit}


def test_every_folder_and_file_it_names_is_there() -> None:
    named = set(re.findall(r"deploy/(?:cron|systemd|kubernetes)[\w./-]*\w", GUIDE))
    assert "deploy/cron/s3ferry" in named
    for name in named:
        assert (REPOSITORY / name).exists() or list(REPOSITORY.glob(f"{name}.*")), name
