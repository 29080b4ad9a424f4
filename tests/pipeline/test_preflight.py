"""job_id: what makes two runs runs of one job."""

from __future__ import annotations

import pytest

from pipeline.preflight import job_id
from tests.transforms.examples import a_config


def test_runs_between_the_same_ends_are_runs_of_one_job_whatever_else_they_say() -> None:
    assert job_id(a_config(), ["src"]) == job_id(
        a_config("--workers=7", "--manifest=s3://inv/tomorrow/manifest.json", "--evidence=readback"), ["src"]
    )


def test_the_id_of_a_job_never_changes_or_its_ledger_would_be_lost() -> None:
    assert job_id(a_config(), ["src"]) == "c62949e758e713f9"


@pytest.mark.parametrize(
    "flag",
    [
        "--source_endpoint_url=http://elsewhere",
        "--destination_endpoint_url=http://elsewhere",
        "--destination=s3://dst/another/",
        "--destination=s3://another/prefix/",
    ],
)
def test_another_end_is_another_job(flag: str) -> None:
    assert job_id(a_config(flag), ["src"]) != job_id(a_config(), ["src"])


def test_another_source_bucket_is_another_job() -> None:
    assert job_id(a_config(), ["other"]) != job_id(a_config(), ["src"])


def test_a_job_that_is_named_has_that_name() -> None:
    assert job_id(a_config("--job=nightly"), ["src"]) == "nightly"
