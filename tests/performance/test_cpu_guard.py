"""The guard of the hot path: what a small object costs beyond hashing, next to a bare loop in the same run.

Never a timing, and without hashing, which both do: it would hide half of what is to be guarded.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from statistics import median

import pytest

from bench.hashing import GIB, hashing_s_per_gib
from bench.null import Bench, measure_all, parser
from bench.null_report import SMALL_DIGESTS, cpu_ms, paired
from bench.servers import built_nullserver, postgres
from tests.fixtures.tools import missing

MOST = {"http": 1.3, "tls": 1.45}
"""About 0.95 and 1.1 on a quiet machine: s3ferry has a transport of its own, the loop has pyreqwest and no ledger."""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    if shutil.which("go") is None:
        missing("go is not installed: no null server")
    return Bench(built_nullserver(tmp_path), None, tmp_path, [])  # type: ignore[arg-type]  # given by the test


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("scheme", ["http", pytest.param("tls", marks=pytest.mark.nightly)])
def test_a_small_object_costs_hardly_more_cpu_than_in_a_bare_loop(bench: Bench, tmp_path: Path, scheme: str) -> None:
    options = parser().parse_args(
        [
            "--rounds=3",
            "--objects=6000",
            "--large=0",
            "--in_flight=64",
            "--latencies=0",
            "--workers=1",
            f"--schemes={scheme}",
        ]
    )
    costs = hashing_s_per_gib()
    hashing_ms = sum(costs[name] for name in SMALL_DIGESTS) * options.size / GIB * 1000
    with postgres(tmp_path / "postgres") as bench.ledger:
        runs, failures = measure_all(bench, options)
    assert failures == []
    result = {"runs": runs, "few": min(run["count"] for run in runs), "size": options.size}
    pairs = paired(result, (scheme, 0, 1), 64)
    assert len(pairs) == 3
    ratios = [(cpu_ms(result, ours) - hashing_ms) / (cpu_ms(result, loop) - hashing_ms) for ours, loop in pairs]
    assert median(ratios) < MOST[scheme], f"CPU per object beyond hashing, in multiples of the bare loop's: {ratios}"
