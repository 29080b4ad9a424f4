"""Commands that end in every way a command can; `test_main` puts them into the table."""

from collections.abc import Sequence

from model.errors import InvalidInput, LeaseHeld, LeaseLost, RunBroken, SourceGone

ERRORS: dict[str, BaseException] = {
    "input": InvalidInput("manifest.json, file 2: MD5 differs; make the inventory again"),
    "broken": RunBroken("bucket dst does not exist\nat all; make it"),
    "lost": LeaseLost("the lease was taken over"),
    "held": LeaseHeld("run r1 holds job nightly"),
    "transfer": SourceGone("k is gone"),
    "interrupt": KeyboardInterrupt(),
    "surprise": KeyError("no such thing"),
    "leak": ValueError("cannot connect to postgresql://ferry:hunter22@db/ledger as AKIAIOSFODNN7EXAMPLE"),
    "escape": RunBroken("key \x1b[31mred; rename it"),
}


def usage() -> str:
    return "usage of fail\n"


def parse(argv: Sequence[str]) -> str:
    return argv[0]


def execute(how: str) -> int:
    if how.isdigit():
        return int(how)
    raise ERRORS[how]
