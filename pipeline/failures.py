"""What a graph failed of, found in what a runner hands over: an exception's text with a worker's traceback in it."""

from __future__ import annotations

import re

from model import errors
from model.errors import InvalidInput, RunBroken, S3ferryError

_WHERE = re.compile(r" \[while running '[^']*'\]$")
"""What Beam adds to the message of an error raised in a step."""
_NOT_INSTALLED = re.compile(
    r"\bModuleNotFoundError: No module named '((?:transforms|model|options|storage|ledger)\b[^']*)'"
)
_RAISED = re.compile(r"\b(?:model\.errors|storage\.inventory\.errors)\.(\w+): ([^\n]*)")


def is_said(text: str) -> bool:
    """Whether a traceback in `text` holds what s3ferry itself says of its failure, which trying again will not mend."""
    return _RAISED.search(text) is not None or _NOT_INSTALLED.search(text) is not None


def failure_in(error: BaseException) -> S3ferryError:
    """What a graph failed of. Runners hand over a RuntimeError whose text holds the worker's traceback."""
    if isinstance(error, S3ferryError):
        return type(error)(_WHERE.sub("", error.message)) if _WHERE.search(error.message) else error
    raised = _RAISED.findall(str(error))
    if raised:
        name, message = raised[-1]
        kind = getattr(errors, name, InvalidInput)
        line = _WHERE.sub("", message)
        return kind(line) if issubclass(kind, S3ferryError) else RunBroken(line)
    missing = _NOT_INSTALLED.search(str(error))
    if missing:
        return RunBroken(
            f"s3ferry is not installed for the workers (they have no module {missing[1]}): install it for the"
            " interpreter that runs them"
        )
    last = str(error).strip().rpartition("\n")[2]
    failure = RunBroken(f"the graph failed: {type(error).__name__}: {last}")
    failure.__cause__ = error
    return failure
