"""What did not end well leaves the ledger as files, and comes back as the next run's manifest."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import fastavro
import psycopg
import pytest

from local.workload import WorkObject
from tests.fixtures.compare import differences
from tests.fixtures.s3 import S3Server
from tests.integration.conftest import MakeFerry, MakeProxy, new_bucket
from tests.integration.ferry import Ferry, Finished
from tests.integration.ledger import Ledger
from tests.integration.proxy import Effect, Request
from tests.integration.scenes import MIB, SPLIT, small_objects, stocked

ODD = (
    "blank and + plus",
    "50% off/100%25.txt",
    "comma, \"quote\" 'n' ;semi",
    "line\nbreak",
    "return\rcarriage",
    "tab\tstop",
    "Straße/日本語/😀",
    "back\\slash",
    "~tilde&amp;=?#.bin",
)
FROZEN = ("frozen/ice + snow.bin", "frozen/plain.bin")
GONE = "gone away"
CHANGED = "changed since"


def files_of(folder: Path) -> dict[str, str]:
    """SHA-256 of each file, by name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def avro(path: Path) -> list[dict[str, Any]]:
    """All records of an Avro file."""
    with path.open("rb") as file:
        return list(fastavro.reader(file))  # type: ignore[arg-type]


def ended(user: Ferry, *arguments: str) -> Finished:
    """A command, to its end."""
    return user.command(*arguments).wait()


def test_what_failed_is_retried_from_the_manifest_the_run_left_and_nothing_else(
    minio: S3Server, proxied: MakeProxy, ferry: MakeFerry, ledger: Ledger, tmp_path: Path
) -> None:
    proxy, writer, target = proxied(minio), proxied(minio), new_bucket(minio)
    odd = [WorkObject(key, 100 + len(key)) for key in ODD]
    frozen = [WorkObject(key, 77) for key in FROZEN]
    others = [*small_objects(8), WorkObject("large + odd", 11 * MIB), WorkObject(GONE, 10), WorkObject(CHANGED, 10)]
    scene = stocked(minio, new_bucket(minio), [*odd, *frozen, *others])
    manifest = scene.inventory()
    minio.client().delete_object(Bucket=scene.bucket, Key=GONE)
    minio.client().put_object(Bucket=scene.bucket, Key=CHANGED, Body=b"what is there now")
    failing = {*ODD, "large + odd"}

    def refuse(request: Request) -> Effect | None:
        if request.key in FROZEN:
            return Effect(refuse=(403, "InvalidObjectState"))
        return Effect(refuse=(403, "AccessDenied")) if request.key in failing else None

    proxy.rule = refuse
    user = ferry(proxy.server, writer.server, ledger, *SPLIT, "--workers=1")
    run = user.run(manifest, f"s3://{target}", f"--export={tmp_path}")
    assert run.code == 1, run.explain()
    assert run.statuses == {"VERIFIED": 8, "FAILED": 10, "ARCHIVED": 2, "SOURCE_GONE": 1, "SOURCE_CHANGED": 1}
    folder = tmp_path / f"run-{run.summary['run_id']}"
    assert sorted(files_of(folder)) == ["dead-letters.avro", "restore.csv", "retry.csv"]
    assert f"retry manifest: {folder / 'retry.csv'}" in run.last_sentence
    assert run.summary["retry_manifest"] == str(folder / "retry.csv")
    letters = {letter["source_key"]: letter for letter in avro(folder / "dead-letters.avro")}
    assert {key for key, letter in letters.items() if letter["status"] == "FAILED"} == failing
    assert (letters[GONE]["status"], letters[CHANGED]["status"]) == ("SOURCE_GONE", "SOURCE_CHANGED")
    assert all("403" in letters[key]["reason"] and letters[key]["attempts"] >= 1 for key in failing)

    retriable = {*failing, CHANGED}
    proxy.forget()
    writer.forget()
    retried = user.run(str(folder / "retry.csv"), f"s3://{target}")
    assert (retried.code, retried.statuses) == (0, {"VERIFIED": 11}), retried.explain()
    assert {row["source_key"] for row in ledger.objects(retried.summary["run_id"]).values()} == retriable
    assert {request.key for request in writer.asked(target) if request.method in ("PUT", "POST")} == retriable

    restored = user.run(str(folder / "restore.csv"), f"s3://{target}", "--csv_key_encoding=percent")
    assert (restored.code, restored.statuses) == (0, {"VERIFIED": 2}), restored.explain()
    client = minio.client()
    kept = [key for key in scene.keys if key != GONE]
    assert differences((client, scene.bucket), (client, target), keys=kept) == []
    again = user.run(manifest, f"s3://{target}", f"--export={tmp_path}")
    assert again.statuses == {"SKIPPED": 20, "SOURCE_GONE": 1, "SOURCE_CHANGED": 1}, again.explain()


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="there is no sha256sum")
def test_an_export_proves_the_copies_with_sha256sum_alone(
    minio: S3Server, ferry: MakeFerry, ledger: Ledger, tmp_path: Path
) -> None:
    target = new_bucket(minio)
    scene = stocked(minio, new_bucket(minio), [*small_objects(5), *(WorkObject(key, 100 + len(key)) for key in ODD)])
    user = ferry(minio, minio, ledger, "--workers=1")
    run = user.run(scene.inventory(), f"s3://{target}", f"--export={tmp_path / 'empty'}")
    assert run.code == 0, run.explain()
    assert list((tmp_path / "empty").iterdir()) == []
    run_id = str(run.summary["run_id"])
    exported = ended(user, "ledger", "export", run_id, f"--to={tmp_path}")
    assert exported.code == 0, exported.explain()

    mirror, folder = tmp_path / "mirror", tmp_path / f"run-{run_id}"
    assert sorted(files_of(folder)) == ["SHA256SUMS", "export.json", "records.avro"]
    for key in scene.keys:
        (mirror / key).parent.mkdir(parents=True, exist_ok=True)
        minio.client().download_file(target, key, str(mirror / key))
    check = ["sha256sum", "--check", "--strict", "--quiet", str(folder / "SHA256SUMS")]
    assert subprocess.run(check, cwd=mirror, check=False).returncode == 0
    (mirror / "line\nbreak").write_bytes(b"damaged")
    assert subprocess.run(check, cwd=mirror, check=False, capture_output=True).returncode == 1

    before = files_of(folder)
    assert {record["destination_key"] for record in avro(folder / "records.avro")} == set(scene.keys)
    assert ended(user, "ledger", "export", run_id, f"--to={tmp_path}").code == 0
    assert files_of(folder) == before
    contents = json.loads((folder / "export.json").read_text())
    assert contents["records_digest"] == contents["digest_at_end_of_run"] == run.summary["records_digest"]
    assert {name: info["sha256"] for name, info in contents["files"].items()}.items() <= before.items()


def test_a_tampered_record_is_found_by_check_and_export(
    minio: S3Server, ferry: MakeFerry, ledger: Ledger, tmp_path: Path
) -> None:
    scene = stocked(minio, new_bucket(minio), small_objects(5))
    user = ferry(minio, minio, ledger, "--workers=1")
    run = user.run(scene.inventory(), f"s3://{new_bucket(minio)}")
    run_id = str(run.summary["run_id"])
    clean = ended(user, "ledger", "check", run_id)
    assert clean.code == 0, clean.explain()
    assert clean.stdout == (
        f"the records of run {run_id} are those of its end: 5 records with SHA-256 {run.summary['records_digest']}\n"
    )

    with psycopg.connect(ledger.dsn) as connection:
        connection.execute("UPDATE attempts SET sha256 = repeat('0', 64) WHERE destination_key = %s", (scene.keys[3],))
    found = ended(user, "ledger", "check", run_id)
    assert found.code == 1, found.explain()
    assert "as many, so at least one was changed" in found.stdout
    assert f"table objects differs from them for 1 objects: {scene.keys[3]}" in found.stdout
    exported = ended(user, "ledger", "export", run_id, f"--to={tmp_path}")
    assert exported.code == 1, exported.explain()
    assert "not those of its end" in exported.stderr


def test_a_run_stopped_by_its_failures_leaves_them_as_a_manifest_and_a_digest_that_holds(
    minio: S3Server, proxied: MakeProxy, ferry: MakeFerry, ledger: Ledger, tmp_path: Path
) -> None:
    proxy, target = proxied(minio), new_bucket(minio)
    scene = stocked(minio, new_bucket(minio), small_objects(400, size=10))

    def refuse(request: Request) -> Effect | None:
        return Effect(refuse=(403, "AccessDenied")) if request.key.startswith("small/") else None

    proxy.rule = refuse
    user = ferry(proxy.server, minio, ledger, "--workers=2", "--max_in_flight=2", "--small_unit_objects=10")
    run = user.run(scene.inventory(), f"s3://{target}", "--max_failures=20", f"--export={tmp_path}")
    assert run.code == 3, run.explain()
    failed = ledger.keys("FAILED")
    rows = Path(run.summary["retry_manifest"]).read_text().splitlines()
    assert {row.partition(",")[2] for row in rows} == failed
    assert ended(user, "ledger", "check", str(run.summary["run_id"])).code == 0


def test_files_that_cannot_be_written_do_not_lose_the_run(
    minio: S3Server, proxied: MakeProxy, ferry: MakeFerry, ledger: Ledger, tmp_path: Path
) -> None:
    proxy = proxied(minio)
    scene = stocked(minio, new_bucket(minio), small_objects(3))
    proxy.rule = lambda request: Effect(refuse=(403, "AccessDenied")) if request.key == scene.keys[0] else None
    (tmp_path / "run-1").write_text("in the way")
    user = ferry(proxy.server, minio, ledger, "--workers=1")
    run = user.run(scene.inventory(), f"s3://{new_bucket(minio)}", f"--export={tmp_path}")
    assert run.code == 3, run.explain()
    assert run.statuses == {"VERIFIED": 2, "FAILED": 1}
    assert ledger.run()["outcome"] == "failed"
    assert run.stderr.splitlines()[-1].startswith("s3ferry: --export: run 1 could not be exported to ")
    assert "s3ferry ledger export 1" in run.stderr.splitlines()[-1]


def test_a_folder_that_cannot_be_made_is_refused_before_anything_is_copied(
    minio: S3Server, ferry: MakeFerry, ledger: Ledger, tmp_path: Path
) -> None:
    target = new_bucket(minio)
    scene = stocked(minio, new_bucket(minio), small_objects(1))
    (tmp_path / "file").write_text("")
    run = ferry(minio, minio, ledger).run(scene.inventory(), f"s3://{target}", f"--export={tmp_path / 'file' / 'out'}")
    assert run.code == 2, run.explain()
    assert "--export: " in run.stderr
    assert not ledger.is_made()
