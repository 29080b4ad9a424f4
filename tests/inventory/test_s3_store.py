"""Inventories read from S3, and what goes wrong there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from local.inventory import write_inventory
from model.errors import InvalidInput, RunBroken
from storage.inventory.location import Location, parse_location
from storage.inventory.manifest import Manifest, load_manifest, resolve_latest
from storage.inventory.rows import read_rows
from storage.inventory.s3_store import S3InventoryStore
from storage.inventory.spool import spool
from tests.inventory.helpers import FORMATS, WHEN, Rows, keys

SOME = Location("inv", "some/key")


def write_to(s3: Any, bucket: str, format: str, **changes: Any) -> str:
    def put(key: str, body: bytes | Path) -> None:
        s3.put_object(Bucket=bucket, Key=key, Body=body if isinstance(body, bytes) else body.read_bytes())

    settings: dict[str, Any] = {"when": WHEN, **changes}
    return write_inventory(
        [{"key": "a b", "size": 1}, {"key": "c+d/é", "size": 2}],
        format=format,
        put=put,
        source_bucket="src",
        inventory_bucket=bucket,
        prefix="reports",
        config_id="daily",
        rows_per_file=1,
        **settings,
    )


def read_whole(store: S3InventoryStore, manifest: Manifest, folder: Path) -> Rows:
    return [
        row
        for file in manifest.files
        for batch in read_rows(spool(store, file, folder), manifest.format, manifest.columns, file)
        for row in batch
    ]


@pytest.mark.parametrize("format", FORMATS)
def test_an_inventory_is_read_from_s3(s3: Any, bucket: str, tmp_path: Path, format: str) -> None:
    write_to(s3, bucket, format)
    store = S3InventoryStore(s3)
    location = resolve_latest(store, parse_location(f"s3://{bucket}/reports/src/daily/latest"))
    manifest = load_manifest(store, location)
    assert manifest.uri == f"s3://{bucket}/reports/src/daily/2026-11-22T00-00Z/manifest.json"
    assert keys(read_whole(store, manifest, tmp_path)) == ["a b", "c+d/é"]


def test_latest_in_s3_passes_over_unfinished_folders(s3: Any, bucket: str) -> None:
    done = write_to(s3, bucket, "CSV")
    unfinished = write_to(s3, bucket, "CSV", when=WHEN + timedelta(days=1))
    s3.delete_object(Bucket=bucket, Key=unfinished.replace("manifest.json", "manifest.checksum"))
    latest = parse_location(f"s3://{bucket}/reports/src/daily/latest")
    assert resolve_latest(S3InventoryStore(s3), latest) == Location(bucket, done)


def test_a_batch_operations_csv_is_read_from_s3(s3: Any, bucket: str, tmp_path: Path) -> None:
    s3.put_object(Bucket=bucket, Key="retry.csv", Body=b"src,a%20b\n" * 3)
    store = S3InventoryStore(s3)
    manifest = load_manifest(store, Location(bucket, "retry.csv"))
    assert keys(read_whole(store, manifest, tmp_path)) == ["a b"] * 3


def test_a_missing_object_is_wrong_input(s3: Any, bucket: str) -> None:
    with pytest.raises(InvalidInput, match=f"s3://{bucket}/nowhere does not exist: check the URI"):
        S3InventoryStore(s3).read(Location(bucket, "nowhere"))


def test_a_missing_bucket_is_wrong_input(s3: Any) -> None:
    for use in (S3InventoryStore(s3).read, S3InventoryStore(s3).list_folders):
        with pytest.raises(InvalidInput, match="there is no bucket no-such-bucket"):
            use(Location("no-such-bucket", "key"))


def test_the_first_bytes_may_be_read_alone(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    assert S3InventoryStore(s3).read(Location(bucket, "k"), limit=4) == b"0123"


def test_a_server_that_is_not_there_breaks_the_run(client_for: Callable[[str], Any]) -> None:
    with pytest.raises(RunBroken, match="s3://inv/some/key could not be read"):
        S3InventoryStore(client_for("http://127.0.0.1:9")).read(SOME)


@contextmanager
def serving(reply: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """A server on a free port that answers every request with `reply`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            reply(self)

        def do_HEAD(self) -> None:
            reply(self)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def refusing(status: int, code: str) -> Callable[[BaseHTTPRequestHandler], None]:
    body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()

    def reply(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body)

    return reply


@pytest.mark.parametrize(
    ("status", "code", "error", "words"),
    [
        (403, "AccessDenied", InvalidInput, "may not be read with these credentials"),
        (403, "InvalidObjectState", InvalidInput, "is archived: restore it first"),
        (403, "SignatureDoesNotMatch", RunBroken, "could not be read: SignatureDoesNotMatch: no"),
        (503, "SlowDown", RunBroken, "could not be read: SlowDown"),
    ],
)
def test_a_refusal_is_told_by_its_meaning(
    client_for: Callable[[str], Any], status: int, code: str, error: type[Exception], words: str
) -> None:
    with serving(refusing(status, code)) as url, pytest.raises(error, match=words):
        S3InventoryStore(client_for(url)).read(SOME)


def test_a_forbidden_head_is_wrong_input(client_for: Callable[[str], Any]) -> None:
    with serving(refusing(403, "AccessDenied")) as url, pytest.raises(InvalidInput, match="s3:ListBucket"):
        S3InventoryStore(client_for(url)).exists(SOME)


def breaking_off(times: int) -> Callable[[BaseHTTPRequestHandler], None]:
    """A body of ten bytes, the first `times` of which are cut after four."""
    left = [times]

    def reply(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "10")
        request.end_headers()
        request.wfile.write(b"0123" if left[0] > 0 else b"0123456789")
        left[0] -= 1
        request.close_connection = True

    return reply


def test_a_body_that_breaks_off_is_asked_for_again(client_for: Callable[[str], Any], tmp_path: Path) -> None:
    pauses: list[float] = []
    with serving(breaking_off(2)) as url:
        S3InventoryStore(client_for(url), pause=pauses.append).download(SOME, tmp_path / "whole")
    assert (tmp_path / "whole").read_bytes() == b"0123456789"
    assert pauses == [1.0, 2.0]


def test_a_body_that_always_breaks_off_breaks_the_run(client_for: Callable[[str], Any]) -> None:
    with serving(breaking_off(99)) as url, pytest.raises(RunBroken, match="broke off 4 times"):
        S3InventoryStore(client_for(url), pause=lambda seconds: None).fingerprint(SOME)
