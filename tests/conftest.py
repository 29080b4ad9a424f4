"""Fixtures every test may use: real S3 servers and a real PostgreSQL, see tests/fixtures."""

import signal

pytest_plugins = ["tests.fixtures.s3", "tests.fixtures.postgres", "tests.fixtures.full_disk"]


def pytest_configure() -> None:
    # a script's background job ignores SIGINT, and so would every command the tests start from it
    signal.signal(signal.SIGINT, signal.default_int_handler)
