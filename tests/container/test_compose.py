"""docker-compose.yml says what Compose and s3ferry understand, and its services fit together."""

from __future__ import annotations

import os
import re
import subprocess
from urllib.parse import urlsplit

import pytest
import yaml
from psycopg.conninfo import conninfo_to_dict

from local import stock
from model.version import VERSION
from options.parse import parse_run
from tests.container.images import REPOSITORY
from tests.container.loader import compose_loader

FILE = REPOSITORY / "docker-compose.yml"
SERVICES = yaml.safe_load(FILE.read_text())["services"]
GUIDE = (REPOSITORY / "docs/command-line.md").read_text()
OWN = ("job", "stock")


@pytest.mark.nightly
def test_it_conforms_to_the_compose_specification() -> None:
    loaded = subprocess.run([compose_loader(), FILE], check=False, capture_output=True, text=True)
    assert loaded.returncode == 0, loaded.stderr


def test_the_job_is_told_what_the_option_parser_takes() -> None:
    command, *flags = SERVICES["job"]["command"]
    assert command == "run"
    config = parse_run(flags)
    assert (config.destination.bucket, config.run.job) == (stock.DESTINATION, "demonstration")


def test_the_job_reads_the_inventory_that_is_stocked() -> None:
    arguments = stock.parser().parse_args(SERVICES["stock"]["command"])
    assert SERVICES["stock"]["entrypoint"] == ["python", "-m", stock.__name__]
    manifest = f"s3://{stock.INVENTORY}/{stock.SOURCE}/demonstration-{arguments.format}/latest"
    assert f"--manifest={manifest}" in SERVICES["job"]["command"]


@pytest.mark.parametrize("name", OWN)
def test_every_endpoint_is_a_service_that_is_waited_for(name: str) -> None:
    endpoints = [flag.partition("=")[2] for flag in SERVICES[name]["command"] if "endpoint_url=" in flag]
    assert [urlsplit(url).port for url in endpoints] == [9000, 9000]
    assert {urlsplit(url).hostname for url in endpoints} == {"source", "destination"}
    assert SERVICES["stock"]["depends_on"].keys() == {"source", "destination"}
    assert SERVICES["job"]["depends_on"]["stock"] == {"condition": "service_completed_successfully"}


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("side", ["source", "destination"])
def test_credentials_are_those_of_the_server(name: str, side: str) -> None:
    given, server = SERVICES[name]["environment"], SERVICES[side]["environment"]
    assert given[f"{side.upper()}_AWS_ACCESS_KEY_ID"] == server["MINIO_ROOT_USER"]
    assert given[f"{side.upper()}_AWS_SECRET_ACCESS_KEY"] == server["MINIO_ROOT_PASSWORD"]


def test_the_ledger_is_the_database_that_is_made() -> None:
    dsn, made = conninfo_to_dict(SERVICES["job"]["environment"]["LEDGER_DSN"]), SERVICES["ledger"]["environment"]
    assert dsn == {
        "host": "ledger",
        "user": made["POSTGRES_USER"],
        "password": made["POSTGRES_PASSWORD"],
        "dbname": made["POSTGRES_DB"],
    }


@pytest.mark.parametrize("name", OWN)
def test_every_variable_is_one_that_is_documented(name: str) -> None:
    assert [variable for variable in SERVICES[name]["environment"] if f"`{variable}`" not in GUIDE] == []


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned(name: str) -> None:
    image = SERVICES[name]["image"]
    assert re.fullmatch(r"[a-z./0-9]+:(RELEASE\.)?\d+[.-]\d+\S+", image), os.fspath(FILE)
    if name in OWN:
        assert image == f"s3ferry:{VERSION}"
