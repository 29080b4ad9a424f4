import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from model.outcome import Count, Exit, Gap, GapKind, RunKind, exit_code
from model.status import SizeClass, Status
from pipeline.report import (
    Summary,
    final_sentence,
    human_bytes,
    human_count,
    human_seconds,
    publish_summary,
    rate_line,
    render_table,
)

SMALL, MEDIUM, LARGE = SizeClass
ALL_VERIFIED = (
    Count(SMALL, Status.VERIFIED, 900, 90_000_000),
    Count(MEDIUM, Status.VERIFIED, 99, 990_000_000),
    Count(LARGE, Status.VERIFIED, 1, 300_000_000),
)
SUMMARY = Summary(
    run_id=12,
    job="nightly",
    manifest="s3://inv/cfg/manifest.json",
    destination="s3://dst/prefix/",
    runner="DirectRunner",
    outcome="succeeded",
    exit_code=Exit.OK,
    seconds=24.0,
    start_up_seconds=4.0,
    rows=1000,
    counts=ALL_VERIFIED,
)


def with_counts(*counts: Count, code: Exit = Exit.OK) -> Summary:
    return replace(SUMMARY, counts=counts, exit_code=code, rows=sum(count.objects for count in counts))


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("strict", [False, True])
def test_each_status_has_its_exit_code(status: Status, strict: bool) -> None:
    failing = {Status.FAILED, Status.MISMATCH, Status.DESTINATION_GONE}
    if strict:
        failing |= {Status.SOURCE_GONE, Status.SOURCE_CHANGED}

    code = exit_code([Count(SMALL, status, 1, 1)], [], stopped=False, broken=False, strict_source=strict)

    assert code == (1 if status in failing else 0)


def test_a_status_without_objects_decides_nothing() -> None:
    counts = [Count(SMALL, Status.FAILED, 0, 0)]

    assert exit_code(counts, [], stopped=False, broken=False, strict_source=True) == 0


def test_an_accounting_gap_is_a_failure() -> None:
    assert exit_code(ALL_VERIFIED, [Gap(0, 10, 9)], stopped=False, broken=False, strict_source=False) == 1


@pytest.mark.parametrize(("stopped", "broken", "code"), [(True, False, 5), (False, True, 3), (True, True, 3)])
def test_how_the_run_ended_comes_before_what_became_of_the_objects(stopped: bool, broken: bool, code: int) -> None:
    counts = [Count(SMALL, Status.FAILED, 1, 1)]

    assert exit_code(counts, [Gap(0, 10, 9)], stopped=stopped, broken=broken, strict_source=False) == code


def test_the_summary_is_json_with_counts_by_class_and_status() -> None:
    summary = with_counts(
        *ALL_VERIFIED,
        Count(SMALL, Status.VERIFIED, 1, 50),
        Count(None, Status.EXCLUDED, 2, 0),
        Count(SMALL, Status.FAILED, 0, 0),
    )

    assert json.loads(summary.to_json()) == {
        "run_id": 12,
        "job": "nightly",
        "kind": "run",
        "manifest": "s3://inv/cfg/manifest.json",
        "destination": "s3://dst/prefix/",
        "runner": "DirectRunner",
        "outcome": "succeeded",
        "exit_code": 0,
        "seconds": 24.0,
        "start_up_seconds": 4.0,
        "rows": 1003,
        "bad_files": 0,
        "objects": 1001,
        "bytes": 1_380_000_050,
        "objects_per_s": 50.05,
        "bytes_per_s": 69_000_002.5,
        "statuses": {
            "VERIFIED": {"objects": 1001, "bytes": 1_380_000_050},
            "EXCLUDED": {"objects": 2, "bytes": 0},
        },
        "counts": {
            "small": {"VERIFIED": {"objects": 901, "bytes": 90_000_050}},
            "medium": {"VERIFIED": {"objects": 99, "bytes": 990_000_000}},
            "large": {"VERIFIED": {"objects": 1, "bytes": 300_000_000}},
            "unsized": {"EXCLUDED": {"objects": 2, "bytes": 0}},
        },
        "gaps": [],
        "gap_queries": [],
        "unadopted_objects": None,
        "extra_objects": None,
        "error": None,
        "records_digest": None,
        "retry_manifest": None,
        "restore_manifest": None,
        "extra_manifest": None,
    }


def test_the_summary_names_gaps_and_error() -> None:
    gap = Gap(2, 10, 9, GapKind.UNRECORDED, "bytes", SMALL, Status.FAILED)
    summary = replace(SUMMARY, gaps=(gap,), gap_queries=("SELECT 1;",), error="no bucket", exit_code=Exit.BROKEN)

    read = json.loads(summary.to_json())

    where = {"file_number": 2, "kind": "unrecorded", "unit": "bytes", "size_class": "small", "status": "FAILED"}
    assert read["gaps"] == [{**where, "expected": 10, "found": 9}]
    assert read["gap_queries"] == ["SELECT 1;"]
    assert (read["error"], read["exit_code"]) == ("no bucket", 3)


def test_a_run_that_copied_nothing_has_no_rate() -> None:
    assert replace(SUMMARY, counts=(), seconds=1.0, start_up_seconds=1.0).objects_per_s == 0.0


def test_the_table_shows_each_class_and_status_with_its_share() -> None:
    lines = [line.split() for line in render_table(SUMMARY, 100).splitlines() if line.strip()]

    assert lines[0] == ["class", "status", "objects", "bytes", "share"]
    assert ["small", "VERIFIED", "900", "90.0", "MB", "90.0", "%"] in lines
    assert ["medium", "VERIFIED", "99", "990.0", "MB", "9.9", "%"] in lines
    assert ["large", "VERIFIED", "1", "300.0", "MB", "0.1", "%"] in lines
    assert ["total", "1", "000", "1.4", "GB", "100.0", "%"] in lines


def test_a_class_is_named_once_in_the_table() -> None:
    text = render_table(
        with_counts(Count(SMALL, Status.VERIFIED, 1, 1), Count(SMALL, Status.FAILED, 1, 1), code=Exit.FAILURES), 100
    )

    assert text.count("small") == 1


def test_a_narrow_terminal_cuts_no_word_of_the_table() -> None:
    text = render_table(with_counts(Count(MEDIUM, Status.DESTINATION_GONE, 10**9, 10**15)), 20)

    assert "DESTINATION_GONE" in text
    assert "1 000 000 000" in text


def test_the_table_of_an_empty_run_says_that_there_was_nothing() -> None:
    assert "nothing to do: the inventory has no rows" in render_table(with_counts(), 80)


def test_the_table_ends_with_rates_and_one_sentence() -> None:
    rates, sentence = render_table(SUMMARY, 80).splitlines()[-2:]

    assert rates == rate_line(SUMMARY)
    assert rates == "1 000 objects, 1.4 GB copied in 24 s (4 s of it start-up): 50.0 objects/s, 69.0 MB/s"
    assert sentence == "1 000 rows accounted for: 1 000 VERIFIED"


@pytest.mark.parametrize(
    ("summary", "words"),
    [
        (
            with_counts(Count(SMALL, Status.SKIPPED, 1000, 10)),
            "nothing to do: all 1 000 were verified by an earlier run",
        ),
        (
            with_counts(Count(SMALL, Status.VERIFIED, 8, 1), Count(LARGE, Status.FAILED, 2, 1), code=Exit.FAILURES),
            "10 rows accounted for: 8 VERIFIED, 2 FAILED; objects.error in the ledger says why; run again",
        ),
        (
            with_counts(Count(SMALL, Status.VERIFIED, 8, 1), Count(SMALL, Status.SOURCE_GONE, 2, 1)),
            "nothing failed, but not all is VERIFIED",
        ),
        (
            replace(SUMMARY, gaps=(Gap(0, 10, 8), Gap(1, 1, 0), Gap(2, 1, 0), Gap(3, 1, 0)), exit_code=Exit.FAILURES),
            "accounting gap (input file 0: 10 rows read, 8 accounted for, input file 1: 1 rows read, 0 accounted for, "
            "input file 2: 1 rows read, 0 accounted for and 1 more)",
        ),
        (
            replace(SUMMARY, exit_code=Exit.INTERRUPTED),
            "interrupted; 1 000 rows accounted for: 1 000 VERIFIED; run again",
        ),
        (replace(SUMMARY, exit_code=Exit.BROKEN, error="no bucket"), "the run broke: no bucket; what the ledger holds"),
        (
            replace(SUMMARY, retry_manifest="out/run-12/retry.csv", restore_manifest="out/run-12/restore.csv"),
            "1 000 VERIFIED; retry manifest: out/run-12/retry.csv; restore manifest: out/run-12/restore.csv",
        ),
        (
            replace(SUMMARY, outcome="running", exit_code=None),
            "the run is still going; 1 000 rows accounted for: 1 000 VERIFIED",
        ),
        (
            replace(SUMMARY, outcome="abandoned", exit_code=None),
            "abandoned, its lease ran out; 1 000 rows accounted for: 1 000 VERIFIED; run again",
        ),
        (
            replace(SUMMARY, outcome="abandoned", exit_code=None, error="this worker has no key"),
            "abandoned, its lease ran out after this: this worker has no key; 1 000 rows",
        ),
    ],
)
def test_the_last_sentence_says_what_came_of_it_and_what_to_do(summary: Summary, words: str) -> None:
    assert words in final_sentence(summary)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_960, "1.0 MB"), (85_800_000, "85.8 MB"), (5e15, "5.0 PB")],
)
def test_bytes_read_in_powers_of_a_thousand(size: float, text: str) -> None:
    assert human_bytes(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7620, "2 h 07 min"), (360_000, "100 h 00 min")],
)
def test_seconds_read_as_a_person_says_them(seconds: float, text: str) -> None:
    assert human_seconds(seconds) == text


def test_counts_are_grouped_by_thousands() -> None:
    assert human_count(1_234_567) == "1 234 567"


def test_the_summary_file_replaces_an_older_one_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "summary.json"
    target.write_text("old")

    publish_summary(SUMMARY, str(target), io.StringIO())

    assert json.loads(target.read_text())["run_id"] == SUMMARY.run_id
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]


def test_a_summary_that_cannot_be_placed_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "summary.json").mkdir()

    with pytest.raises(OSError):
        publish_summary(SUMMARY, str(tmp_path / "summary.json"), io.StringIO())

    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]


def test_a_dash_sends_the_summary_to_standard_output() -> None:
    out = io.StringIO()

    publish_summary(SUMMARY, "-", out)

    assert out.getvalue() == SUMMARY.to_json()


def test_a_verification_says_what_is_left_to_do() -> None:
    looked = replace(with_counts(*ALL_VERIFIED), kind=RunKind.VERIFY, unadopted_objects=0)
    wrong = replace(
        with_counts(*ALL_VERIFIED, Count(SMALL, Status.MISMATCH, 1, 1), code=Exit.FAILURES), kind=RunKind.VERIFY
    )

    assert rate_line(looked).startswith("1 000 objects, 1.4 GB found in 24 s")
    assert final_sentence(looked) == "1 000 rows accounted for: 1 000 VERIFIED"
    assert final_sentence(replace(looked, unadopted_objects=7)).endswith(
        "7 of them are the same, but not yet the ledger's: --adopt takes them"
    )
    assert final_sentence(wrong).endswith("s3ferry run copies again what is not VERIFIED")
    assert "not all is proven" in final_sentence(
        replace(with_counts(Count(SMALL, Status.COPIED, 1, 1)), kind=RunKind.VERIFY)
    )
