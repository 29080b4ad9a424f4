"""How much memory bodies may take, from the cgroup."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.routing import GIB, MIB
from storage import memory
from storage.memory import available_bytes, body_budget


@pytest.mark.parametrize(
    ("total", "workers", "budget"),
    [
        (3584 * MIB, 4, (896 - 220) * MIB // 2),
        (64 * GIB, 2, 1024 * MIB),
        (512 * MIB, 4, 32 * MIB),
        (1 * GIB, 0, (1024 - 220) * MIB // 2),
    ],
)
def test_half_of_what_is_left_beside_the_interpreter(total: int, workers: int, budget: int) -> None:
    assert body_budget(total, workers) == budget


def test_the_limit_of_the_cgroup_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    limit.write_text("104857600\n")
    monkeypatch.setattr(memory, "_CGROUP_LIMITS", (str(tmp_path / "missing"), str(limit)))
    assert available_bytes() == 100 * MIB


@pytest.mark.parametrize("text", ["max\n", str(1 << 62), ""])
def test_no_limit_is_the_machines_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    limit = tmp_path / "memory.max"
    limit.write_text(text)
    monkeypatch.setattr(memory, "_CGROUP_LIMITS", (str(limit),))
    with_text = available_bytes()
    monkeypatch.setattr(memory, "_CGROUP_LIMITS", ())
    assert with_text == available_bytes() > 100 * MIB
