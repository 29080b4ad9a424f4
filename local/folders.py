"""Where the embedded servers keep their data."""

from __future__ import annotations

import os
from pathlib import Path


def data_folder() -> Path:
    """s3ferry's folder among the user's data: XDG_DATA_HOME, or ~/.local/share (XDG base directory specification)."""
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "s3ferry"
