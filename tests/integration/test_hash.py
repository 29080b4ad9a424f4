"""The digests a user chooses, from the flag to the ledger."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import Any

import pytest
from awscrt import checksums

from local.workload import WorkObject, content
from tests.fixtures.compare import differences
from tests.fixtures.s3 import S3Server
from tests.integration.conftest import MakeFerry, MakeProxy, new_bucket
from tests.integration.ledger import Ledger
from tests.integration.proxy import gate
from tests.integration.scenes import MIB, SPLIT, Scene, small_objects, stocked

NAMES = ("md5", "sha256", "crc32c", "crc64nvme")
OBJECTS = (*small_objects(4), WorkObject("medium", 3 * MIB), WorkObject("large", 12 * MIB + 7))
ALWAYS = {"crc64nvme"}
"""The servers here refuse a wrong trailing CRC64NVME, so it is evidence of every body that is not signed."""


def digest_of(name: str, body: bytes) -> str:
    if name in ("md5", "sha256"):
        return hashlib.new(name, body, usedforsecurity=False).hexdigest()
    width = 4 if name == "crc32c" else 8
    return base64.b64encode(getattr(checksums, name)(body).to_bytes(width, "big")).decode()


def digests_of(names: set[str], body: bytes) -> dict[str, str]:
    return {name: digest_of(name, body) for name in names}


def kept(row: dict[str, Any]) -> dict[str, str]:
    return {name: row[name] for name in NAMES if row[name] is not None}


@dataclass(frozen=True)
class Choice:
    """A list of digests, and what the ledger then holds of small, medium and large objects."""

    flag: str
    small: set[str]
    medium: set[str]
    large: set[str]
    evidence: str


CHOICES = (
    Choice("sha256", {"sha256"}, {"sha256"} | ALWAYS, ALWAYS, "signed_body"),
    Choice("crc64nvme", ALWAYS, ALWAYS, ALWAYS, "trailing_crc64nvme"),
    Choice(
        "md5,crc32c", {"md5", "crc32c"} | ALWAYS, {"md5", "crc32c"} | ALWAYS, {"crc32c"} | ALWAYS, "trailing_crc64nvme"
    ),
)


@pytest.mark.parametrize("name", ["minio", "moto"])
@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: choice.flag)
def test_the_ledger_keeps_the_digests_named_and_the_bytes_arrive(
    request: pytest.FixtureRequest, name: str, choice: Choice, ferry: MakeFerry, ledger: Ledger
) -> None:
    server: S3Server = request.getfixturevalue(name)
    scene = stocked(server, new_bucket(server), OBJECTS)
    target = new_bucket(server)
    user = ferry(server, server, ledger, *SPLIT, "--workers=1", "--source_etag=opaque", f"--hash={choice.flag}")
    run = user.run(scene.inventory(), f"s3://{target}")
    assert run.code == 0, run.explain()
    assert run.statuses == {"VERIFIED": len(OBJECTS)}
    assert differences((server.client(), scene.bucket), (server.client(), target)) == []
    names = {"small": choice.small, "medium": choice.medium, "large": choice.large}
    evidence = {"small": choice.evidence, "medium": "trailing_crc64nvme", "large": "full_object_crc64nvme"}
    for table in ("objects", "attempts"):
        for row in ledger.rows(f"SELECT * FROM {table}"):  # noqa: S608
            body = b"".join(content(row["destination_key"], row["size"]))
            assert kept(row) == digests_of(names[row["size_class"]], body), row
            assert row["destination_evidence"] == evidence[row["size_class"]], row
    body = b"".join(content("large", 12 * MIB + 7))
    of_parts = set(choice.flag.split(",")) | ALWAYS
    parts = ledger.rows("SELECT * FROM parts ORDER BY part_number")
    assert [kept(part) for part in parts] == [
        digests_of(of_parts, body[at : at + 5 * MIB]) for at in range(0, len(body), 5 * MIB)
    ]


def test_a_part_an_earlier_run_uploaded_without_a_digest_named_now_is_copied_again(
    minio: S3Server, proxied: MakeProxy, ferry: MakeFerry, ledger: Ledger
) -> None:
    scene: Scene = stocked(minio, new_bucket(minio), [WorkObject("large", 38 * MIB)])
    target, proxy = new_bucket(minio), proxied(minio)
    user = ferry(proxy.server, proxy.server, ledger, *SPLIT, "--workers=1", "--flush_interval=0.1")
    proxy.rule, opened = gate(lambda request: request.bucket == target and request.is_part, 6)
    first = user.start(scene.inventory(), f"s3://{target}")
    first.until(lambda: len(ledger.recorded_parts().get("large", ())) >= 3, "three parts are recorded")
    first.kill_group()

    proxy.forget()
    opened.set()
    second = user.run(scene.inventory(), f"s3://{target}", "--hash=crc32c")
    assert second.code == 0, second.explain()
    assert not proxy.uploads(target)
    assert proxy.parts(target) == {("large", number): 1 for number in range(1, 9)}
    body = b"".join(content("large", 38 * MIB))
    assert ledger.objects()["large"]["crc32c"] == digest_of("crc32c", body)
    assert ledger.value("SELECT count(*) FROM parts WHERE crc32c IS NULL") == 0
