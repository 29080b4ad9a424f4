"""`--copy_mode`: the server copies the bytes itself where its own words prove the copy."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.workload import WorkObject, content
from tests.fixtures.compare import differences
from tests.fixtures.s3 import S3Server
from tests.fixtures.simulated_s3 import SimulatedS3, simulated_s3
from tests.integration.conftest import MakeFerry, MakeProxy, new_bucket
from tests.integration.ledger import Ledger
from tests.integration.scenes import MIB, SPLIT, WHEN, Scene, small_objects, stocked
from tests.integration.test_part_layout import uploaded_by_parts

OBJECTS = (*small_objects(6), WorkObject("medium", 3 * MIB), WorkObject("large", 12 * MIB + 7))


@pytest.mark.parametrize("mode", ["server", "auto"])
@pytest.mark.parametrize("name", ["minio", "versitygw"])
def test_the_server_copies_and_no_byte_passes_here(
    request: pytest.FixtureRequest, name: str, mode: str, proxied: MakeProxy, ferry: MakeFerry, ledger: Ledger
) -> None:
    server: S3Server = request.getfixturevalue(name)
    scene, target, proxy = stocked(server, new_bucket(server), OBJECTS), new_bucket(server), proxied(server)

    ran = ferry(proxy.server, proxy.server, ledger, *SPLIT).run(
        scene.inventory(), f"s3://{target}", f"--copy_mode={mode}"
    )

    assert ran.code == 0, ran.explain()
    assert ran.statuses == {"VERIFIED": len(OBJECTS)}
    assert proxy.reads(scene.bucket) == {}
    assert differences((server.client(), scene.bucket), (server.client(), target)) == []
    rows = ledger.objects().values()
    assert {row["destination_evidence"] for row in rows} <= {"etag_md5", "stored_checksum", "multipart_etag"}
    assert all(row["destination_etag"] == row["source_etag"] for row in rows if row["size_class"] == "small")


@pytest.mark.parametrize("name", ["minio", "versitygw"])
def test_an_object_by_parts_keeps_its_layout(
    request: pytest.FixtureRequest, name: str, ferry: MakeFerry, ledger: Ledger
) -> None:
    server: S3Server = request.getfixturevalue(name)
    bucket, target = new_bucket(server), new_bucket(server)
    server.client().create_bucket(Bucket=f"{bucket}-inventory")
    rows = [uploaded_by_parts(server, bucket, "large", [8 * MIB, 8 * MIB, 5])]

    ran = ferry(server, server, ledger, *SPLIT).run(
        Scene(server, bucket, rows).inventory(), f"s3://{target}", "--copy_mode=server", "--part_layout=source"
    )

    assert ran.statuses == {"VERIFIED": 1}, ledger.objects()["large"]["error"]
    row = ledger.objects()["large"]
    assert row["destination_etag"] == row["source_etag"] == rows[0]["e_tag"]
    assert row["source_evidence"] == row["destination_evidence"]
    assert row["destination_evidence"] in ("multipart_etag", "stored_checksum")


def test_digests_that_are_asked_for_are_never_lost(
    minio: S3Server, proxied: MakeProxy, ferry: MakeFerry, ledger: Ledger
) -> None:
    scene, target, proxy = stocked(minio, new_bucket(minio), OBJECTS), new_bucket(minio), proxied(minio)

    ran = ferry(proxy.server, proxy.server, ledger, *SPLIT).run(
        scene.inventory(), f"s3://{target}", "--copy_mode=auto", "--hash=sha256"
    )

    assert ran.statuses == {"VERIFIED": len(OBJECTS)}, ran.explain()
    assert proxy.reads(scene.bucket).keys() == set(scene.keys)
    digests = {row["destination_key"]: row["sha256"] for row in ledger.objects().values()}
    # a SHA-256 cannot be combined from those of parts
    assert [key for key, sha256 in digests.items() if sha256 is None] == ["large"]
    assert ledger.recorded_parts() == {"large": {1, 2, 3}}
    body = b"".join(content("large", 12 * MIB + 7))
    parts = ledger.rows("SELECT sha256 FROM parts ORDER BY part_number")
    assert [row["sha256"] for row in parts] == [
        hashlib.sha256(body[start : start + 5 * MIB]).hexdigest() for start in range(0, len(body), 5 * MIB)
    ]


def test_another_endpoint_is_refused_before_anything_is_copied(
    minio: S3Server, versitygw: S3Server, ferry: MakeFerry, ledger: Ledger
) -> None:
    scene, target = stocked(minio, new_bucket(minio), small_objects(2)), new_bucket(versitygw)

    ran = ferry(minio, versitygw, ledger).run(scene.inventory(), f"s3://{target}", "--copy_mode=server")

    assert ran.code == 2, ran.explain()
    assert "source and destination are not one endpoint; use --copy_mode=stream" in ran.stderr


def test_a_copy_is_read_back_when_asked_to(
    minio: S3Server, proxied: MakeProxy, ferry: MakeFerry, ledger: Ledger
) -> None:
    scene, target, proxy = stocked(minio, new_bucket(minio), OBJECTS), new_bucket(minio), proxied(minio)

    ran = ferry(proxy.server, proxy.server, ledger, *SPLIT).run(
        scene.inventory(), f"s3://{target}", "--copy_mode=server", "--evidence=readback"
    )

    assert ran.statuses == {"VERIFIED": len(OBJECTS)}, ran.explain()
    assert {row["destination_evidence"] for row in ledger.objects().values()} == {"readback"}
    assert proxy.reads(target) == dict.fromkeys(scene.keys, 1)


@pytest.mark.parametrize("flags", [("--evidence=readback",), ("--max_parts=2",)], ids=["readback", "other-parts"])
def test_a_copy_that_cannot_be_proven_is_kept_as_copied(
    flags: tuple[str, ...], minio: S3Server, ferry: MakeFerry, ledger: Ledger
) -> None:
    bucket, target = new_bucket(minio), new_bucket(minio)
    minio.client().create_bucket(Bucket=f"{bucket}-inventory")
    rows = [uploaded_by_parts(minio, bucket, "large", [8 * MIB, 8 * MIB, 5])]

    ran = ferry(minio, minio, ledger, *SPLIT).run(
        Scene(minio, bucket, rows).inventory(), f"s3://{target}", "--copy_mode=server", *flags
    )

    assert (ran.code, ran.statuses) == (0, {"COPIED": 1}), ran.explain()
    assert differences((minio.client(), bucket), (minio.client(), target)) == []


def test_auto_streams_what_the_server_cannot_prove_as_asked(
    minio: S3Server, proxied: MakeProxy, ferry: MakeFerry, ledger: Ledger
) -> None:
    scene, target, proxy = stocked(minio, new_bucket(minio), small_objects(3)), new_bucket(minio), proxied(minio)

    ran = ferry(proxy.server, proxy.server, ledger).run(
        scene.inventory(), f"s3://{target}", "--copy_mode=auto", "--evidence=server"
    )

    assert ran.statuses == {"VERIFIED": 3}, ran.explain()
    assert proxy.reads(scene.bucket) == dict.fromkeys(scene.keys, 1)


@pytest.mark.parametrize("mode", ["server", "auto"])
def test_what_the_server_copied_is_skipped_by_the_next_run(
    mode: str, minio: S3Server, ferry: MakeFerry, ledger: Ledger
) -> None:
    scene, target = stocked(minio, new_bucket(minio), OBJECTS), new_bucket(minio)
    manifest, user = scene.inventory(), ferry(minio, minio, ledger, *SPLIT, f"--copy_mode={mode}")
    first = user.run(manifest, f"s3://{target}")

    second = user.run(manifest, f"s3://{target}")

    assert (first.statuses, second.statuses) == ({"VERIFIED": len(OBJECTS)}, {"SKIPPED": len(OBJECTS)})


@pytest.fixture
def store() -> Iterator[SimulatedS3]:
    """A server without bytes."""
    with simulated_s3() as running:
        yield running


@pytest.mark.parametrize(
    ("size", "copies"),
    [(5 * 1024 * MIB, ["CopyObject"]), (5 * 1024 * MIB + 1, ["UploadPartCopy"] * 161)],
    ids=["5-GiB", "5-GiB-and-one"],
)
def test_what_one_copy_takes_goes_whole_and_what_is_larger_by_parts(
    size: int, copies: list[str], store: SimulatedS3, tmp_path: Path, ferry: MakeFerry, ledger: Ledger
) -> None:
    server = S3Server("simulated", store.endpoint_url)
    rows = [{"key": "large", "size": size, "e_tag": store.put("src/large", size).etag, "last_modified_date": WHEN}]

    def put(key: str, body: bytes | Path) -> None:
        file = tmp_path / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(body if isinstance(body, bytes) else body.read_bytes())

    address = Scene(server, "src", rows).inventory(put=put)
    manifest = tmp_path / address.removeprefix("s3://src-inventory/")

    ran = ferry(server, server, ledger).run(str(manifest), "s3://dst", "--copy_mode=server")

    assert (ran.code, ran.statuses) == (0, {"VERIFIED": 1}), ran.explain()
    asked = [request for request in store.requests if request.startswith("PUT /dst/large")]
    assert ["UploadPartCopy" if "partNumber=" in request else "CopyObject" for request in asked] == copies
    assert store.objects["dst/large"].size == size
    assert store.uploads == {}
