"""The one error of this room: something the user set is wrong."""

from __future__ import annotations


class UsageError(ValueError):
    """A flag is wrong (exit 2). `flag` is its name with dashes, or None where no flag is to blame.

    `text` reads «what is wrong; what to do» and never holds a value that looks like a secret.
    """

    def __init__(self, flag: str | None, text: str) -> None:
        super().__init__(flag, text)
        self.flag = flag
        self.text = text

    def __str__(self) -> str:
        return f"{self.flag}: {self.text}" if self.flag else self.text
