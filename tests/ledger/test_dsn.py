from __future__ import annotations

import pytest

from ledger.dsn import ledger_dsn, redact
from model.errors import InvalidInput


def test_ledger_dsn_names_the_ledger() -> None:
    assert ledger_dsn({"LEDGER_DSN": "postgresql://db/ledger", "PGHOST": "other"}) == "postgresql://db/ledger"


@pytest.mark.parametrize("name", ["PGHOST", "PGDATABASE", "PGSERVICE"])
def test_libpq_variables_name_the_ledger_where_no_dsn_does(name: str) -> None:
    assert ledger_dsn({name: "x"}) == ""


def test_without_either_there_is_no_ledger() -> None:
    assert ledger_dsn({"LEDGER_DSN": " ", "PGUSER": "me"}) is None


def test_a_malformed_dsn_is_refused_without_being_quoted() -> None:
    with pytest.raises(InvalidInput) as caught:
        ledger_dsn({"LEDGER_DSN": "host=db hunter2"})
    assert "LEDGER_DSN" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("dsn", ["postgresql://me:hunter2@db:5433/ledger", "host=db password='hunter2' dbname=ledger"])
def test_a_redacted_dsn_has_no_password(dsn: str) -> None:
    assert "hunter2" not in redact(dsn)
    assert "host=db" in redact(dsn)
