"""The job's image at work: read-only root, process 1, real servers."""

from __future__ import annotations

import signal
import socket

import psutil
import pytest
import yaml

from local.workload import WorkObject
from tests.container.conftest import Run
from tests.container.images import REPOSITORY, Image
from tests.fixtures.compare import differences, keys_of
from tests.fixtures.s3 import S3Server
from tests.integration.conftest import MakeProxy, new_bucket
from tests.integration.ledger import Ledger, until_stop_is_known
from tests.integration.proxy import gate
from tests.integration.scenes import MIB, SPLIT, small_objects, stocked

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(1800)]

OBJECTS = 60
PASSES = 20
FLAGS = (*SPLIT, "--workers=2", "--small_unit_objects=10", "--max_in_flight=8", "--flush_interval=0.1", "--summary=-")


def flags(manifest: str, target: str, url: str) -> list[str]:
    """The flags of one run within one server."""
    places = [f"--manifest={manifest}", f"--destination=s3://{target}"]
    return [*places, f"--source_endpoint_url={url}", f"--destination_endpoint_url={url}", *FLAGS]


def test_the_container_of_these_tests_is_process_1_on_a_read_only_root(job_image: Image, start: Run) -> None:
    told = start(job_image, command=["sh", "-c", "echo $$; touch /tmp/new && touch /home/s3ferry/new"]).wait()
    assert told.stdout == "1\n"
    assert told.code != 0
    assert "'/home/s3ferry/new': Read-only file system" in told.stderr


def test_the_services_of_the_compose_file_do_their_work(
    job_image: Image, start: Run, minio: S3Server, ledger: Ledger, job_environment: dict[str, str]
) -> None:
    services = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())["services"]

    def command(name: str) -> list[str]:
        urls = ("http://source:9000", "http://destination:9000")
        return [
            word.replace(urls[0], minio.endpoint_url).replace(urls[1], minio.endpoint_url)
            for word in services[name]["command"]
        ]

    stock = start(job_image, *command("stock"), command=services["stock"]["entrypoint"], environment=job_environment)
    stocked_ = stock.wait()
    assert stocked_.code == 0, stocked_.explain()
    first = start(job_image, *command("job"), environment=job_environment).wait()
    assert first.code == 0, first.explain()
    assert "VERIFIED" in first.stdout
    assert ledger.statuses() == {"VERIFIED": len(keys_of(minio.client(), "source"))}
    assert differences((minio.client(), "source"), (minio.client(), "destination")) == []

    second = start(job_image, *command("job"), environment=job_environment).wait()
    assert second.code == 0, second.explain()
    assert "SKIPPED" in second.stdout


def test_a_user_that_the_image_does_not_know_may_run_it(
    job_image: Image, start: Run, minio: S3Server, ledger: Ledger, job_environment: dict[str, str]
) -> None:
    scene, target = stocked(minio, new_bucket(minio), small_objects(3)), new_bucket(minio)
    run = flags(scene.inventory(), target, minio.endpoint_url)
    done = start(job_image, "run", *run, user="123456:0", environment=job_environment).wait()
    assert done.code == 0, done.explain()
    assert ledger.statuses() == {"VERIFIED": 3}


def test_sigterm_ends_a_run_in_its_middle_and_the_next_one_finishes(
    job_image: Image,
    start: Run,
    minio: S3Server,
    proxied: MakeProxy,
    ledger: Ledger,
    job_environment: dict[str, str],
) -> None:
    proxy, target = proxied(minio), new_bucket(minio)
    scene = stocked(minio, new_bucket(minio), [*small_objects(OBJECTS), WorkObject("large", 12 * MIB)])
    run = flags(scene.inventory(), target, proxy.server.endpoint_url)
    proxy.rule, opened = gate(lambda request: request.bucket == target and request.method == "PUT", PASSES)

    first = start(job_image, "run", *run, environment=job_environment)
    first.until(lambda: ledger.count() >= PASSES // 2, "some objects are recorded")
    assert [other for other in first.others if other.status() == psutil.STATUS_ZOMBIE] == []
    first.signal(signal.SIGTERM)
    until_stop_is_known(first, ledger)  # type: ignore[arg-type]
    opened.set()
    stopped = first.wait()
    assert stopped.code == 5, stopped.explain()
    assert stopped.summary["outcome"] == "interrupted" == ledger.run()["outcome"]
    recorded = ledger.count()
    assert 0 < recorded < OBJECTS

    proxy.forget()
    second = start(job_image, "run", *run, environment=job_environment).wait()
    assert second.code == 0, second.explain()
    assert second.statuses == {"VERIFIED": OBJECTS + 1 - recorded, "SKIPPED": recorded}
    assert differences((minio.client(), scene.bucket), (minio.client(), target)) == []


def test_a_second_sigterm_ends_it_at_once(
    job_image: Image,
    start: Run,
    minio: S3Server,
    proxied: MakeProxy,
    ledger: Ledger,
    job_environment: dict[str, str],
) -> None:
    proxy, target = proxied(minio), new_bucket(minio)
    scene = stocked(minio, new_bucket(minio), small_objects(OBJECTS))
    proxy.rule, opened = gate(lambda request: request.bucket == target and request.method == "PUT", PASSES)
    run = flags(scene.inventory(), target, proxy.server.endpoint_url)
    container = start(job_image, "run", *run, environment=job_environment)
    container.until(lambda: ledger.count() >= PASSES // 2, "some objects are recorded")
    container.signal(signal.SIGTERM)
    container.until(lambda: "SIGTERM: finishing" in container.stderr, "it knows of the first")
    container.signal(signal.SIGTERM)
    try:
        assert container.wait().code == 128 + signal.SIGTERM
    finally:
        opened.set()


def test_sigterm_before_the_run_has_begun_ends_it(
    job_image: Image, start: Run, job_environment: dict[str, str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        run = flags("s3://inventory/daily/latest", "archive", url)
        container = start(job_image, "run", *run, environment=job_environment)
        silent.settimeout(60)
        connection, _ = silent.accept()
        with connection:
            container.signal(signal.SIGTERM)
            ended = container.wait()
    assert ended.code == 5, ended.explain()
    assert "interrupted; run again" in ended.stderr
