"""The embedded PostgreSQL: its data are kept, and it runs only while somebody uses it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from local.postgres import default_folder, running_postgres
from local.with_ledger import main as with_ledger


def count(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (n int)")
        connection.execute("INSERT INTO kept VALUES (1)")
        row = connection.execute("SELECT count(*) FROM kept").fetchone()
    assert row is not None
    return int(row[0])


def is_refused(dsn: str) -> bool:
    try:
        psycopg.connect(dsn).close()
    except psycopg.OperationalError:
        return True
    return False


def test_data_are_kept_and_the_server_stops(tmp_path: Path) -> None:
    with running_postgres(tmp_path / "data") as dsn:
        assert count(dsn) == 1
    assert is_refused(dsn)
    with running_postgres(tmp_path / "data") as dsn:
        assert count(dsn) == 2


def test_a_path_too_long_for_a_socket_works(tmp_path: Path) -> None:
    with running_postgres(tmp_path / ("long" * 30) / "data") as dsn:
        assert count(dsn) == 1


def test_two_processes_share_one_folder_and_the_last_stops_it(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from local.postgres import running_postgres\n"
        "with running_postgres(Path(sys.argv[1])) as dsn: print(dsn, flush=True); sys.stdin.read()"
    )
    with running_postgres(tmp_path / "data") as dsn:
        other = subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / "data")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert other.stdout is not None
        assert other.stdout.readline().strip() == dsn
        other.communicate()
        assert count(dsn) == 1
    assert is_refused(dsn)


def test_users_that_were_killed_do_not_keep_it_running(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with running_postgres(tmp_path / "data"):
        pass
    (tmp_path / "data" / ".handle_pids.json").write_text(json.dumps([ended.pid]))
    with running_postgres(tmp_path / "data") as dsn:
        assert count(dsn) == 1
    assert is_refused(dsn)


def test_the_default_folder_is_among_the_users_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "s3ferry" / "postgres"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".local" / "share" / "s3ferry" / "postgres"


def test_a_run_without_a_ledger_gets_the_embedded_one_and_its_own_exit_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("LEDGER_DSN", "PGHOST", "PGHOSTADDR", "PGDATABASE", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert with_ledger(["run", "--no_such_flag=1"]) == 2
    said = capfd.readouterr()
    assert f"embedded PostgreSQL in {tmp_path}/s3ferry/postgres" in said.out
    assert "no_such_flag" in said.err
