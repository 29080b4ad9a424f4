"""Every wrong flag and impossible combination is refused by name, with what to do about it."""

import pickle

import pytest

from options.errors import UsageError
from options.parse import parse_run, parse_verify

MANIFEST = "--manifest=s3://inv/src/cfg/2026-11-22T00-00Z/manifest.json"
DESTINATION = "--destination=s3://dst/prefix/"
GOOD = (MANIFEST, DESTINATION)


def refusal(*argv: str) -> UsageError:
    with pytest.raises(UsageError) as caught:
        parse_run(argv)
    assert "; " in caught.value.text, "a refusal says what to do"
    assert "\n" not in str(caught.value)
    return caught.value


BAD_VALUES = [
    ("--manifest=", "empty"),
    ("--manifest=s3://", "no bucket"),
    ("--manifest=s3://inv", "no key"),
    ("--manifest=s3:/inv/manifest.json", "neither s3:// nor a path"),
    ("--manifest=https://host/manifest.json", "neither s3:// nor a path"),
    ("--manifest=gs://inv/manifest.json", "neither s3:// nor a path"),
    ("--destination=dst/prefix", "not an s3:// URL"),
    ("--destination=s3://", "no bucket"),
    ("--destination=s3:///prefix", "no bucket"),
    ("--destination=s3://a/prefix", "not a bucket's name"),
    ("--destination=s3://dst?x=1/prefix", "not a bucket's name"),
    ("--destination=s3://dst/" + "p" * 1024, "no room for a key"),
    ("--destination=s3://dst/" + "é" * 600, "longer than 1024 bytes"),
    ("--source_endpoint_url=minio:9000", "not http or https"),
    ("--source_endpoint_url=ftp://minio", "not http or https"),
    ("--source_endpoint_url=http://", "names no host"),
    ("--source_endpoint_url=http://minio:", "port"),
    ("--source_endpoint_url=http://minio:0", "port"),
    ("--source_endpoint_url=http://minio:99999", "cannot be read"),
    ("--source_endpoint_url=http://[::1", "cannot be read"),
    ("--source_endpoint_url=http://mi nio", "blanks"),
    ("--source_endpoint_url=http://minio/bucket", "has a path"),
    ("--source_endpoint_url=http://minio?a=b", "query"),
    ("--source_endpoint_url=http://minio/#a", "fragment"),
    ("--destination_endpoint_url=http://user:pw@minio", "credentials in a URL"),
    ("--source_region=eu central", "not a region's name"),
    ("--destination_region=", "not a region's name"),
    ("--source_profile=", "empty"),
    ("--source_profile=a\nb", "control characters"),
    ("--source_role_arn=role/copy", "not a role's ARN"),
    ("--source_addressing=host", "auto, path, virtual"),
    ("--destination_ca_bundle=", "empty"),
    ("--csv_key_encoding=url", "plus, percent, none"),
    ("--spool_dir=", "empty"),
    ("--small_below=1 apple", "unknown unit"),
    ("--small_below=-1", "not a size"),
    ("--medium_up_to=6GiB", "outside 0 to 5GiB"),
    ("--part_size=4MiB", "outside 5MiB to 5GiB"),
    ("--part_size=6GiB", "outside 5MiB to 5GiB"),
    ("--small_unit_bytes=0", "outside 1"),
    ("--small_unit_objects=0", "outside 1 to 10000"),
    ("--medium_unit_objects=1.5", "not a whole number"),
    ("--slice_rows=0", "outside 1"),
    ("--evidence=crc", "auto, etag, server, readback"),
    ("--hash=sha512", "'sha512' is not known; give auto, or one or more of md5, sha256, crc32c, crc64nvme"),
    ("--hash=md5,sha-256", "'sha-256' is not known"),
    ("--hash=md5,", "'' is not known"),
    ("--hash=", "'' is not known"),
    ("--hash=auto,md5", "'auto' stands alone"),
    ("--on_change=skip", "report, copy"),
    ("--on_mismatch=drop", "remove, keep"),
    ("--source_etag=sha", "md5, opaque"),
    ("--check_destination=all", "none, sample, list"),
    ("--attempts=0", "outside 1 to 100"),
    ("--attempts=five", "not a whole number"),
    ("--max_in_flight=0", "outside 1"),
    ("--medium_in_flight=-1", "outside 1"),
    ("--parts_in_flight=0", "outside 1"),
    ("--memory_budget=1MiB", "outside 0 or 8MiB"),
    ("--connect_timeout=0", "outside 0.1 to 3600"),
    ("--connect_timeout=nan", "outside 0.1 to 3600"),
    ("--idle_timeout=inf", "outside 0.1 to 3600"),
    ("--idle_timeout=15s", "not a number"),
    ("--max_requests_per_s=-1", "outside 0 or"),
    ("--max_bytes_per_s=10", "outside 0 or 1KiB"),
    ("--flush_rows=0", "outside 1"),
    ("--flush_bytes=1", "outside 1KiB"),
    ("--flush_interval=0", "outside 0.01"),
    ("--lease_ttl=0", "outside 1"),
    ("--job=a job", "not a job's name"),
    ("--runner=DataflowRunner", "DirectRunner, FlinkRunner"),
    ("--workers=-1", "outside 0"),
    ("--max_failures=few", "N (like 100) or P% (like 0.5%)"),
    ("--max_failures=-1", "neither a number nor a percentage"),
    ("--max_failures=101%", "neither a number nor a percentage"),
    ("--max_failures=%", "neither a number nor a percentage"),
    ("--summary=", "empty"),
    ("--export=s3://bucket/folder", "not a folder of this machine"),
    ("--export=", "empty"),
    ("--log_level=LOUD", "DEBUG, INFO, WARNING, ERROR"),
    ("--runner_option=max_bundle_size", "not name=value"),
    ("--runner_option=--x=1", "not name=value"),
    ("--skip_bad_files=yes", "takes no value"),
    ("--strict_source=true", "takes no value"),
    ("--attempts", "a value is missing"),
]


@pytest.mark.parametrize(("argument", "reason"), BAD_VALUES, ids=[argument[:60] for argument, _ in BAD_VALUES])
def test_a_wrong_value_is_refused_by_its_flag(argument: str, reason: str) -> None:
    error = refusal(*GOOD, argument)

    assert error.flag == argument.partition("=")[0]
    assert reason in error.text


COMBINATIONS = {
    "small above medium": (["--small_below=2MiB", "--medium_up_to=1MiB"], "--small_below", "above --medium_up_to"),
    "small above the default medium": (["--small_below=1GiB"], "--small_below", "above --medium_up_to"),
    "workers on a cluster": (["--runner=FlinkRunner", "--workers=4"], "--workers", "FlinkRunner"),
    "workers with Prism": (["--runner=PrismRunner", "--workers=4"], "--workers", "PrismRunner"),
    "workers said twice": (["--workers=4", "--direct_num_workers=2"], "--workers", "--direct_num_workers"),
    "local manifest on a cluster": (
        ["--runner=SparkRunner", "--manifest=data/manifest.json"],
        "--manifest",
        "workers of SparkRunner",
    ),
    "Java option without Java": (["--runner_option=max_bundle_size=1"], "--runner_option", "no Java options"),
    "our own flag as a runner option": (
        ["--runner=FlinkRunner", "--runner_option=attempts=3"],
        "--runner_option",
        "give --attempts=VALUE",
    ),
    "certificates for plain http": (
        ["--source_endpoint_url=http://minio:9000", "--source_ca_bundle=ca.pem"],
        "--source_ca_bundle",
        "plain http",
    ),
    "virtual hosts of an address": (
        ["--destination_endpoint_url=http://127.0.0.1:9000", "--destination_addressing=virtual"],
        "--destination_addressing",
        "use path",
    ),
    "rows that outwait the lease": (["--flush_interval=31"], "--flush_interval", "more than half of --lease_ttl"),
}


@pytest.mark.parametrize("name", COMBINATIONS)
def test_an_impossible_combination_is_refused_by_name(name: str) -> None:
    argv, flag, reason = COMBINATIONS[name]

    error = refusal(*GOOD, *argv)

    assert error.flag == flag
    assert reason in error.text


def test_a_missing_manifest_is_refused() -> None:
    assert refusal(DESTINATION).flag == "--manifest"


def test_a_missing_destination_is_refused() -> None:
    assert refusal(MANIFEST).flag == "--destination"


@pytest.mark.parametrize(
    ("argument", "meant"),
    [
        ("--manifset=x", "--manifest"),
        ("--source-region=x", "--source_region"),
        ("--source_endpoint=http://minio", "--source_endpoint_url"),
        ("--skip_bad", "--skip_bad_files"),
        ("--flink_mastr=x", "--flink_master"),
        ("-destination=s3://x", "--destination"),
    ],
)
def test_an_unknown_flag_is_refused_with_the_flag_that_was_meant(argument: str, meant: str) -> None:
    error = refusal(*GOOD, argument)

    assert error.flag == argument.partition("=")[0]
    assert f"did you mean {meant}?" in error.text


def test_an_unknown_flag_that_resembles_none_points_to_the_help() -> None:
    assert "s3ferry run --help" in refusal(*GOOD, "--zzzqqq=1").text


def test_a_value_that_stands_alone_is_refused() -> None:
    assert "'manifest.json' stands alone" in refusal(*GOOD, "manifest.json").text


def test_a_slip_in_a_flag_is_named_before_the_flag_it_leaves_missing() -> None:
    assert refusal("--manifset=s3://inv/m.json", DESTINATION).flag == "--manifset"


def test_a_wrong_value_of_a_flag_of_beam_is_refused() -> None:
    assert refusal(*GOOD, "--parallelism=many").flag == "--parallelism"
    assert "'1.19'" in refusal(*GOOD, "--flink_version=0.9").text


@pytest.mark.parametrize(
    "argument",
    ["--region=eu-central-1", "--dry_run", "--s3_endpoint_url=http://minio", "--num_workers=4", "--s3_region_name=x"],
)
def test_a_flag_of_beam_that_would_mislead_here_is_refused(argument: str) -> None:
    assert refusal(*GOOD, argument).flag == argument.partition("=")[0]


SECRET = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY12"


@pytest.mark.parametrize(
    "argv",
    [
        [f"--source_endpoint_url=https://user:{SECRET}@minio"],
        [f"--source_endpoint_url=ftp://user:{SECRET}@minio/a/b"],
        [f"--source_endpoint_url=https://minio/?X-Amz-Signature={SECRET}"],
        [f"--source_region={SECRET} "],
        ["--source_region=AKIAIOSFODNN7EXAMPLE extra"],
        [f"--attempts={SECRET}"],
        [f"--small_below={SECRET}"],
        [f"--runner={SECRET}"],
        [f"--manifest=https://user:{SECRET}@host/manifest.json"],
        [f"--s3_secret_access_key={SECRET}"],
        ["--s3_secret_access_key", SECRET],
        [f"--azure_connection_string={SECRET}"],
        [f"--environment_config={SECRET}"],
        ["--environment_config", SECRET],
        [f"--environment_option=process_variables=AWS_SECRET_ACCESS_KEY={SECRET}"],
        ["--runner=FlinkRunner", f"--runner_option=s3_secret_key={SECRET}"],
        [f"--secret_key={SECRET}"],
        [f"--{SECRET}"],
        [SECRET],
        [f"--strict_source={SECRET}"],
    ],
)
def test_a_secret_in_the_wrong_place_is_refused_and_never_repeated(argv: list[str]) -> None:
    assert SECRET[:20] not in str(refusal(*GOOD, *argv))


def test_a_refusal_crosses_processes_whole() -> None:
    error = refusal(DESTINATION)

    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize(
    ("flags", "flag", "why"),
    [
        (("--deep", "--destination_manifest=there/manifest.json"), "--deep", "give one of them"),
        (("--evidence=readback",), "--evidence", "add --deep"),
        (("--destination_manifest=s3://inv",), "--destination_manifest", "no key"),
        (("--destination_manifest=there.json", "--runner=FlinkRunner"), "--destination_manifest", "put it in S3"),
        (("--adopt=yes",), "--adopt", "takes no value"),
    ],
)
def test_what_cannot_be_verified_is_refused(flags: tuple[str, ...], flag: str, why: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_verify([*GOOD, *flags])
    assert str(caught.value).startswith(f"{flag}: ")
    assert why in str(caught.value)


def test_the_flags_of_verify_are_no_flags_of_run() -> None:
    for flag in ("--deep", "--adopt", "--destination_manifest=s3://inv/manifest.json"):
        assert refusal(*GOOD, flag).flag == flag.partition("=")[0]
