"""HTTP/1.1 as bytes: what is sent for a request, and what an answer's bytes mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.http1 import ChunkedBody, Head, Malformed, parse_head, request_head


def test_a_request_head_has_the_target_the_host_and_the_headers_as_given() -> None:
    head = request_head("GET", "/b/a%2Fb?x=1", "h:9000", {"range": "bytes=0-9"}, None)
    assert head == b"GET /b/a%2Fb?x=1 HTTP/1.1\r\nhost: h:9000\r\nrange: bytes=0-9\r\n\r\n"


def test_the_length_of_a_body_is_stated_once() -> None:
    assert request_head("PUT", "/", "h", {}, 3).count(b"content-length: 3\r\n") == 1
    assert request_head("PUT", "/", "h", {"content-length": "3"}, 3).count(b"content-length") == 1


@pytest.mark.parametrize("value", ["a\r\nx-evil: 1", "a\nb", "a\rb"])
def test_a_line_break_in_a_value_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="line break"):
        request_head("PUT", "/", "h", {"x-amz-meta-a": value}, 3)


def test_bytes_outside_ascii_go_out_as_they_came_in() -> None:
    head = parse_head(b"HTTP/1.1 200 OK\r\nx-amz-meta-a: caf\xe9 \xc3\xa9", "HEAD")
    assert b"x-amz-meta-a: caf\xe9 \xc3\xa9\r\n" in request_head("PUT", "/", "h", head.headers, 0)


def test_names_are_lower_case_and_values_without_outer_white_space() -> None:
    head = parse_head(b'HTTP/1.1 200 OK\r\nETag:"e"\r\nX-Amz-Meta-A: \t b  c \t', "HEAD")
    assert head.headers == {"etag": '"e"', "x-amz-meta-a": "b  c"}


def test_white_space_outside_ascii_is_content() -> None:
    head = parse_head("HTTP/1.1 200 OK\r\nx-amz-meta-a: \u3000日本\u00a0".encode(), "HEAD")
    assert head.headers == {"x-amz-meta-a": "\u3000日本\u00a0"}


def test_repeated_headers_are_joined() -> None:
    assert parse_head(b"HTTP/1.1 200 OK\r\nA: 1\r\na: 2", "HEAD").headers == {"a": "1,2"}


@pytest.mark.parametrize(
    ("method", "raw", "length", "chunked"),
    [
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 7", 7, False),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 7, 7", 7, False),
        ("GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", None, True),
        ("GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 7", None, True),
        ("GET", b"HTTP/1.0 200", None, False),
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 7", 0, False),
        ("DELETE", b"HTTP/1.1 204 No Content", 0, False),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7", 0, False),
    ],
)
def test_how_long_a_body_is(method: str, raw: bytes, length: int | None, chunked: bool) -> None:
    head = parse_head(raw, method)
    assert (head.length, head.chunked) == (length, chunked)


@pytest.mark.parametrize(
    ("raw", "keeps_alive"),
    [
        (b"HTTP/1.1 200 OK", True),
        (b"HTTP/1.1 200 OK\r\nConnection: close", False),
        (b"HTTP/1.1 200 OK\r\nConnection: Upgrade, Close", False),
        (b"HTTP/1.0 200 OK", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive", True),
    ],
)
def test_whether_the_connection_lives_on(raw: bytes, keeps_alive: bool) -> None:
    assert parse_head(raw, "HEAD").keeps_alive is keeps_alive


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2",
        b"HTTP/2 200",
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 200 OK\r\nno colon",
        b"HTTP/1.1 200 OK\r\nx-amz-meta-a: foo\nbar",
        b"HTTP/1.1 200 OK\r\nx-amz-meta-a: foo\rbar",
        b"HTTP/1.1 200 OK\r\nx-amz-meta-a: foo\0bar",
        b"HTTP/1.1 200 OK\r\nA: 1\r\n folded",
        b"HTTP/1.1 200 OK\r\nContent-Length : 7",
        b"HTTP/1.1 200 OK\r\nContent-Length: -7",
        b"HTTP/1.1 200 OK\r\nContent-Length: 7, 8",
        b"HTTP/1.1 200 OK\r\nContent-Length: seven",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked",
    ],
)
def test_what_is_no_answer_is_malformed(raw: bytes) -> None:
    with pytest.raises(Malformed):
        parse_head(raw, "GET")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_head_or_malformed(raw: bytes) -> None:
    try:
        head = parse_head(b"HTTP/1.1 200 OK\r\n" + raw, "GET")
    except Malformed:
        return
    assert isinstance(head, Head)
    assert all(name == name.lower() for name in head.headers)


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=8), st.integers(1, 50))
def test_a_chunked_body_gives_its_content_however_it_arrives(chunks: list[bytes], step: int) -> None:
    raw = b"".join(b"%x;a=b\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\nx-trailer: 1\r\n\r\n"
    body = ChunkedBody()
    found = b"".join(body.feed(raw[start : start + step]) for start in range(0, len(raw), step))
    assert (found, body.ended, body.surplus) == (b"".join(chunks), True, False)


def test_bytes_after_a_chunked_body_are_noticed() -> None:
    body = ChunkedBody()
    assert body.feed(b"1\r\na\r\n0\r\n\r\nHTTP/1.1 200 OK") == b"a"
    assert (body.ended, body.surplus) == (True, True)


@pytest.mark.parametrize("raw", [b"x\r\n", b"1\r\nab\r\n", b"\r\n", b"-1\r\n", b"1" * 5_000])
def test_a_chunk_that_is_none_is_malformed(raw: bytes) -> None:
    with pytest.raises(Malformed):
        ChunkedBody().feed(raw)
