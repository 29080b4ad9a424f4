"""What the build is given agrees with the package; the images themselves are tested at night."""

from __future__ import annotations

import re

from model.version import VERSION
from tests.container.images import REPOSITORY

DOCKERFILE = (REPOSITORY / "Dockerfile").read_text()
GUIDE = (REPOSITORY / "docs/container.md").read_text()
IGNORED = (REPOSITORY / ".dockerignore").read_text().splitlines()


def test_the_label_has_the_packages_version() -> None:
    assert f"\nARG VERSION={VERSION}\n" in DOCKERFILE


def test_every_package_is_sent_to_the_build_and_nothing_else_is() -> None:
    [rooms] = re.findall(r"ROOMS = \[(.*)\]", (REPOSITORY / "setup.py").read_text())
    files = {"constraints.txt", "pyproject.toml", "setup.py", "LICENSE", "README.md"}
    assert IGNORED[0] == "*"
    assert {line[1:] for line in IGNORED if line.startswith("!")} == files | set(re.findall(r"\w+", rooms))


def test_the_last_target_is_the_job() -> None:
    assert re.findall(r"^FROM .* AS (\w+)$", DOCKERFILE, re.MULTILINE)[-1] == "job"


def test_the_base_is_a_patch_release_of_python_on_the_debian_that_has_java_17() -> None:
    [base] = re.findall(r"^ARG BASE=(.+)$", DOCKERFILE, re.MULTILINE)
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-bookworm", base)
    assert "apt-get install -y --no-install-recommends openjdk-17-jre-headless" in GUIDE


def test_the_guide_names_the_base_of_the_dockerfile_and_no_other() -> None:
    bases = re.findall(r"^ARG BASE=(.+)$", DOCKERFILE, re.MULTILINE)
    assert set(re.findall(r"python:[\w.-]*\w", GUIDE)) == set(bases)
