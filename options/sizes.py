"""Sizes as people write them: 1MiB, 100MB, 5GiB or plain bytes. Pure functions."""

from __future__ import annotations

import re
from decimal import Decimal

from options.redaction import shown

_DECIMAL = {"": 1, "B": 1, "KB": 1000, "MB": 1000**2, "GB": 1000**3, "TB": 1000**4}
_BINARY = {"KIB": 1024, "MIB": 1024**2, "GIB": 1024**3, "TIB": 1024**4}
_UNITS = _DECIMAL | _BINARY
_SIZE = re.compile(r"\s*([0-9]{1,20}(?:\.[0-9]{1,20})?)\s*([A-Za-z]*)\s*", re.ASCII)
_SPELLED = (("TiB", 1024**4), ("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024))


def parse_size(text: str) -> int:
    """Bytes from `text`: a number and an optional unit, B, KB to TB (powers of 1000), KiB to TiB (powers of 1024).

    Units may be in any case. Raises ValueError with a line for the user when `text` is no whole number of bytes.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"{shown(text)} is not a size; write bytes or a unit, like 1MiB, 100MB or 5GiB")
    number, unit = match.groups()
    factor = _UNITS.get(unit.upper())
    if factor is None:
        raise ValueError(f"{shown(text)} has an unknown unit; write B, KB, MB, GB, TB, KiB, MiB, GiB or TiB")
    size = Decimal(number) * factor
    if size != int(size):
        raise ValueError(f"{shown(text)} is not a whole number of bytes; write it in a smaller unit")
    return int(size)


def format_size(size: int) -> str:
    """`size` bytes in the largest binary unit that divides it, so that `parse_size` gives it back exactly."""
    for unit, factor in _SPELLED:
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)
