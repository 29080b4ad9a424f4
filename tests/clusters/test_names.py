"""The names s3ferry puts at the top level of a worker's environment are nobody else's there."""

from __future__ import annotations

import sys
from importlib.metadata import distribution, packages_distributions


def test_no_other_package_that_workers_have_uses_a_top_level_name_of_this_one() -> None:
    ours = set((distribution("s3ferry").read_text("top_level.txt") or "").split())
    installed = packages_distributions()

    assert ours == {"options", "model", "storage", "ledger", "transforms", "pipeline", "local"}
    assert {name: set(installed[name]) for name in ours} == {name: {"s3ferry"} for name in ours}
    assert ours & sys.stdlib_module_names == set()
