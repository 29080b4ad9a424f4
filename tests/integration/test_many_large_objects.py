"""Many large objects at once: opened, copied and completed side by side, by all workers."""

from __future__ import annotations

import threading
from collections.abc import Callable

from local.workload import WorkObject
from tests.fixtures.compare import differences
from tests.fixtures.s3 import S3Server
from tests.integration.conftest import MakeFerry, MakeProxy, new_bucket
from tests.integration.ledger import Ledger
from tests.integration.proxy import Effect, Request, gate
from tests.integration.scenes import MIB, SPLIT, stocked

OBJECTS = 200
TOGETHER = 8


class Gathered:
    """Holds each request that matches until `together` of them wait: one by one they would wait for ever.

    With `by`, requests that it calls the same count once.
    """

    def __init__(
        self,
        matches: Callable[[Request], bool],
        together: int = TOGETHER,
        by: Callable[[Request], object] = lambda request: object(),
    ) -> None:
        self._matches = matches
        self._together = together
        self._by = by
        self._waiting: set[object] = set()
        self.met = threading.Event()

    def effect(self, request: Request) -> Effect | None:
        if request.is_probe or not self._matches(request):
            return None
        self._waiting.add(self._by(request))
        if len(self._waiting) >= self._together:
            self.met.set()
        return Effect(hold=self.met)


def test_opens_and_completes_run_side_by_side(
    minio: S3Server, proxied: MakeProxy, ferry: MakeFerry, ledger: Ledger
) -> None:
    proxy, target = proxied(minio), new_bucket(minio)
    objects = [WorkObject(f"large/{number:03}", MIB + 1) for number in range(OBJECTS)]
    scene = stocked(minio, new_bucket(minio), objects)
    opens, completes = Gathered(lambda request: request.is_create), Gathered(lambda request: request.is_complete)
    proxy.rule = lambda request: opens.effect(request) or completes.effect(request)

    ran = ferry(proxy.server, proxy.server, ledger, "--medium_up_to=1MiB", "--workers=2").run(
        scene.inventory(), f"s3://{target}"
    )

    assert ran.statuses == {"VERIFIED": OBJECTS}, ran.explain()
    assert ran.classes["large"] == {"VERIFIED": OBJECTS}
    assert (opens.met.is_set(), completes.met.is_set()) == (True, True)
    assert proxy.uploads(target).total() == len(proxy.parts(target)) == OBJECTS
    assert differences((minio.client(), scene.bucket), (minio.client(), target)) == []


def test_two_that_open_one_object_at_once_end_with_one_upload(
    minio: S3Server, proxied: MakeProxy, ferry: MakeFerry, ledger: Ledger
) -> None:
    proxy, target = proxied(minio), new_bucket(minio)
    scene = stocked(minio, new_bucket(minio), [WorkObject("large", 12 * MIB)])
    opens = Gathered(lambda request: request.is_create, together=2)
    proxy.rule = opens.effect

    ran = ferry(proxy.server, proxy.server, ledger, *SPLIT, "--workers=2").run(
        scene.inventory(scene.rows * 2), f"s3://{target}"
    )

    assert ran.statuses == {"VERIFIED": 1, "DUPLICATE": 1}, ran.explain()
    assert proxy.uploads(target) == {"large": 2}
    assert [request.method for request in proxy.asked(target)].count("DELETE") == 1
    assert proxy.parts(target) == {("large", number): 1 for number in (1, 2, 3)}
    assert minio.client().list_multipart_uploads(Bucket=target, Prefix="large").get("Uploads", []) == []
    assert differences((minio.client(), scene.bucket), (minio.client(), target)) == []


def test_progress_counts_the_parts_of_an_object_that_is_not_finished(
    minio: S3Server, proxied: MakeProxy, ferry: MakeFerry, ledger: Ledger
) -> None:
    proxy, target = proxied(minio), new_bucket(minio)
    scene = stocked(minio, new_bucket(minio), [WorkObject("large", 40 * MIB)])
    # eight parts, all of one size: whichever six pass the gate
    proxy.rule, opened = gate(lambda request: request.bucket == target and request.is_part, 6)
    user = ferry(proxy.server, proxy.server, ledger, *SPLIT, "--workers=2", "--lease_ttl=3")
    counted = "SELECT coalesce(sum((counters->>'large.bytes')::int), 0) AS bytes FROM workers"

    run = user.start(scene.inventory(), f"s3://{target}")
    run.until(lambda: ledger.is_made() and ledger.value(counted) == 30 * MIB, "six parts are counted")
    opened.set()

    assert run.wait().statuses == {"VERIFIED": 1}
    # no part is counted again with its object; what came after a worker's last heartbeat is not counted here
    assert ledger.value(counted) <= 40 * MIB


def test_parts_of_one_object_are_sent_by_two_workers_at_once(
    minio: S3Server, proxied: MakeProxy, ferry: MakeFerry, ledger: Ledger
) -> None:
    proxy, target = proxied(minio), new_bucket(minio)
    scene = stocked(minio, new_bucket(minio), [WorkObject("large", 40 * MIB)])
    # a worker has one part under way: the second comes from another
    parts = Gathered(
        lambda request: request.is_part and request.bucket == target,
        together=2,
        by=lambda request: request.query["partNumber"],
    )
    proxy.rule = parts.effect

    ran = ferry(proxy.server, proxy.server, ledger, *SPLIT, "--workers=2", "--parts_in_flight=1").run(
        scene.inventory(), f"s3://{target}"
    )

    assert ran.statuses == {"VERIFIED": 1}, ran.explain()
    assert parts.met.is_set()
    assert proxy.parts(target) == {("large", number): 1 for number in range(1, 9)}


def test_parts_of_several_objects_are_sent_side_by_side(
    minio: S3Server, proxied: MakeProxy, ferry: MakeFerry, ledger: Ledger
) -> None:
    proxy, target = proxied(minio), new_bucket(minio)
    objects = [WorkObject(f"large/{number}", 22 * MIB) for number in range(3)]
    scene = stocked(minio, new_bucket(minio), objects)
    parts = Gathered(
        lambda request: request.is_part and request.bucket == target, together=3, by=lambda request: request.key
    )
    proxy.rule = parts.effect

    ran = ferry(proxy.server, proxy.server, ledger, *SPLIT, "--workers=2").run(scene.inventory(), f"s3://{target}")

    assert ran.statuses == {"VERIFIED": 3}, ran.explain()
    assert parts.met.is_set()
    assert len(proxy.parts(target)) == 15
