import pytest

from model.version import VERSION
from pipeline.cli import COMMANDS, Command
from pipeline.main import main

FAIL = Command(
    "ends as it is told", "tests.cli.failing:usage", "tests.cli.failing:parse", execute="tests.cli.failing:execute"
)


@pytest.fixture(autouse=True)
def fail_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COMMANDS, "fail", FAIL)


@pytest.mark.parametrize(
    ("how", "code", "line"),
    [
        ("input", 2, "s3ferry: manifest.json, file 2: MD5 differs; make the inventory again"),
        ("broken", 3, "s3ferry: bucket dst does not exist at all; make it"),
        ("lost", 3, "s3ferry: the lease was taken over"),
        ("held", 4, "s3ferry: run r1 holds job nightly"),
        ("transfer", 3, "s3ferry: k is gone"),
        ("interrupt", 5, "s3ferry: interrupted; run again to finish the rest"),
        ("surprise", 3, "s3ferry: unexpected KeyError: 'no such thing'; --log_level=DEBUG shows where"),
        ("escape", 3, "s3ferry: key \\x1b[31mred; rename it"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    how: str, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fail", how]) == code
    assert capsys.readouterr().err == line + "\n"


@pytest.mark.parametrize("code", [0, 1, 5])
def test_the_code_of_a_command_is_the_code_of_the_process(code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fail", str(code)]) == code
    assert capsys.readouterr().err == ""


def test_an_unexpected_error_shows_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    main(["fail", "leak", "--log_level=DEBUG"])

    text = capsys.readouterr().err
    assert "hunter22" not in text
    assert "AKIAIOSFODNN7EXAMPLE" not in text


def test_debug_shows_where_an_error_came_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fail", "surprise", "--log_level=DEBUG"]) == 3
    assert "Traceback" in capsys.readouterr().err


def test_a_wrong_flag_is_one_line_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--part_size=1MiB"]) == 2

    captured = capsys.readouterr()
    assert captured.err == "s3ferry: --part_size: '1MiB' is outside 5MiB to 5GiB; give a size in that range\n"
    assert captured.out == ""


def test_an_unknown_command_is_refused_with_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runn"]) == 2
    assert capsys.readouterr().err.startswith("s3ferry: 'runn' is no command; did you mean run? the commands are run")


def test_no_command_points_to_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "see s3ferry --help" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--help", "-h", "help"])
def test_the_help_lists_every_command(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([flag]) == 0

    text = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert name in text
        assert command.help in text


@pytest.mark.parametrize("argv", [["fail", "--help"], ["fail", "-h"], ["fail", "help"], ["fail", "x", "--help"]])
def test_a_command_shows_its_help_and_does_nothing(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 0
    assert capsys.readouterr().out == "usage of fail\n"


def test_the_version_is_the_package_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"s3ferry {VERSION}\n"
