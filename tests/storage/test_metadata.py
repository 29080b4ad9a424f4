"""Which headers of an object go along."""

from __future__ import annotations

from storage.metadata import carried_headers


def test_content_headers_and_user_metadata_go_along() -> None:
    source = {
        "content-type": "text/x",
        "cache-control": "no-cache",
        "content-disposition": "inline",
        "content-language": "de",
        "expires": "0",
        "content-encoding": "gzip",
        "x-amz-meta-a": "1",
        "x-amz-meta-b": "",
    }
    assert carried_headers(source) == source


def test_what_belongs_to_the_transfer_or_the_server_stays() -> None:
    source = {
        "content-type": "text/x",
        "content-length": "5",
        "etag": '"e"',
        "last-modified": "x",
        "x-amz-version-id": "v",
        "x-amz-server-side-encryption": "AES256",
        "x-amz-checksum-crc32": "c",
        "server": "s",
        "date": "d",
    }
    assert carried_headers(source) == {"content-type": "text/x"}


def test_aws_chunked_is_dropped_from_the_encoding() -> None:
    assert carried_headers({"content-encoding": "aws-chunked"}) == {}
    assert carried_headers({"content-encoding": "gzip,aws-chunked"}) == {"content-encoding": "gzip"}
    assert carried_headers({"content-encoding": "aws-chunked, br, gzip"}) == {"content-encoding": "br, gzip"}


def test_empty_headers_are_left_out() -> None:
    assert carried_headers({"content-type": "", "cache-control": ""}) == {}
