"""How keys stand in a request: every key arrives as itself, by either transport."""

from __future__ import annotations

from functools import cache
from urllib.parse import unquote, urlsplit

from hypothesis import given
from hypothesis import strategies as st
from pyreqwest.http import Url

from storage.client import needs_care
from tests.storage.test_client import make_client

KEYS = st.text(
    st.one_of(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), st.sampled_from("./%+?#& \\~\n\t")),
    min_size=1,
    max_size=60,
)


@cache
def address(addressing: str) -> object:
    return make_client("https://s3.example", addressing)._address


@given(KEYS, st.sampled_from(["path", "virtual"]))
def test_a_key_is_quoted_once_and_reads_back_as_itself(key: str, addressing: str) -> None:
    _, target = address(addressing)("bucket", key, "")  # type: ignore[operator]
    assert target.isascii()
    assert target.isprintable()
    assert " " not in target
    path = urlsplit(f"https://host{target}").path
    assert path == target
    assert unquote(path) == (f"/bucket/{key}" if addressing == "path" else f"/{key}")


@given(KEYS)
def test_an_url_parser_changes_no_path_that_does_not_need_care(key: str) -> None:
    host, target = address("path")("bucket", key, "")  # type: ignore[operator]
    if not needs_care(key):
        assert Url(f"https://{host}{target}").path == target


@given(KEYS)
def test_the_query_stays_apart_from_the_key(key: str) -> None:
    _, target = address("path")("bucket", key, "versionId=v")  # type: ignore[operator]
    assert target.count("?") == 1
    assert target.endswith("?versionId=v")
