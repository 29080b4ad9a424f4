"""Fixtures every test may use: real S3 servers and a real PostgreSQL, see tests/fixtures."""

pytest_plugins = ["tests.fixtures.s3", "tests.fixtures.postgres", "tests.fixtures.full_disk"]
