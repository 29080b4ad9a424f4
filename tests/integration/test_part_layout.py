"""`--part_layout=source`: the copy is cut as its source was, so both have one ETag, which proves the bytes read."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from boto3.s3.transfer import TransferConfig

from local.workload import content
from tests.fixtures.compare import differences
from tests.fixtures.s3 import S3Server
from tests.fixtures.tools import tool
from tests.integration.conftest import MakeFerry, MakeProxy, new_bucket
from tests.integration.ledger import Ledger
from tests.integration.scenes import MIB, WHEN, Scene

SIZE = 33 * MIB + 7
LAYOUTS: dict[str, list[int]] = {
    "aws-cli": [8 * MIB] * 4 + [MIB + 7],
    "rclone": [5 * MIB] * 6 + [3 * MIB + 7],
    "console": [16 * MIB] * 2 + [MIB + 7],
    "decimal": [10_000_000] * 3 + [SIZE - 30_000_000],
    "one-part": [SIZE],
    "uneven": [5 * MIB, 9 * MIB, 6 * MIB, 13 * MIB + 7],
}
SHIFTED = [8 * MIB, 9 * MIB, 7 * MIB, 8 * MIB, MIB + 7]
"""Its first and last part are those of equal parts."""


def uploaded_by_parts(server: S3Server, bucket: str, key: str, lengths: Sequence[int]) -> dict[str, object]:
    """Uploads an object in parts of these lengths, without checksums; the row an inventory has of it."""
    client, body, parts, offset = server.client(), b"".join(content(key, sum(lengths))), [], 0
    upload = client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    for number, length in enumerate(lengths, start=1):
        piece = body[offset : offset + length]
        answer = client.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=number, Body=piece)
        parts.append({"PartNumber": number, "ETag": answer["ETag"]})
        offset += length
    client.complete_multipart_upload(Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": parts})
    etag = etags_of(server, bucket, [key])[key]
    return {"key": key, "size": sum(lengths), "e_tag": etag, "last_modified_date": WHEN}


def etags_of(server: S3Server, bucket: str, keys: Iterable[str]) -> dict[str, str]:
    client = server.client()
    return {key: client.head_object(Bucket=bucket, Key=key)["ETag"].strip('"') for key in keys}


@pytest.mark.parametrize("name", ["minio", "versitygw"])
def test_a_copy_has_its_sources_etag_whatever_the_parts_were(
    request: pytest.FixtureRequest, name: str, ferry: MakeFerry, ledger: Ledger
) -> None:
    server: S3Server = request.getfixturevalue(name)
    bucket, target = new_bucket(server), new_bucket(server)
    server.client().create_bucket(Bucket=f"{bucket}-inventory")
    rows = [uploaded_by_parts(server, bucket, key, lengths) for key, lengths in LAYOUTS.items()]
    plain = server.client().put_object(Bucket=bucket, Key="plain", Body=b"".join(content("plain", SIZE)))
    rows.append({"key": "plain", "size": SIZE, "e_tag": plain["ETag"].strip('"'), "last_modified_date": WHEN})
    manifest = Scene(server, bucket, rows).inventory()

    ran = ferry(server, server, ledger, "--medium_up_to=8MiB", "--workers=2").run(
        manifest, f"s3://{target}", "--part_layout=source"
    )

    assert ran.code == 0, ran.explain()
    assert ran.statuses == {"VERIFIED": len(rows)}
    etags = {str(row["key"]): row["e_tag"] for row in rows}
    assert etags_of(server, target, etags) == etags
    assert differences((server.client(), bucket), (server.client(), target)) == []
    found = {key: row["source_evidence"] for key, row in ledger.objects().items()}
    assert found.pop("plain") in ("etag_md5", "stored_checksum")
    assert set(found.values()) <= {"multipart_etag", "stored_checksum"}


def test_a_server_that_compares_a_parts_own_etag_is_not_taken_for_a_source_that_has_changed(
    moto: S3Server, ferry: MakeFerry, ledger: Ledger
) -> None:
    bucket, target = new_bucket(moto), new_bucket(moto)
    moto.client().create_bucket(Bucket=f"{bucket}-inventory")
    row = uploaded_by_parts(moto, bucket, "equal", [8 * MIB, 8 * MIB, 3 * MIB])
    manifest = Scene(moto, bucket, [row]).inventory()

    ran = ferry(moto, moto, ledger, "--medium_up_to=8MiB", "--workers=1").run(
        manifest, f"s3://{target}", "--part_layout=source"
    )

    assert (ran.code, ran.statuses) == (0, {"VERIFIED": 1}), ran.explain()
    assert etags_of(moto, target, ["equal"]) == {"equal": row["e_tag"]}


def uploaded_by_aws_cli(server: S3Server, file: Path, bucket: str, key: str, chunk: str) -> None:
    settings = file.with_suffix(".aws")
    settings.write_text(f"[default]\ns3 =\n  multipart_chunksize = {chunk}\n  multipart_threshold = {chunk}\n")
    command = [str(tool("aws")), "s3", "cp", "--quiet", f"--endpoint-url={server.endpoint_url}", str(file)]
    subprocess.run([*command, f"s3://{bucket}/{key}"], env=keys_for(server, AWS_CONFIG_FILE=str(settings)), check=True)


def uploaded_by_rclone(server: S3Server, file: Path, bucket: str, key: str, chunk: str) -> None:
    remote = f":s3,provider=Other,env_auth=true,endpoint='{server.endpoint_url}':{bucket}/{key}"
    flags = ["--config=", f"--s3-chunk-size={chunk}", "--s3-upload-cutoff=5Mi", "--s3-no-check-bucket"]
    subprocess.run([str(tool("rclone")), "copyto", *flags, str(file), remote], env=keys_for(server), check=True)


def uploaded_by_boto3(server: S3Server, file: Path, bucket: str, key: str, chunk: str) -> None:
    settings = TransferConfig(multipart_threshold=int(chunk), multipart_chunksize=int(chunk))
    server.client().upload_file(str(file), bucket, key, Config=settings)


def keys_for(server: S3Server, **more: str) -> dict[str, str]:
    """The environment of a client of `server`."""
    credentials = {"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key}
    return {"PATH": os.environ["PATH"], "AWS_REGION": server.region, **credentials, **more}


CLIENTS = {
    "aws-cli-8MB": (uploaded_by_aws_cli, "8MB"),
    "aws-cli-10MB": (uploaded_by_aws_cli, "10MB"),
    "rclone-5Mi": (uploaded_by_rclone, "5Mi"),
    "rclone-12Mi": (uploaded_by_rclone, "12Mi"),
    "boto3-7MiB": (uploaded_by_boto3, str(7 * MIB)),
    "boto3-whole": (uploaded_by_boto3, str(64 * MIB)),
}


@pytest.mark.parametrize("name", ["minio", "versitygw"])
def test_a_copy_has_its_sources_etag_whichever_client_uploaded_it(
    request: pytest.FixtureRequest, name: str, tmp_path: Path, ferry: MakeFerry, ledger: Ledger
) -> None:
    server: S3Server = request.getfixturevalue(name)
    bucket, target, file = new_bucket(server), new_bucket(server), tmp_path / "file"
    server.client().create_bucket(Bucket=f"{bucket}-inventory")
    file.write_bytes(b"".join(content("file", SIZE)))
    for key, (upload, chunk) in CLIENTS.items():
        upload(server, file, bucket, key, chunk)
    etags = etags_of(server, bucket, CLIENTS)
    rows = [{"key": key, "size": SIZE, "e_tag": etag, "last_modified_date": WHEN} for key, etag in etags.items()]

    ran = ferry(server, server, ledger, "--medium_up_to=8MiB", "--workers=2").run(
        Scene(server, bucket, rows).inventory(), f"s3://{target}", "--part_layout=source"
    )

    assert ran.statuses == {"VERIFIED": len(CLIENTS)}, ran.explain()
    assert len(set(etags.values())) == len(CLIENTS)
    assert etags_of(server, target, CLIENTS) == etags
    assert differences((server.client(), bucket), (server.client(), target)) == []


def test_without_the_flag_parts_have_the_size_asked_for(minio: S3Server, ferry: MakeFerry, ledger: Ledger) -> None:
    bucket, target = new_bucket(minio), new_bucket(minio)
    minio.client().create_bucket(Bucket=f"{bucket}-inventory")
    rows = [uploaded_by_parts(minio, bucket, "aws-cli", LAYOUTS["aws-cli"])]
    manifest = Scene(minio, bucket, rows).inventory()

    ran = ferry(minio, minio, ledger, "--medium_up_to=8MiB").run(manifest, f"s3://{target}", "--part_size=6MiB")

    assert ran.statuses == {"VERIFIED": 1}, ran.explain()
    assert minio.client().head_object(Bucket=target, Key="aws-cli")["ETag"].strip('"').endswith("-6")
    assert ledger.objects()["aws-cli"]["source_evidence"] == "length"


def test_the_parts_of_equal_ones_are_asked_for_twice_and_no_more(
    minio: S3Server, proxied: MakeProxy, ferry: MakeFerry, ledger: Ledger
) -> None:
    bucket, target, proxy = new_bucket(minio), new_bucket(minio), proxied(minio)
    minio.client().create_bucket(Bucket=f"{bucket}-inventory")
    rows = [uploaded_by_parts(minio, bucket, "rclone", LAYOUTS["rclone"])]
    manifest = Scene(minio, bucket, rows).inventory()

    ran = ferry(proxy.server, proxy.server, ledger, "--medium_up_to=8MiB").run(
        manifest, f"s3://{target}", "--part_layout=source"
    )

    assert ran.statuses == {"VERIFIED": 1}, ran.explain()
    asked = [request for request in proxy.seen if "partNumber" in request.query and request.method == "HEAD"]
    assert len(asked) == 2


def test_a_layout_its_ends_do_not_show_is_found_out_before_it_counts_as_a_mismatch(
    minio: S3Server, proxied: MakeProxy, ferry: MakeFerry, ledger: Ledger
) -> None:
    bucket, target, proxy = new_bucket(minio), new_bucket(minio), proxied(minio)
    minio.client().create_bucket(Bucket=f"{bucket}-inventory")
    rows = [uploaded_by_parts(minio, bucket, "shifted", SHIFTED)]
    manifest = Scene(minio, bucket, rows).inventory()

    ran = ferry(proxy.server, proxy.server, ledger, "--medium_up_to=8MiB").run(
        manifest, f"s3://{target}", "--part_layout=source"
    )

    assert ran.statuses == {"VERIFIED": 1}, ran.explain()
    assert differences((minio.client(), bucket), (minio.client(), target)) == []
    row = ledger.objects()["shifted"]
    assert row["source_evidence"] == "length"
    assert row["error"].startswith(f"the copy's ETag is {row['destination_etag']}, the source's {row['source_etag']}: ")
    assert "the source was cut otherwise" in ran.stderr
    asked = [request.query["partNumber"] for request in proxy.asked(bucket) if "partNumber" in request.query]
    assert sorted(asked) == ["1", "1", "2", "3", "4", "5", "5"]
