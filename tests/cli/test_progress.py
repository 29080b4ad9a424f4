import io
import logging
import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.status import SizeClass
from pipeline.progress import (
    ClassProgress,
    Line,
    LogProgress,
    ProgressSnapshot,
    Rate,
    TerminalProgress,
    bar_text,
    eta_seconds,
    open_progress,
    progress_line,
)


def snapshot(at_s: float, rows: int, total: int | None = 1000) -> ProgressSnapshot:
    return ProgressSnapshot(
        at_s, rows, total, (ClassProgress(SizeClass.SMALL, rows, rows * 1000, failures=rows // 100),)
    )


@given(
    st.integers(0, 10**9),
    st.one_of(st.none(), st.integers(0, 10**9)),
    st.floats(0, 1e6, allow_nan=False),
)
def test_an_eta_is_unknown_or_not_negative(done: int, total: int | None, per_s: float) -> None:
    eta = eta_seconds(done, total, per_s)

    assert eta is None or eta >= 0
    assert (eta is None) == (total is None or (done < total and per_s == 0))


def test_an_eta_is_the_rest_at_the_present_rate() -> None:
    assert eta_seconds(250, 1000, 50.0) == 15.0


def test_a_rate_is_that_of_the_last_window() -> None:
    rate = Rate(window_s=10)
    for at_s in range(100):
        rate.add(at_s, at_s * 5 if at_s < 50 else 250 + (at_s - 50) * 20)

    assert rate.per_s == 20.0


def test_a_rate_is_zero_until_two_moments_are_known() -> None:
    rate = Rate()
    rate.add(1.0, 100)

    assert rate.per_s == 0.0


def test_a_rate_is_never_negative_or_infinite() -> None:
    rate = Rate()
    rate.add(1.0, 100)
    rate.add(1.0, 200)
    rate.add(2.0, 50)

    assert rate.per_s == 0.0


def test_a_log_line_names_rows_classes_failures_rates_and_eta() -> None:
    shot = ProgressSnapshot(
        0.0,
        1200,
        10_000,
        (
            ClassProgress(SizeClass.SMALL, 1190, 119_000_000, failures=2),
            ClassProgress(SizeClass.LARGE, 10, 3_000_000_000, failures=1, total=40),
        ),
    )

    assert progress_line(shot, 200.0, 24e6) == (
        "1 200 of 10 000 (12 %) rows; small 1 190 (119.0 MB), large 10/40 (3.0 GB); 3 failed; "
        "200.0 objects/s, 24.0 MB/s; ETA 44 s"
    )


def test_a_log_line_without_a_total_has_no_eta() -> None:
    assert "ETA" not in progress_line(snapshot(0.0, 5, None), 1.0, 1.0)


def test_the_text_of_a_bar_has_its_figures() -> None:
    assert bar_text(Line(250, 1000, 25_000_000, 3), 50.0) == "250/1 000  25.0 MB  50.0/s  3 failed  ETA 15 s"


def test_a_line_is_logged_every_ten_seconds_and_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), LogProgress() as progress:
        for second in range(26):
            progress.update(snapshot(float(second), second * 10))

    rows = [line.partition(" of ")[0] for line in caplog.messages]
    assert rows == ["0", "100", "200", "250"]


def test_a_state_already_logged_is_not_logged_again_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), LogProgress() as progress:
        progress.update(snapshot(0.0, 10))

    assert len(caplog.messages) == 1


def test_a_terminal_gets_a_bar_for_all_and_one_per_class() -> None:
    stream = io.StringIO()

    with TerminalProgress(stream) as progress:
        progress.update(snapshot(0.0, 0))
        progress.update(snapshot(1.0, 500))

    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    last = [line for line in text.splitlines() if line.strip()][-2:]
    assert last[0].startswith("all")
    assert "500/1 000" in last[0]
    assert last[1].startswith("small")
    assert "5 failed" in last[1]


def test_log_lines_are_for_what_is_no_terminal() -> None:
    assert isinstance(open_progress(io.StringIO()), LogProgress)


@pytest.mark.parametrize(("term", "kind"), [("xterm", TerminalProgress), ("dumb", LogProgress)])
def test_bars_are_for_a_terminal_that_can_draw(term: str, kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", term)
    controller, terminal = os.openpty()
    try:
        with open(terminal, "w", closefd=False) as stream:
            assert isinstance(open_progress(stream), kind)
    finally:
        os.close(controller)
        os.close(terminal)
