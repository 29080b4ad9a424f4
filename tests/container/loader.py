"""The reference loader of Compose files, which docker itself is built on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

VERSION = (Path(__file__).with_name("compose_go.txt")).read_text().strip()


def compose_loader() -> Path:
    """The program, from the cache of the tools. Without it the test is skipped by name; with CI=true it fails."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "s3ferry" / "tools"
    path = cache / f"compose-go-{VERSION}"
    if path.exists():
        return path
    message = "compose-go is not installed: run tests/container/install_tools.sh"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)
