"""What the ledger says, read by plain SQL."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import Any

import psycopg
from psycopg.rows import dict_row

from tests.integration.ferry import Command


@dataclass(frozen=True)
class Ledger:
    """One ledger's database."""

    dsn: str

    def rows(self, query: str, *values: object) -> list[dict[str, Any]]:
        """The rows of one query, by column name."""
        with psycopg.connect(self.dsn, row_factory=dict_row, autocommit=True) as connection:
            return connection.execute(query, values).fetchall()

    def value(self, query: str, *values: object) -> Any:
        """The one value of one row."""
        (row,) = self.rows(query, *values)
        (value,) = row.values()
        return value

    def execute(self, statement: str, *values: object) -> None:
        """Changes what is there, by one statement."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(statement, values)

    def is_made(self) -> bool:
        """Whether the tables are there: the first run makes them."""
        return bool(self.value("SELECT to_regclass('objects') IS NOT NULL"))

    def objects(self, run_id: int | None = None) -> dict[str, dict[str, Any]]:
        """The rows of `objects`, of one run or of a ledger's only job, by destination key."""
        rows = self.rows("SELECT * FROM objects WHERE %s::bigint IS NULL OR run_id = %s", run_id, run_id)
        return {row["destination_key"]: row for row in rows}

    def statuses(self) -> Counter[str]:
        """How many rows of `objects` have each status."""
        return Counter(row["status"] for row in self.objects().values())

    def keys(self, status: str) -> set[str]:
        """The source keys whose row of `objects` has this status."""
        return {row["source_key"] for row in self.objects().values() if row["status"] == status}

    def count(self, status: str = "VERIFIED") -> int:
        """How many rows of `objects` have this status; 0 before there are tables."""
        return self.statuses()[status] if self.is_made() else 0

    def recorded_parts(self) -> dict[str, set[int]]:
        """The part numbers recorded for each destination key."""
        found: dict[str, set[int]] = {}
        if self.is_made():
            for row in self.rows("SELECT destination_key, part_number FROM parts JOIN uploads USING (identity)"):
                found.setdefault(row["destination_key"], set()).add(row["part_number"])
        return found

    def run(self, run_id: int | None = None) -> dict[str, Any]:
        """One row of `runs`, by default the newest."""
        if run_id is None:
            run_id = self.value("SELECT max(run_id) FROM runs")
        (row,) = self.rows("SELECT * FROM runs WHERE run_id = %s", run_id)
        return row

    def counted(self, run_id: int) -> Counter[str]:
        """Rows of the run by status, from `manifest_counts`."""
        rows = self.rows("SELECT status::text, objects FROM manifest_counts WHERE run_id = %s", run_id)
        total: Counter[str] = Counter()
        for row in rows:
            total[row["status"]] += row["objects"]
        return total

    def last_seen(self) -> dict[str, Any]:
        """When each process of the newest run left its newest heartbeat."""
        seen = "SELECT worker_id, last_seen FROM workers WHERE run_id = (SELECT max(run_id) FROM runs)"
        return {row["worker_id"]: row["last_seen"] for row in self.rows(seen)}

    def rows_read(self, run_id: int) -> int:
        """Rows of the inventory the run has read, from `manifest_files`."""
        return int(self.value("SELECT coalesce(sum(rows), 0) FROM manifest_files WHERE run_id = %s", run_id))


def until_stop_is_known(command: Command, ledger: Ledger) -> None:
    """Returns when a stop is in the ledger and every process of the run has learnt of it with a heartbeat."""
    asked = "SELECT run_id FROM runs WHERE stop_requested IS NOT NULL AND outcome = 'running'"
    command.until(lambda: ledger.is_made() and bool(ledger.rows(asked)), "the stop is in the ledger")
    for _ in range(2):
        seen = ledger.last_seen()
        command.until(partial(_has_newer, ledger, seen), "every process has a newer heartbeat")


def _has_newer(ledger: Ledger, seen: dict[str, Any]) -> bool:
    return all(moment != seen.get(worker) for worker, moment in ledger.last_seen().items())
