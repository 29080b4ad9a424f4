"""The reference loader of Compose files, which docker itself is built on."""

from __future__ import annotations

from pathlib import Path

from tests.fixtures.tools import installed

VERSION = (Path(__file__).with_name("compose_go.txt")).read_text().strip()


def compose_loader() -> Path:
    """The program, from the cache of the tools. Without it the test is skipped by name; with CI=true it fails."""
    return installed("compose-go", VERSION, "tests/container/install_tools.sh")
