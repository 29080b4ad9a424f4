"""Key encodings of CSV inventories."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.inventory.keys import decode_none, decode_percent, decode_plus, encode_key

any_key = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(any_key)
def test_a_key_encoded_as_aws_does_decodes_to_itself(key: str) -> None:
    assert decode_plus(encode_key(key)) == key


@given(any_key)
def test_a_percent_encoded_key_decodes_alike_under_both_encodings(key: str) -> None:
    encoded = encode_key(key).replace("+", "%20")
    assert decode_percent(encoded) == decode_plus(encoded) == key


def test_encoding_is_form_style_and_keeps_slashes() -> None:
    assert encode_key("a b/c+d%é\n") == "a+b/c%2Bd%25%C3%A9%0A"


def test_plus_reads_both_spellings_of_a_space() -> None:
    assert decode_plus("a+b%20c") == "a b c"


def test_percent_keeps_a_plus() -> None:
    assert decode_percent("a+b%20c") == "a+b c"


def test_none_changes_nothing() -> None:
    assert decode_none("a+b%20c") == "a+b%20c"


@pytest.mark.parametrize("text", ["100%", "50%off", "%zz", "%4"])
def test_a_percent_sign_that_encodes_nothing_names_the_option(text: str) -> None:
    with pytest.raises(ValueError, match="--csv_key_encoding"):
        decode_plus(text)


@pytest.mark.parametrize("text", ["%FF", "a%C3", "%ED%A0%80"])
def test_bytes_that_are_not_utf8_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not UTF-8"):
        decode_plus(text)
