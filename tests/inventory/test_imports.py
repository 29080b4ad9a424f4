"""Importing the readers is cheap."""

from __future__ import annotations

import subprocess
import sys


def test_reading_csv_loads_neither_pyarrow_nor_boto3() -> None:
    program = (
        "import sys, storage.inventory.rows, storage.inventory.spool, local.inventory; "
        "print([name for name in ('pyarrow', 'boto3', 'botocore', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
