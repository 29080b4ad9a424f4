"""Flags as data: one declaration gives the parser, the help text, the Beam option and the row in the docs."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from options.errors import UsageError
from options.sizes import format_size


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag. `read` turns its text into a value (None: a switch without a value).

    `help` names the unit. `shown_default` is the default as the help prints it.
    """

    name: str
    help: str
    read: Callable[[str], Any] | None
    default: Any = None
    shown_default: str = "none"
    metavar: str = "VALUE"
    repeatable: bool = False

    @property
    def option(self) -> str:
        return f"--{self.name}"


def size_flag(name: str, default: int, text: str, read: Callable[[str], int], shown: str | None = None) -> Flag:
    """A flag in bytes that takes human sizes too."""
    return Flag(name, text, read, default, shown or format_size(default), "SIZE")


def number_flag(name: str, default: float, text: str, read: Callable[[str], float], shown: str | None = None) -> Flag:
    """A flag that takes a number; `text` says of what."""
    return Flag(name, text, read, default, shown or f"{default:g}", "N")


def seconds_flag(name: str, default: float, text: str, read: Callable[[str], float]) -> Flag:
    """A flag in seconds."""
    return Flag(name, text, read, default, f"{default:g}", "SECONDS")


def choice_flag(name: str, default: str, text: str, read: Callable[[str], str], words: Sequence[str]) -> Flag:
    """A flag that takes one of `words`."""
    return Flag(name, text, read, default, default, "|".join(words))


def switch(name: str, text: str) -> Flag:
    """A flag without a value: off unless it is given."""
    return Flag(name, text, None, False, "off", "")


class FlagParser(argparse.ArgumentParser):
    """An argument parser that raises UsageError instead of printing and leaving the process."""

    def __init__(self, prog: str, description: str = "") -> None:
        super().__init__(
            prog=prog,
            description=description,
            usage=f"{prog} [--flag=value ...]",
            add_help=False,
            allow_abbrev=False,
            exit_on_error=False,
        )

    def read_known(self, argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
        """The values of the flags known here, and every argument that is not one of them, in order.

        Raises UsageError for a value that its flag does not take.
        """
        try:
            return self.parse_known_args(list(argv))
        except argparse.ArgumentError as error:
            raise UsageError(*_what_is_wrong(error)) from None

    def error(self, message: str) -> Any:
        raise UsageError(None, message)


def _what_is_wrong(error: argparse.ArgumentError) -> tuple[str | None, str]:
    # argparse's own wording repeats the value, which could be a secret.
    flag = error.argument_name.split("/")[0] if error.argument_name else None
    if error.message.startswith("expected "):
        return flag, f"a value is missing; write {flag}=VALUE"
    if error.message.startswith("ignored explicit argument"):
        return flag, f"it takes no value; write {flag} alone"
    choices = error.message.partition("(choose from ")[2].rstrip(")")
    if choices:
        return flag, f"the value is not known; give one of {choices}"
    if error.message.startswith("invalid "):
        kind = "whole number" if "int value" in error.message else "value of its kind"
        return flag, f"the value is no {kind}; see Beam's documentation"
    return flag, error.message


def _argparse_type(read: Callable[[str], Any]) -> Callable[[str], Any]:
    # argparse replaces the text of a ValueError by its own, but keeps that of an ArgumentTypeError.
    def convert(text: str) -> Any:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def add_flags(parser: argparse.ArgumentParser, title: str, flags: Sequence[Flag]) -> None:
    """Declares `flags` on any argparse parser, Beam's included, under one heading of its help."""
    group = parser.add_argument_group(title)
    for flag in flags:
        text = f"{flag.help} (default: {flag.shown_default})".replace("%", "%%")
        if flag.read is None:
            group.add_argument(flag.option, action="store_true", help=text)
            continue
        group.add_argument(
            flag.option,
            action="append" if flag.repeatable else "store",
            type=_argparse_type(flag.read),
            default=flag.default,
            metavar=flag.metavar,
            help=text,
        )
