"""The guide docs/command-line.md says what the program does."""

import json
import re
from pathlib import Path

from model.outcome import Exit
from options.flags import Flag
from options.ledger_command import DROP_FLAGS, EXPORT_FLAGS, REPORT_FLAGS
from options.parse import FLAGS_BY_THEME
from options.sweep import SWEEP_FLAGS
from options.verify import VERIFY_FLAGS
from pipeline.cli import COMMANDS
from pipeline.report import Summary

GUIDE = (Path(__file__).parents[2] / "docs/command-line.md").read_text(encoding="utf-8")
FLAGS = [
    *(flag for flags in FLAGS_BY_THEME.values() for flag in flags),
    *SWEEP_FLAGS,
    *DROP_FLAGS,
    *EXPORT_FLAGS,
    *REPORT_FLAGS,
    *VERIFY_FLAGS,
]


def row(flag: Flag) -> str:
    name = flag.option if flag.read is None else f"{flag.option}={flag.metavar}"
    cells = [text.replace("|", "\\|") for text in (f"`{name}`", flag.help, flag.shown_default)]
    return f"| {' | '.join(cells)} |"


def test_every_flag_has_its_row_as_in_the_help() -> None:
    missing = [row(flag) for flag in FLAGS if row(flag) not in GUIDE.splitlines()]

    assert missing == []


def test_no_row_is_left_of_a_flag_that_is_gone() -> None:
    assert set(re.findall(r"^\| `--(\w+)(?:=[^`]*)?` \| [^|]+ \| ", GUIDE, re.MULTILINE)) <= {f.name for f in FLAGS}


def test_every_theme_has_its_heading() -> None:
    for theme in FLAGS_BY_THEME:
        assert f"\n### {theme[0].upper()}{theme[1:]}\n" in GUIDE


def test_every_command_is_named() -> None:
    for name, command in COMMANDS.items():
        assert f"| `{name}` |" in GUIDE, command


def test_every_exit_code_is_explained() -> None:
    for code in Exit:
        assert f"\n| {code.value} | " in GUIDE


def test_every_key_of_the_summary_is_explained() -> None:
    summary = Summary(1, "j", "m", "d", "DirectRunner", "succeeded", 0, 1.0, 0.5, 0)

    for key in json.loads(summary.to_json()):
        assert f"`{key}`" in GUIDE
