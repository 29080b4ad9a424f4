import pickle
from dataclasses import replace

import pytest

from options.config import (
    CopyPolicy,
    DestinationOptions,
    EndpointOptions,
    InventoryOptions,
    JobConfig,
    LedgerOptions,
    RoutingOptions,
    RunPolicy,
    VerifyOptions,
)
from options.parse import FLAGS_BY_THEME, parse_run, parse_verify, run_help, verify_help
from options.values import failure_limit
from options.verify import VERIFY_FLAGS

GOOD = ("--manifest=s3://inv/cfg/manifest.json", "--destination=s3://dst/prefix/")


def test_without_further_flags_every_option_has_the_default_of_the_config() -> None:
    assert parse_run(GOOD) == JobConfig(
        inventory=InventoryOptions(manifests=("s3://inv/cfg/manifest.json",)),
        destination=DestinationOptions(bucket="dst", prefix="prefix/"),
    )


def test_every_flag_lands_in_its_option() -> None:
    text = """
        --manifest=s3://inv/cfg/latest --destination=s3://dst/a/b --csv_key_encoding=percent --skip_bad_files
        --spool_dir=/spool
        --source_endpoint_url=https://s3.example:9000/ --source_region=eu-central-1 --source_profile=old
        --source_role_arn=arn:aws:iam::123456789012:role/read --source_addressing=path --source_ca_bundle=/ca.pem
        --destination_endpoint_url=http://[::1]:9000 --destination_region=us-east-1 --destination_profile=new
        --destination_role_arn=arn:aws:iam::123456789012:role/write --destination_addressing=path
        --small_below=2MiB --medium_up_to=1GB --part_size=64MiB --small_unit_bytes=1GiB --small_unit_objects=100
        --medium_unit_objects=2 --slice_rows=1000
        --evidence=readback --on_change=copy --on_mismatch=keep --source_etag=opaque --check_destination=list
        --hash=md5,crc32c
        --attempts=3 --max_in_flight=10 --medium_in_flight=5 --parts_in_flight=2 --memory_budget=256MiB
        --connect_timeout=5 --idle_timeout=7.5 --transport=aiohttp
        --part_layout=source --max_parts=500 --copy_mode=auto --recopy --record_replaced
        --max_requests_per_s=100 --max_bytes_per_s=10MB
        --flush_rows=10 --flush_bytes=1MiB --flush_interval=0.5 --lease_ttl=30
        --job=nightly --runner=FnApiRunner --workers=3 --summary=- --max_failures=0.5% --strict_source --log_level=debug
        --export=/var/ferry
        """

    config = parse_run(text.split())

    assert config == JobConfig(
        source=EndpointOptions(
            "source",
            "https://s3.example:9000",
            "eu-central-1",
            "old",
            "arn:aws:iam::123456789012:role/read",
            "path",
            "/ca.pem",
        ),
        destination_endpoint=EndpointOptions(
            "destination",
            "http://[::1]:9000",
            "us-east-1",
            "new",
            "arn:aws:iam::123456789012:role/write",
            "path",
        ),
        inventory=InventoryOptions(("s3://inv/cfg/latest",), "percent", True, "/spool"),
        destination=DestinationOptions("dst", "a/b"),
        routing=RoutingOptions(2 * 1024**2, 10**9, 100, 1024**3, 2, 64 * 1024**2, 1000, "source", 500),
        copy=CopyPolicy(
            "readback",
            "copy",
            "keep",
            "opaque",
            "list",
            3,
            10,
            5,
            2,
            256 * 1024**2,
            5.0,
            7.5,
            "aiohttp",
            100.0,
            10_000_000.0,
            "md5,crc32c",
            "auto",
            True,
            True,
        ),
        ledger=LedgerOptions(10, 1024**2, 0.5, 30.0),
        run=RunPolicy("nightly", "FnApiRunner", 3, "-", "0.5%", True, "DEBUG", "/var/ferry"),
    )


def test_a_value_may_stand_after_its_flag() -> None:
    assert parse_run([*GOOD, "--attempts", "3"]) == parse_run([*GOOD, "--attempts=3"])


def test_the_last_of_two_values_counts() -> None:
    assert parse_run([*GOOD, "--attempts=3", "--attempts=4"]).copy.attempts == 4


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("AUTO", "auto"),
        ("sha256", "sha256"),
        ("crc64nvme,MD5", "md5,crc64nvme"),
        ("md5, sha256 ,md5", "md5,sha256"),
    ],
)
def test_digests_are_known_in_any_case_and_order(given: str, read: str) -> None:
    assert parse_run([*GOOD, f"--hash={given}"]).copy.hash == read


def test_a_local_manifest_is_taken_as_it_is() -> None:
    assert parse_run(["--manifest=data/my inventory/manifest.json", GOOD[1]]).inventory.manifests == (
        "data/my inventory/manifest.json",
    )


def test_several_manifests_are_kept_in_their_order() -> None:
    assert parse_run([*GOOD, "--manifest=s3://inv/another/latest"]).inventory.manifests == (
        "s3://inv/cfg/manifest.json",
        "s3://inv/another/latest",
    )


def test_a_prefix_keeps_every_character() -> None:
    config = parse_run([GOOD[0], "--destination=s3://dst//a b/ü?x=1#y%20+"])

    assert config.destination == DestinationOptions("dst", "/a b/ü?x=1#y%20+")


def test_a_destination_may_be_a_whole_bucket() -> None:
    assert parse_run([GOOD[0], "--destination=s3://dst"]).destination == DestinationOptions("dst", "")


def test_a_profile_and_a_role_go_together() -> None:
    config = parse_run([*GOOD, "--source_profile=base", "--source_role_arn=arn:minio:iam:::role/copy"])

    assert (config.source.profile, config.source.role_arn) == ("base", "arn:minio:iam:::role/copy")


def test_a_runner_is_known_in_any_case() -> None:
    assert parse_run([*GOOD, "--runner=flinkrunner"]).run.runner == "FlinkRunner"


def test_python_side_flags_of_beam_pass_through_as_given() -> None:
    flags = (
        "--flink_master",
        "jm:8081",
        "--environment_type=EXTERNAL",
        "--direct_runner_bundle_repeat=1",
        "--streaming",
    )

    assert parse_run([*GOOD, "--runner=FlinkRunner", *flags]).beam_args == flags


def test_runner_options_follow_the_flags_of_beam() -> None:
    argv = [
        *GOOD,
        "--runner=FlinkRunner",
        "--runner_option=max_bundle_size=1000",
        "--runner_option=state_backend=rocksdb",
        "--parallelism=4",
    ]

    assert parse_run(argv).beam_args == ("--parallelism=4", "--max_bundle_size=1000", "--state_backend=rocksdb")


def test_the_configuration_crosses_processes_whole() -> None:
    config = parse_run(GOOD)

    assert pickle.loads(pickle.dumps(config)) == config


def test_the_help_lists_every_flag_with_its_default() -> None:
    text = " ".join(run_help().split())

    for flags in FLAGS_BY_THEME.values():
        for flag in flags:
            assert f" {flag.option} " in text
            assert f"{' '.join(flag.help.split())} (default: {flag.shown_default})" in text


def test_the_help_of_a_measured_flag_names_its_unit() -> None:
    units = {"SIZE": "bytes", "SECONDS": "seconds"}
    for flags in FLAGS_BY_THEME.values():
        for flag in flags:
            if flag.metavar in units:
                assert units[flag.metavar] in flag.help, flag.option


def test_flags_of_this_tool_and_of_beam_do_not_collide() -> None:
    from options.beam_options import beam_flag_names

    own = {flag.option for flags in FLAGS_BY_THEME.values() for flag in flags}

    assert own & set(beam_flag_names()) == {"--runner"}


def test_beam_reads_the_same_flags_as_pipeline_options() -> None:
    from options.beam_options import CopyingBeamOptions, EndpointBeamOptions, RunBeamOptions

    options = CopyingBeamOptions([*GOOD, "--part_size=64MiB", "--idle_timeout=3", "--job=nightly"])

    assert options.idle_timeout == 3.0
    assert options.view_as(RunBeamOptions).job == "nightly"
    assert options.view_as(EndpointBeamOptions).destination == ("dst", "prefix/")
    assert options.get_all_options()["part_size"] == 64 * 1024**2


@pytest.mark.parametrize(
    ("limit", "failed", "ended", "exceeded"),
    [
        ("0", 0, 10, False),
        ("0", 1, 10, True),
        ("10", 10, 10, False),
        ("10", 11, 11, True),
        ("1%", 50, 99, False),
        ("1%", 1, 100, False),
        ("1%", 2, 100, True),
        ("0.5%", 6, 1000, True),
        ("100%", 1000, 1000, False),
    ],
)
def test_the_run_stops_above_max_failures(limit: str, failed: int, ended: int, exceeded: bool) -> None:
    assert failure_limit(limit).exceeded(failed, ended) is exceeded


def test_verify_takes_the_flags_of_run_and_its_own() -> None:
    config = parse_verify([*GOOD, "--deep", "--adopt", "--max_in_flight=7", "--max_bytes_per_s=10MB"])

    assert config.verify == VerifyOptions(deep=True, adopt=True)
    assert (config.copy.max_in_flight, config.copy.max_bytes_per_s) == (7, 10e6)
    assert replace(config, verify=None) == parse_run([*GOOD, "--max_in_flight=7", "--max_bytes_per_s=10MB"])


def test_the_help_of_verify_lists_its_flags_and_those_of_run() -> None:
    text = verify_help()

    for flag in (*VERIFY_FLAGS, *(flag for flags in FLAGS_BY_THEME.values() for flag in flags)):
        assert flag.option in text
