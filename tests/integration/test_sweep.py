"""`s3ferry sweep`: uploads nobody will end are found, shown, and aborted when told to; those of a live run are not."""

from __future__ import annotations

import time
from typing import Any

import pytest

from local.workload import WorkObject
from tests.fixtures.s3 import S3Server
from tests.integration.conftest import MakeFerry, MakeProxy, new_bucket
from tests.integration.ferry import Ferry, Finished, until
from tests.integration.ledger import Ledger
from tests.integration.proxy import gate
from tests.integration.scenes import MIB, SPLIT, stocked

NOW = "--older_than=0s"


def sweep(user: Ferry, target: str, *flags: str) -> Finished:
    """`s3ferry sweep` of a bucket, or of a bucket and prefix."""
    endpoint = f"--destination_endpoint_url={user.destination.endpoint_url}"
    return user.command("sweep", f"--destination=s3://{target}", endpoint, *flags).wait()


def begun(server: S3Server, target: str, key: str) -> str:
    """An upload of another tool, with one part of 5 MiB."""
    client = server.client()
    upload: str = client.create_multipart_upload(Bucket=target, Key=key)["UploadId"]
    client.upload_part(Bucket=target, Key=key, UploadId=upload, PartNumber=1, Body=bytes(5 * MIB))
    return upload


def begun_later(server: S3Server, target: str, key: str) -> str:
    """The same, of a later second: some servers tell no more of when an upload was begun."""
    time.sleep(1.1)
    return begun(server, target, key)


def open_uploads(server: S3Server, target: str, key: str) -> list[Any]:
    found: list[Any] = server.client().list_multipart_uploads(Bucket=target, Prefix=key).get("Uploads", [])
    return found


@pytest.fixture(params=["minio", "versitygw"])
def server(request: pytest.FixtureRequest) -> S3Server:
    """A server that is both source and destination."""
    found: S3Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def target(server: S3Server) -> str:
    """An empty bucket."""
    return new_bucket(server)


@pytest.fixture
def killed(server: S3Server, proxied: MakeProxy, ferry: MakeFerry, ledger: Ledger, target: str) -> Ferry:
    """A user whose run of one large object was killed between its parts, and whose lease has run out."""
    proxy = proxied(server)
    user = ferry(proxy.server, proxy.server, ledger, *SPLIT, "--workers=2", "--flush_interval=0.1", "--lease_ttl=1")
    scene = stocked(server, new_bucket(server), [WorkObject("large", 38 * MIB)])
    proxy.rule, opened = gate(lambda request: request.bucket == target and request.is_part, 4)
    run = user.start(scene.inventory(), f"s3://{target}")
    run.until(lambda: len(ledger.recorded_parts().get("large", ())) >= 2, "two parts are recorded")
    run.kill_group()
    opened.set()
    live = "SELECT expires_at > clock_timestamp() FROM leases"
    until(lambda: not ledger.value(live), "the lease has run out")
    return user


def test_an_upload_that_a_run_left_is_shown_and_kept(killed: Ferry, server: S3Server, target: str) -> None:
    (upload,) = open_uploads(server, target, "large")

    shown = sweep(killed, target, NOW)

    assert shown.code == 0, shown.explain()
    line, last = shown.stdout.splitlines()
    assert upload["UploadId"] in line
    assert "run 1" in line
    assert f"s3://{target}/large" in line
    assert last.startswith("1 uploads hold")
    assert len(open_uploads(server, target, "large")) == 1


def test_it_is_aborted_when_told_to_and_the_next_sweep_finds_nothing(
    killed: Ferry, server: S3Server, ledger: Ledger, target: str
) -> None:
    swept = sweep(killed, target, NOW, "--yes")

    assert swept.code == 0, swept.explain()
    assert open_uploads(server, target, "large") == []
    assert ledger.rows("SELECT state FROM uploads") == [{"state": "aborted"}]
    assert sweep(killed, target, NOW).stdout == "0 uploads hold 0 B\n"


def test_of_two_uploads_under_a_key_whose_creation_was_not_recorded_both_go(
    killed: Ferry, server: S3Server, ledger: Ledger, target: str
) -> None:
    ledger.rows("UPDATE uploads SET upload_id = '' RETURNING identity")
    begun_later(server, target, "large")

    swept = sweep(killed, target, NOW, "--yes")

    assert swept.code == 0, swept.explain()
    first, second, last = swept.stdout.splitlines()
    assert ("run 1 " in first, "listed " in second) == (True, True)
    assert last.startswith("2 of 2 uploads aborted")
    assert open_uploads(server, target, "large") == []
    assert ledger.rows("SELECT state FROM uploads") == [{"state": "aborted"}]


def test_by_the_ledger_alone_only_one_of_them_goes(
    killed: Ferry, server: S3Server, ledger: Ledger, target: str
) -> None:
    ledger.rows("UPDATE uploads SET upload_id = '' RETURNING identity")
    theirs = begun_later(server, target, "large")

    swept = sweep(killed, target, NOW, "--find=ledger", "--yes")

    assert swept.code == 0, swept.explain()
    assert [upload["UploadId"] for upload in open_uploads(server, target, "large")] == [theirs]


@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "not-recorded"])
def test_a_row_whose_upload_is_gone_is_shown_and_closed_when_told_to(
    recorded: bool, killed: Ferry, server: S3Server, ledger: Ledger, target: str
) -> None:
    (upload,) = open_uploads(server, target, "large")
    server.client().abort_multipart_upload(Bucket=target, Key="large", UploadId=upload["UploadId"])
    if not recorded:
        ledger.rows("UPDATE uploads SET upload_id = '' RETURNING identity")
    gone = "1 uploads are open in the ledger and gone at the destination"

    young, shown = sweep(killed, target), sweep(killed, target, NOW)
    assert young.stdout == "0 uploads hold 0 B\n"
    assert shown.stdout == f"0 uploads hold 0 B\n{gone}; --yes closes them\n"
    assert ledger.rows("SELECT state FROM uploads") == [{"state": "open"}]

    swept = sweep(killed, target, NOW, "--yes")
    assert (swept.code, swept.stdout.splitlines()[-1]) == (0, f"{gone}; 1 of them closed")
    assert ledger.rows("SELECT state FROM uploads") == [{"state": "aborted"}]
    assert sweep(killed, target, NOW).stdout == "0 uploads hold 0 B\n"


def test_an_upload_younger_than_asked_for_is_left_alone(killed: Ferry, target: str) -> None:
    assert sweep(killed, target).stdout == "0 uploads hold 0 B\n"


def test_another_tools_upload_is_found_by_listing_alone(
    server: S3Server, ferry: MakeFerry, ledger: Ledger, target: str
) -> None:
    user = ferry(server, server, ledger)
    assert user.command("ledger", "migrate").wait().code == 0
    upload = begun(server, target, "theirs")

    by_ledger = sweep(user, target, NOW, "--find=ledger", "--yes")
    listed = sweep(user, target, NOW)

    assert by_ledger.stdout == "0 of 0 uploads aborted, which hold 0 B together\n"
    assert f"listed      s3://{target}/theirs  {upload}" in listed.stdout
    assert len(open_uploads(server, target, "theirs")) == 1


@pytest.mark.parametrize("name", ["minio", "versitygw"])
def test_of_other_tools_uploads_only_those_below_the_prefix_are_found(
    request: pytest.FixtureRequest, name: str, ferry: MakeFerry, ledger: Ledger
) -> None:
    server: S3Server = request.getfixturevalue(name)
    target, user = new_bucket(server), ferry(server, server, ledger)
    assert user.command("ledger", "migrate").wait().code == 0
    begun(server, target, "below/one")
    begun(server, target, "beside")

    swept = sweep(user, f"{target}/below/", NOW, "--yes")

    assert swept.stdout.splitlines()[-1] == "1 of 1 uploads aborted, which hold 5.2 MB together"
    assert open_uploads(server, target, "below/one") == []
    assert len(open_uploads(server, target, "beside")) == 1


def test_an_upload_of_a_run_under_way_is_left_alone(
    server: S3Server, proxied: MakeProxy, ferry: MakeFerry, ledger: Ledger, target: str
) -> None:
    proxy = proxied(server)
    user = ferry(proxy.server, proxy.server, ledger, *SPLIT, "--workers=2", "--flush_interval=0.1")
    scene = stocked(server, new_bucket(server), [WorkObject("large", 38 * MIB)])
    proxy.rule, opened = gate(lambda request: request.bucket == target and request.is_part, 4)
    run = user.start(scene.inventory(), f"s3://{target}")
    run.until(lambda: len(ledger.recorded_parts().get("large", ())) >= 2, "two parts are recorded")

    swept = sweep(user, target, NOW, "--yes")
    opened.set()

    assert swept.stdout == "0 of 0 uploads aborted, which hold 0 B together\n"
    finished = run.wait()
    assert finished.statuses == {"VERIFIED": 1}, finished.explain()
