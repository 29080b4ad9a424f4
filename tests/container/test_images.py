"""What the Dockerfile makes: small images without rights, tools or secrets."""

from __future__ import annotations

import json
import re
import sys

import pytest

from model.version import VERSION
from tests.container.images import REPOSITORY, Image

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(1800)]

ROOMS = ("options", "model", "storage", "ledger", "transforms", "pipeline", "local")
UNWANTED = ("pip", "pip3", "gcc", "cc", "g++", "make", "git", "curl", "wget")
MOST_BYTES = 560_000_000
"""Of what is added to BASE; Beam, pyarrow and numpy are most of it."""
_OWNERS = """
import json
from importlib.metadata import distribution, packages_distributions

owners = packages_distributions()
ours = distribution("s3ferry").read_text("top_level.txt").split()
print(json.dumps({name: sorted(set(owners[name])) for name in ours}))
"""


@pytest.fixture(params=["job_image", "worker_image"])
def image(request: pytest.FixtureRequest) -> Image:
    """Each image in turn."""
    built: Image = request.getfixturevalue(request.param)
    return built


def test_the_user_is_not_root_and_owns_nothing_of_the_program(image: Image) -> None:
    assert image.config["User"] == "10001:10001"
    who = image.call(command=["id", "-u"])
    assert who.stdout.strip() == "10001"
    touched = image.call(command=["find", "/opt/s3ferry", "-writable", "-not", "-type", "l"])
    assert touched.stdout == ""


def test_any_user_may_write_to_home(image: Image) -> None:
    home = image.root / image.environment["HOME"].lstrip("/")
    assert home.stat().st_mode & 0o7777 == 0o1777


def test_neither_tools_nor_tests_nor_caches_are_left(image: Image) -> None:
    program = image.root / "opt/s3ferry"
    assert [name for name in UNWANTED if (program / "bin" / name).exists()] == []
    assert image.call(command=["sh", "-c", "command -v " + " ".join(UNWANTED)]).stdout == ""
    assert [str(path) for path in program.rglob("tests")] == []
    assert list((image.root / "home/s3ferry").iterdir()) == []
    assert not (image.root / "src").exists()


def test_every_package_is_pinned(image: Image) -> None:
    listing = "import importlib.metadata as m; [print(f'{d.name}=={d.version}') for d in m.distributions()]"
    installed = {line.lower() for line in image.call(command=["python", "-c", listing]).stdout.splitlines()}
    pinned = {line.lower() for line in (REPOSITORY / "constraints.txt").read_text().splitlines()}
    assert len(installed) > 20
    assert installed - pinned == {f"s3ferry=={VERSION}"}


def test_no_other_package_of_the_workers_uses_a_top_level_name_of_this_one(worker_image: Image) -> None:
    asked = worker_image.call(command=["python", "-c", _OWNERS])
    owners = json.loads(asked.stdout)
    assert owners == {name: ["s3ferry"] for name in ROOMS}, asked.stderr
    assert owners.keys() & sys.stdlib_module_names == set()


def test_the_program_is_small(image: Image) -> None:
    files = (path for path in (image.root / "opt/s3ferry").rglob("*") if path.is_file() and not path.is_symlink())
    assert sum(path.stat().st_size for path in files) < MOST_BYTES


def test_it_says_what_it_is(image: Image) -> None:
    labels = image.config["Labels"]
    assert labels["org.opencontainers.image.title"] == "s3ferry"
    assert labels["org.opencontainers.image.version"] == VERSION
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"


def test_nothing_secret_is_in_its_environment_or_history(image: Image) -> None:
    assert "PIP_" not in image.history
    assert [name for name in image.environment if re.search("KEY|SECRET|TOKEN|PASSW|DSN|PIP_", name)] == []


def test_without_a_command_the_job_shows_its_help(job_image: Image) -> None:
    shown = job_image.call(*job_image.config["Cmd"])
    assert shown.returncode == 0
    assert shown.stdout.startswith("usage: s3ferry COMMAND")


def test_the_exit_code_of_a_command_is_the_containers(job_image: Image) -> None:
    refused = job_image.call("run", "--manifest=s3://inventory/latest")
    assert refused.returncode == 2
    assert "s3ferry: --destination: it is missing" in refused.stderr


def test_the_worker_listens_on_its_one_port(worker_image: Image) -> None:
    assert worker_image.config["Cmd"] == ["--address=0.0.0.0:50000"]
    assert list(worker_image.config["ExposedPorts"]) == ["50000/tcp"]
