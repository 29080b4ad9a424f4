"""A run whose ledger is tampered with while it goes on: its accounts do not balance, and it says where."""

from __future__ import annotations

import psycopg
import pytest

from tests.fixtures.s3 import S3Server
from tests.integration.conftest import MakeFerry, new_bucket
from tests.integration.ledger import Ledger
from tests.integration.scenes import KIB, small_objects, stocked

SIZE = 10 * KIB


@pytest.mark.parametrize(
    ("deed", "gap", "words"),
    [
        ("RETURN NULL;", ("rows", 5, 4), "5 rows counted small VERIFIED, 4 in the ledger"),
        (
            "NEW.size := 1; RETURN NEW;",
            ("bytes", 5 * SIZE, 4 * SIZE + 1),
            f"{5 * SIZE} bytes counted small VERIFIED, {4 * SIZE + 1} in the ledger",
        ),
        ("NEW.size_class := 'large'; RETURN NEW;", ("rows", 5, 4), "5 rows counted small VERIFIED, 4 in the ledger"),
    ],
    ids=["swallowed", "another size", "another class"],
)
def test_a_record_that_is_not_kept_as_it_was_written_is_a_gap_and_its_query_shows_it(
    minio: S3Server, ferry: MakeFerry, ledger: Ledger, deed: str, gap: tuple[str, int, int], words: str
) -> None:
    scene = stocked(minio, new_bucket(minio), small_objects(5, SIZE))
    user = ferry(minio, minio, ledger, "--workers=1")
    assert user.command("ledger", "migrate").wait().code == 0
    with psycopg.connect(ledger.dsn, autocommit=True) as conn:
        conn.execute(f"CREATE FUNCTION tamper() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {deed} END $$")
        conn.execute(
            "CREATE TRIGGER tamper BEFORE INSERT ON attempts FOR EACH ROW"
            " WHEN (NEW.source_key = 'small/0002.bin') EXECUTE FUNCTION tamper()"
        )

    run = user.run(scene.inventory(), f"s3://{new_bucket(minio)}")

    assert (run.code, run.summary["outcome"]) == (1, "failed"), run.explain()
    assert f"the accounts do not balance: input file 0: {words}" in run.stderr
    assert run.last_sentence.startswith("accounting gap (input file 0: ")
    assert f"input file 0: {words}" in run.last_sentence
    [query] = run.summary["gap_queries"]
    assert query in run.stderr
    stored = ledger.run()["summary"]
    assert (stored["gaps"], stored["gap_queries"]) == (run.summary["gaps"], [query])
    for shown in (ledger.rows(query), run.summary["gaps"]):
        small = [row for row in shown if row["size_class"] == "small"]
        assert [(row["unit"], row["expected"], row["found"]) for row in small] == [gap]
        assert {row["status"] for row in shown} == {"VERIFIED"}
