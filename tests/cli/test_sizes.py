import pytest
from hypothesis import given
from hypothesis import strategies as st

from options.sizes import format_size, parse_size

UNITS = {
    "": 1,
    "B": 1,
    "kB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "TB": 1000**4,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
    "TiB": 1024**4,
}


@given(st.integers(min_value=0, max_value=10**15))
def test_a_formatted_size_reads_back_as_itself(size: int) -> None:
    assert parse_size(format_size(size)) == size


@given(st.integers(min_value=0, max_value=10**6), st.sampled_from(sorted(UNITS)), st.sampled_from(["", " "]))
def test_a_whole_number_with_a_unit_is_that_many_units(number: int, unit: str, blank: str) -> None:
    assert parse_size(f"{number}{blank}{unit}") == number * UNITS[unit]


@given(st.integers(min_value=0, max_value=10**6), st.sampled_from(sorted(UNITS)))
def test_units_may_be_in_any_case(number: int, unit: str) -> None:
    assert parse_size(f"{number}{unit.upper()}") == parse_size(f"{number}{unit.lower()}")


@given(st.text(max_size=30))
def test_any_text_is_a_size_or_refused_with_a_remedy(text: str) -> None:
    try:
        size = parse_size(text)
    except ValueError as error:
        assert "; write" in str(error)
        assert "\n" not in str(error)
    else:
        assert size >= 0


def test_a_fraction_is_allowed_where_it_is_whole_bytes() -> None:
    assert parse_size("1.5GiB") == 3 * 1024**3 // 2


@pytest.mark.parametrize("text", ["", "MiB", "-1", "1e6", "0.3B", "5G", "1 000", "1,5MB", "0x10", "٣MB", "nan"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="; write"):
        parse_size(text)
