import psycopg
import pytest

from ledger import schema
from ledger.leases import RunRef
from ledger.runs import RunStart, start_run
from ledger.schema import Migration, migrate, migrations
from model.version import VERSION
from pipeline.main import main


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


@pytest.mark.parametrize("argv", [[], ["migrat"], ["migrate", "now"], ["migrate", "--force"]])
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
    assert "outcome: running" in lines
    assert not any(line.startswith("finished:") for line in lines)


def test_stop_is_a_request_that_status_shows(run: RunRef, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stop", str(run.run_id)]) == 0
    assert main(["stop", str(run.run_id)]) == 0
    assert main(["status", str(run.run_id)]) == 0
    assert "stop requested: s3ferry stop" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("command", ["stop", "status"])
def test_a_run_that_is_not_there_is_refused(command: str, run: RunRef, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, str(run.run_id + 1)]) == 2
    assert f"run {run.run_id + 1}" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [[], ["last"], ["-1"], ["1", "2"], ["1", "--force"], [str(2**63)]])
@pytest.mark.parametrize("command", ["stop", "status"])
def test_what_is_no_run_is_refused(command: str, argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, *argv]) == 2
    assert "s3ferry status 12" in capsys.readouterr().err
