"""What a run says, and with which code it ends, when it cannot do its work at all."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.fixtures.compare import keys_of
from tests.fixtures.s3 import S3Server
from tests.integration.conftest import MakeFerry, new_bucket
from tests.integration.ferry import Finished
from tests.integration.ledger import Ledger
from tests.integration.scenes import Scene, small_objects, stocked

NOBODY = "http://127.0.0.1:1"


@pytest.fixture
def scene(minio: S3Server) -> Scene:
    """Three small objects."""
    return stocked(minio, new_bucket(minio), small_objects(3))


@pytest.fixture
def target(minio: S3Server) -> str:
    """An empty bucket."""
    return new_bucket(minio)


def the_line(run: Finished) -> str:
    """The one line a run gives as its reason: on standard error, or behind the table once the run had begun."""
    said = [line for line in run.stderr.splitlines() if line.startswith("s3ferry: ")]
    if not said:
        return run.last_sentence
    (line,) = said
    return line


@pytest.mark.parametrize("side", ["source", "destination"])
def test_a_wrong_secret_breaks_the_run_and_names_the_side(
    side: str, scene: Scene, target: str, minio: S3Server, ferry: MakeFerry, ledger: Ledger
) -> None:
    stranger = replace(minio, secret_key="not-the-secret-key")
    source, destination = (stranger, minio) if side == "source" else (minio, stranger)
    run = ferry(source, destination, ledger).run(scene.inventory(), f"s3://{target}")
    assert run.code == 3, run.explain()
    assert f"{side}: " in the_line(run)
    assert "SignatureDoesNotMatch" in the_line(run)
    assert "not-the-secret-key" not in run.stdout + run.stderr


def test_a_source_bucket_that_does_not_exist_breaks_the_run(
    scene: Scene, target: str, minio: S3Server, ferry: MakeFerry, ledger: Ledger
) -> None:
    rows = [{**row, "bucket": f"{scene.bucket}-gone"} for row in scene.rows]
    minio.client().create_bucket(Bucket=f"{scene.bucket}-gone-inventory")
    manifest = Scene(minio, f"{scene.bucket}-gone", rows).inventory()
    run = ferry(minio, minio, ledger).run(manifest, f"s3://{target}")
    assert run.code == 3, run.explain()
    assert "source: the bucket" in the_line(run)
    assert "NoSuchBucket" in the_line(run)


def test_a_destination_bucket_that_does_not_exist_breaks_the_run_and_is_recorded(
    scene: Scene, minio: S3Server, ferry: MakeFerry, ledger: Ledger
) -> None:
    run = ferry(minio, minio, ledger).run(scene.inventory(), f"s3://{scene.bucket}-gone")
    assert run.code == 3 == run.summary["exit_code"], run.explain()
    assert "destination: the bucket" in the_line(run)
    assert "NoSuchBucket" in the_line(run)
    stored = ledger.run()
    assert (stored["outcome"], stored["exit_code"], stored["error"]) == ("broken", 3, run.summary["error"])


@pytest.mark.parametrize("side", ["source", "destination"])
def test_an_endpoint_nobody_answers_at_breaks_the_run(
    side: str, scene: Scene, target: str, minio: S3Server, ferry: MakeFerry, ledger: Ledger
) -> None:
    silent = replace(minio, endpoint_url=NOBODY)
    source, destination = (silent, minio) if side == "source" else (minio, silent)
    run = ferry(source, destination, ledger).run(scene.inventory(), f"s3://{target}")
    assert run.code == 3, run.explain()
    assert f"{side}: " in the_line(run)


def test_a_manifest_that_does_not_exist_is_wrong_input(
    scene: Scene, target: str, minio: S3Server, ferry: MakeFerry, ledger: Ledger
) -> None:
    manifest = scene.inventory().replace("/daily/", "/weekly/")
    run = ferry(minio, minio, ledger).run(manifest, f"s3://{target}")
    assert run.code == 2, run.explain()
    assert the_line(run).startswith(f"s3ferry: {manifest} does not exist")


def test_without_a_ledger_nothing_begins(scene: Scene, target: str, minio: S3Server, ferry: MakeFerry) -> None:
    run = ferry(minio, minio, None).run(scene.inventory(), f"s3://{target}")
    assert run.code == 2, run.explain()
    assert the_line(run).startswith("s3ferry: no ledger is named; set LEDGER_DSN")


def test_a_ledger_that_cannot_be_reached_breaks_the_run_before_anything_is_copied(
    scene: Scene, target: str, minio: S3Server, ferry: MakeFerry
) -> None:
    nowhere = Ledger("host=127.0.0.1 port=1 dbname=ledger user=ferry password=sesame")
    run = ferry(minio, minio, nowhere).run(scene.inventory(), f"s3://{target}")
    assert run.code == 3, run.explain()
    assert the_line(run).startswith("s3ferry: the ledger did not answer")
    assert "sesame" not in run.stderr
    assert keys_of(minio.client(), target) == []
