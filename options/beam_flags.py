"""Flags of Beam itself: which are passed through, which would mislead here.

`unknown_to_beam` loads Beam (one to two seconds), so it is called only for flags that are not ours.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from options.errors import UsageError
from options.redaction import looks_secret, shown

_CREDENTIALS = (
    "credentials never travel as flags; set SOURCE_AWS_* or DESTINATION_AWS_* variables, or --source_profile and "
    "--destination_profile"
)
_REGIONS = "it names a Google Cloud region; use --source_region or --destination_region"

MISLEADING = {
    "--s3_access_key_id": _CREDENTIALS,
    "--s3_secret_access_key": _CREDENTIALS,
    "--s3_session_token": _CREDENTIALS,
    "--azure_connection_string": "credentials never travel as flags, and nothing here reads Azure; leave it out",
    "--s3_endpoint_url": "only Beam's own S3 client reads it; use --source_endpoint_url or --destination_endpoint_url",
    "--s3_region_name": "only Beam's own S3 client reads it; use --source_region or --destination_region",
    "--s3_verify": "only Beam's own S3 client reads it; use --source_ca_bundle or --destination_ca_bundle",
    "--s3_disable_ssl": "only Beam's own S3 client reads it; give an http:// endpoint URL instead",
    "--s3_api_version": "only Beam's own S3 client reads it; leave it out",
    "--region": _REGIONS,
    "--worker_region": _REGIONS,
    "--zone": _REGIONS,
    "--num_workers": "only Dataflow reads it; use --workers",
    "--dry_run": "it would not keep this command from copying; leave it out",
}
"""Beam knows these, but here they would do nothing or the wrong thing, so they are refused. Flag to remedy."""


SHORTEST_GUESS = len("--job")


def check_beam_args(args: Sequence[str], own: Iterable[str]) -> tuple[str, ...]:
    """`args` as they are, if Beam's Python side knows every one of them; `own` are our flags, for the suggestions.

    Raises UsageError for the first that is unknown, misleading or carries a secret. Loads Beam unless `args` is empty.
    """
    if not args:
        return ()
    flag = None
    for arg in args:
        name, _, value = arg.partition("=")
        flag = name if name.startswith("-") else flag
        if name in MISLEADING:
            raise UsageError(name, MISLEADING[name])
        if looks_secret(arg) or looks_secret(value):
            raise UsageError(
                flag and _safe(flag), "the value looks like a secret, and runners print their flags; take it out"
            )
    from options.beam_options import beam_flag_names, unknown_to_beam  # noqa: PLC0415 (loads Beam)

    unknown = unknown_to_beam(args)
    if unknown:
        raise _unknown(unknown[0], [*own, *beam_flag_names()])
    return tuple(args)


def _unknown(arg: str, known: Sequence[str]) -> UsageError:
    flag = arg.partition("=")[0]
    if not flag.strip("-") or not flag.startswith("-"):
        return UsageError(None, f"{shown(arg)} stands alone; write every flag as --name=value")
    spelled = "--" + flag.lstrip("-").replace("-", "_")
    longer = [name for name in known if name.startswith(spelled)]
    close = [spelled] if spelled in known else difflib.get_close_matches(spelled, known, n=1) or sorted(longer)[:1]
    if close and len(spelled) >= SHORTEST_GUESS:
        return UsageError(_safe(flag), f"the flag is unknown; did you mean {close[0]}?")
    return UsageError(
        _safe(flag),
        "the flag is unknown; see s3ferry run --help, and give Java runner options as --runner_option=name=value",
    )


def _safe(flag: str) -> str:
    return shown(flag).strip("'") if not looks_secret(flag) else "--..."
