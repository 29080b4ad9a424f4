import json
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from psycopg.types.json import Jsonb

from ledger import schema
from ledger.accounting import InputFile, write_counts
from ledger.connect import connect
from ledger.digest import seal, seal_late
from ledger.leases import RunRef, release
from ledger.runs import RunStart, drop_history, finish_run, start_run
from ledger.schema import Migration, migrate, migrations
from ledger.writer import write_objects
from model.outcome import Count, Gap, GapKind, Outcome, RunKind
from model.records import Tally
from model.status import SizeClass, Status
from model.version import VERSION
from pipeline.main import main
from pipeline.report import Summary, render_table
from tests.ledger.examples import a_record


def test_ledger_migrate_makes_the_tables_and_may_be_repeated(
    ledger_dsn: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LEDGER_DSN", ledger_dsn)

    assert main(["ledger", "migrate"]) == 0
    assert main(["ledger", "migrate"]) == 0

    first, second = capsys.readouterr().out.splitlines()
    assert first == second
    assert first.startswith("the ledger is at version ")
    with psycopg.connect(ledger_dsn) as connection:
        row = connection.execute("SELECT to_regclass('objects') IS NOT NULL").fetchone()
    assert row == (True,)


def test_without_a_ledger_the_variables_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("LEDGER_DSN", "PGHOST", "PGHOSTADDR", "PGDATABASE", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)

    assert main(["ledger", "migrate"]) == 2
    assert capsys.readouterr().err == (
        "s3ferry: no ledger is named; set LEDGER_DSN, or PGHOST and the other PG* variables\n"
    )


@pytest.mark.parametrize(
    "argv", [[], ["migrat"], ["migrate", "now"], ["migrate", "--force"], ["check"], ["check", "1", "2"], ["seal"]]
)
def test_any_other_action_is_refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ledger", *argv]) == 2
    assert "write s3ferry ledger migrate" in capsys.readouterr().err


@pytest.fixture
def run(ledger_dsn: str, monkeypatch: pytest.MonkeyPatch) -> RunRef:
    monkeypatch.setenv("LEDGER_DSN", ledger_dsn)
    migrate(ledger_dsn)
    start = RunStart("nightly", "s3://inv/manifest.json", None, VERSION, {}, "aws", "dst", "prefix/")
    return start_run(ledger_dsn, start)


def test_ledger_migrate_is_refused_under_a_run_it_would_break(
    run: RunRef, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    breaking = Migration(9_001, "9001_breaking.sql", "ALTER TABLE objects DROP COLUMN md5", "x")
    monkeypatch.setattr(schema, "migrations", lambda: (*migrations(), breaking))
    assert main(["ledger", "migrate"]) == 4
    line = capsys.readouterr().err
    assert line.startswith("s3ferry: the ledger cannot be migrated (9001_breaking.sql) under run ")
    assert line.endswith(f"or end it with `s3ferry stop {run.run_id}`\n")


def test_status_shows_a_run(run: RunRef, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(run.run_id)]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert f"run: {run.run_id}" in lines
    assert "job: nightly" in lines
    assert "kind: run" in lines
    assert "outcome: running" in lines
    assert not any(line.startswith("finished:") for line in lines)


def test_status_says_that_a_run_verifies(
    ledger_dsn: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LEDGER_DSN", ledger_dsn)
    migrate(ledger_dsn)
    start = RunStart(
        "nightly", "s3://inv/manifest.json", None, VERSION, {}, "aws", "dst", "prefix/", kind=RunKind.VERIFY
    )
    ref = start_run(ledger_dsn, start)

    assert main(["status", str(ref.run_id)]) == 0

    assert "kind: verify" in capsys.readouterr().out.splitlines()


def test_stop_is_a_request_that_status_shows(run: RunRef, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stop", str(run.run_id)]) == 0
    assert main(["stop", str(run.run_id)]) == 0
    assert main(["status", str(run.run_id)]) == 0
    assert "stop requested: s3ferry stop" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("command", ["stop", "status", "report"])
def test_a_run_that_is_not_there_is_refused(command: str, run: RunRef, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, str(run.run_id + 1)]) == 2
    assert f"run {run.run_id + 1}" in capsys.readouterr().err


def test_stop_needs_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stop"]) == 2
    assert "s3ferry status 12" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["last"], ["-1"], ["1", "2"], ["1", "--force"], [str(2**63)]])
@pytest.mark.parametrize("command", ["stop", "status"])
def test_what_is_no_run_is_refused(command: str, argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, *argv]) == 2
    assert "s3ferry status 12" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (["export", "12"], "--to: a folder is missing"),
        (["export", "12", "--to=s3://bucket/folder"], "--to: 's3://bucket/folder' is not a folder of this machine"),
        (["export", "12", "--to=out", "--format=orc"], "--format: 'orc' is not known; give one of avro, parquet"),
        (["export", "twelve", "--to=out"], "ledger export: 'twelve' is no run's number"),
        (["check", "12", "--to=out"], "--to: ledger check writes no files"),
        (["seal", "12", "--yes"], "--yes: ledger seal drops nothing"),
        (["migrate", "--format=parquet"], "--format: ledger migrate writes no files"),
    ],
)
def test_wrong_arguments_of_an_action_are_refused(
    argv: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ledger", *argv]) == 2
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        ([], "report: the run is missing"),
        (["1", "2"], "report: '2' is not known"),
        (["last"], "report: 'last' is no run's number"),
        (["1", "--format=xml"], "--format: 'xml' is not known; give one of table, json"),
    ],
)
def test_wrong_arguments_of_report_are_refused(
    argv: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", *argv]) == 2
    assert reason in capsys.readouterr().err


@pytest.fixture
def ended(run: RunRef, ledger_dsn: str) -> Summary:
    """The run at its end: one row verified, two failed."""
    counts = (Count(SizeClass.SMALL, Status.VERIFIED, 1, 100_001), Count(SizeClass.SMALL, Status.FAILED, 2, 200_005))
    summary = Summary(
        run_id=run.run_id,
        job="nightly",
        manifest="s3://inv/manifest.json",
        destination="s3://dst/prefix/",
        runner="DirectRunner",
        outcome="failed",
        exit_code=1,
        seconds=75.0,
        start_up_seconds=5.0,
        rows=3,
        counts=counts,
    )
    options = {"destination": {"bucket": "dst", "prefix": "prefix/"}, "run": {"runner": "DirectRunner"}}
    with connect(ledger_dsn, "test") as connection:
        connection.execute("UPDATE runs SET options = %s", (Jsonb(options),))
        write_objects(connection, run, [a_record(1), *(a_record(n, status=Status.FAILED, error="503") for n in (2, 3))])
        tallies = [Tally(0, SizeClass.SMALL, count.status, count.objects, count.object_bytes) for count in counts]
        files = [InputFile(0, "0.csv.gz", 1, None)]
        write_counts(connection, run, 0, files, [Tally(0, None, None, 3, 300_006), *tallies])
        finish_run(connection, run, Outcome.FAILED, 1, summary.as_dict())
        release(connection, run)
        return replace(summary, records_digest=seal(connection, run.run_id).sha256)


def test_report_prints_the_table_of_the_run_again(ended: Summary, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(ended.run_id)]) == 0
    assert capsys.readouterr().out == render_table(ended, 80)


def test_report_as_json_is_the_summary_of_the_run(ended: Summary, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(ended.run_id), "--format=json"]) == 0
    assert json.loads(capsys.readouterr().out) == ended.as_dict()


def test_report_of_a_run_without_an_end_says_so(run: RunRef, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(run.run_id)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "the run is still going; 0 rows accounted for"


@pytest.mark.parametrize("kind", RunKind)
def test_report_tells_all_that_the_run_told_at_its_end(
    ended: Summary, kind: RunKind, ledger_dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    verifies = kind is RunKind.VERIFY
    gaps = (Gap(0, 5, 3), Gap(1, 1, 0, GapKind.UNREAD, "files"))
    told = replace(
        ended,
        kind=kind,
        bad_files=2,
        gaps=(*gaps, Gap(0, 9, 7, GapKind.UNRECORDED, "bytes", SizeClass.LARGE, Status.VERIFIED)),
        gap_queries=("SELECT 1;",),
        unadopted_objects=0 if verifies else None,
        extra_objects=3 if verifies else None,
    )
    with connect(ledger_dsn, "test") as connection:
        connection.execute("UPDATE runs SET kind = %s, summary = %s", (kind, Jsonb(told.as_dict())))

    assert main(["report", str(ended.run_id), "--format=json"]) == 0
    assert json.loads(capsys.readouterr().out) == told.as_dict()


def test_gaps_that_an_older_package_stored_are_reported(
    ended: Summary, ledger_dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = {**ended.as_dict(), "gaps": [{"file_number": 0, "rows": 5, "accounted": 3}]}
    with connect(ledger_dsn, "test") as connection:
        connection.execute("UPDATE runs SET summary = %s", (Jsonb(stored),))

    assert main(["report", str(ended.run_id), "--format=json"]) == 0
    assert json.loads(capsys.readouterr().out)["gaps"] == [Gap(0, 5, 3)._asdict()]


def test_a_run_that_a_graph_closed_by_itself_is_reported(
    ended: Summary, ledger_dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with connect(ledger_dsn, "test") as connection:
        connection.execute("UPDATE runs SET summary = %s", (Jsonb({"counts": [], "gaps": [[0, 5, 3]]}),))

    assert main(["report", str(ended.run_id), "--format=json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["gaps"] == [Gap(0, 5, 3)._asdict()]
    assert told["statuses"] == ended.as_dict()["statuses"]


def test_status_without_a_number_lists_the_newest_runs_first(
    ended: Summary, ledger_dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(24):
        start_run(
            ledger_dsn, RunStart(f"other-{number}", "s3://inv/m.json", None, VERSION, {}, "aws", f"d{number}", "")
        )

    assert main(["status"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines[0] == ["run", "job", "outcome", "started", "took", "rows", "not", "well"]
    assert [int(line[0]) for line in lines[2:]] == list(range(ended.run_id + 24, ended.run_id + 4, -1))
    assert lines[2][1:3] == ["other-23", "running"]


def test_status_counts_the_rows_that_did_not_end_well(ended: Summary, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == 0
    assert capsys.readouterr().out.split()[-2:] == ["3", "2"]


def test_status_of_an_empty_ledger_says_so(
    ledger_dsn: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LEDGER_DSN", ledger_dsn)
    migrate(ledger_dsn)

    assert main(["status"]) == 0
    assert capsys.readouterr().out == "the ledger has no runs yet\n"


def test_check_says_what_changed(ended: Summary, ledger_dsn: str, capsys: pytest.CaptureFixture[str]) -> None:
    run_id = str(ended.run_id)
    assert main(["ledger", "check", run_id]) == 0
    with connect(ledger_dsn, "test") as connection:
        connection.execute("DELETE FROM attempts WHERE row_number = 2")

    assert main(["ledger", "check", run_id]) == 1
    same, changed, now, gap, others = capsys.readouterr().out.splitlines()
    assert same == f"the records of run {run_id} are those of its end: 3 records with SHA-256 {ended.records_digest}"
    assert changed.startswith(f"the records of run {run_id} are not those of its end: 3 records")
    assert now.startswith("now there are 2 with SHA-256 ")
    assert now.endswith(": 1 fewer")
    assert gap == "input file 0: 2 rows counted small FAILED, 1 in the ledger"
    assert others == f"table objects differs from them for 1 objects: {a_record(2).destination_key}"


def test_check_says_that_the_history_was_dropped(
    ended: Summary, ledger_dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with connect(ledger_dsn, "test") as connection:
        drop_history(connection, ended.run_id)

    assert main(["ledger", "check", str(ended.run_id)]) == 1
    assert "its history was dropped, so there is nothing to compare" in capsys.readouterr().out


def test_history_is_dropped_only_when_told_to(
    ended: Summary, ledger_dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = str(ended.run_id)
    assert main(["ledger", "drop", run_id]) == 0
    assert main(["ledger", "check", run_id]) == 0
    assert main(["ledger", "drop", run_id, "--yes"]) == 0
    assert main(["ledger", "drop", run_id, "--yes"]) == 0

    named, _, dropped, again = capsys.readouterr().out.splitlines()
    assert named == f"run {run_id} has a history of 3 records; --yes drops it, s3ferry ledger export keeps it"
    assert dropped == f"the history of run {run_id} is dropped: 3 records"
    assert again == f"run {run_id} has no history any more"
    with connect(ledger_dsn, "test") as connection:
        assert connection.execute("SELECT count(*) FROM objects").fetchone() == (3,)


def test_check_of_a_run_that_was_never_closed_says_so(
    run: RunRef, ledger_dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with connect(ledger_dsn, "test") as connection:
        connection.execute("UPDATE leases SET expires_at = clock_timestamp()")

    assert main(["ledger", "check", str(run.run_id)]) == 1
    assert "it was never closed" in capsys.readouterr().out


def unseal(ledger_dsn: str) -> None:
    with connect(ledger_dsn, "test") as connection:
        connection.execute("UPDATE runs SET records = NULL, records_digest = NULL, records_encoding = NULL")


def test_a_run_that_ended_without_a_digest_is_sealed_once(
    ended: Summary, ledger_dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = str(ended.run_id)
    unseal(ledger_dsn)
    assert main(["ledger", "check", run_id]) == 1
    assert main(["ledger", "seal", run_id]) == 0
    assert main(["ledger", "check", run_id]) == 0
    assert main(["ledger", "seal", run_id]) == 2

    said = capsys.readouterr()
    missing, sealed, same = said.out.splitlines()
    assert missing == f"run {run_id} has no digest: s3ferry ledger seal {run_id} stores one"
    assert sealed == f"run {run_id} is sealed as it stands now: 3 records with SHA-256 {ended.records_digest}"
    assert same.startswith(f"the records of run {run_id} are those of its end")
    assert said.err == f"s3ferry: run {run_id} is sealed: `s3ferry ledger check {run_id}` compares its records\n"


def test_a_digest_that_is_stored_is_not_replaced(ended: Summary, ledger_dsn: str) -> None:
    with connect(ledger_dsn, "test") as connection:
        connection.execute("DELETE FROM attempts WHERE row_number = 2")
        assert seal_late(connection, ended.run_id).sha256 == ended.records_digest


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("outcome = 'running'", "is running: only a run that has closed itself is sealed"),
        ("outcome = 'abandoned'", "is abandoned: only a run that has closed itself is sealed"),
    ],
)
def test_a_run_that_did_not_close_itself_is_not_sealed(
    ended: Summary, ledger_dsn: str, capsys: pytest.CaptureFixture[str], state: str, reason: str
) -> None:
    unseal(ledger_dsn)
    with connect(ledger_dsn, "test") as connection:
        connection.execute(f"UPDATE runs SET {state}")  # noqa: S608
        connection.execute("UPDATE leases SET expires_at = clock_timestamp() + interval '1 hour'")

    assert main(["ledger", "seal", str(ended.run_id)]) == 2
    assert reason in capsys.readouterr().err


def test_dropped_history_is_not_sealed(ended: Summary, ledger_dsn: str, capsys: pytest.CaptureFixture[str]) -> None:
    unseal(ledger_dsn)
    with connect(ledger_dsn, "test") as connection:
        drop_history(connection, ended.run_id)

    assert main(["ledger", "seal", str(ended.run_id)]) == 2
    assert "there are no records to seal" in capsys.readouterr().err


def test_export_names_its_files(ended: Summary, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ledger", "export", str(ended.run_id), f"--to={tmp_path}", "--format=parquet"]) == 0

    lines = capsys.readouterr().out.splitlines()
    folder = tmp_path / f"run-{ended.run_id}"
    assert [line.partition(": ")[0] for line in lines[:-1]] == [
        str(folder / name) for name in ("dead-letters.avro", "retry.csv", "records.parquet", "SHA256SUMS")
    ]
    assert lines[-1] == f"SHA-256 over the records: {ended.records_digest}, as at the end of the run"
