"""The one error of this package that callers tell apart from other wrong input."""

from __future__ import annotations

from model.errors import InvalidInput


class CorruptInventoryFile(InvalidInput):
    """An inventory file is not what the manifest promises or cannot be parsed; the line names file and row."""
