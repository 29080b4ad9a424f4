"""An error in the body of a 200: Complete, CopyObject and UploadPartCopy may answer so (API reference of each)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from local.workload import WorkObject
from tests.fixtures.compare import differences, keys_of
from tests.fixtures.s3 import S3Server
from tests.integration.conftest import MakeFerry, MakeProxy, new_bucket
from tests.integration.ferry import Ferry, Finished
from tests.integration.ledger import Ledger
from tests.integration.proxy import Effect, Proxy, Request, Rule
from tests.integration.scenes import MIB, SPLIT, Scene, stocked
from tests.integration.test_part_layout import uploaded_by_parts

ERROR = Effect(refuse=(200, "InternalError"))
LARGE = [8 * MIB, 4 * MIB + 7]
"""Parts of the object, uploaded without checksums, so that the server copies it by parts too."""


def is_put(request: Request) -> bool:
    return request.method == "PUT"


CASES = {
    "complete": (lambda request: request.is_complete, LARGE, "--copy_mode=stream"),
    "copy-object": (is_put, [100], "--copy_mode=server"),
    "upload-part-copy": (lambda request: request.is_part, LARGE, "--copy_mode=server"),
}


def answered_by_errors(matches: Callable[[Request], bool], target: str, times: int) -> Rule:
    """A rule that answers the first `times` matching requests to the target by an error under a 200."""
    left = iter(range(times))

    def rule(request: Request) -> Effect | None:
        ours = request.bucket == target and not request.is_probe and matches(request)
        return ERROR if ours and next(left, None) is not None else None

    return rule


class Copy:
    """One object that is copied through a proxy."""

    def __init__(self, server: S3Server, proxy: Proxy, user: Ferry, case: str) -> None:
        self.matches, parts, self.mode = CASES[case]
        self.server, self.proxy, self.user = server, proxy, user
        bucket, self.target = new_bucket(server), new_bucket(server)
        if len(parts) == 1:
            self.scene = stocked(server, bucket, [WorkObject("object", *parts)])
        else:
            server.client().create_bucket(Bucket=f"{bucket}-inventory")
            self.scene = Scene(server, bucket, [uploaded_by_parts(server, bucket, "object", parts)])

    def with_errors(self, times: int) -> Finished:
        self.proxy.rule = answered_by_errors(self.matches, self.target, times)
        return self.user.run(self.scene.inventory(), f"s3://{self.target}", self.mode)


@pytest.fixture(params=list(CASES))
def copy(request: pytest.FixtureRequest, minio: S3Server, proxied: MakeProxy, ferry: MakeFerry, ledger: Ledger) -> Copy:
    proxy = proxied(minio)
    return Copy(minio, proxy, ferry(proxy.server, proxy.server, ledger, *SPLIT), request.param)


def test_it_is_an_error_and_the_request_is_repeated(copy: Copy) -> None:
    ran = copy.with_errors(times=1)

    assert ran.statuses == {"VERIFIED": 1}, ran.explain()
    client = copy.server.client()
    assert differences((client, copy.scene.bucket), (client, copy.target)) == []


def test_an_object_is_never_verified_by_it(copy: Copy, ledger: Ledger) -> None:
    ran = copy.with_errors(times=1_000)

    assert (ran.code, ran.statuses) == (1, {"FAILED": 1}), ran.explain()
    assert keys_of(copy.server.client(), copy.target) == []
    assert "InternalError" in ledger.objects()["object"]["error"]
