"""`python -m bench.hashing`: CPU seconds per GiB of each digest, by itself, on one core. Prints JSON."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

GIB = 1 << 30
_PIECE = 256 * 1024
_BYTES = 512 << 20
_TIMES = 3


def hashing_s_per_gib() -> dict[str, float]:
    """Digest name -> median CPU seconds per GiB, in pieces of 256 KiB."""
    from awscrt import checksums  # noqa: PLC0415 - heavy

    def hashed(name: str) -> Callable[[bytes], Any]:
        running = hashlib.new(name, usedforsecurity=False)
        return running.update

    updates: dict[str, Callable[[bytes], Any]] = {
        "md5": hashed("md5"),
        "sha256": hashed("sha256"),
        "crc64nvme": checksums.crc64nvme,
        "crc32c": checksums.crc32c,
    }
    piece = os.urandom(_PIECE)
    return {name: median(_seconds(update, piece) for _ in range(_TIMES)) for name, update in updates.items()}


def _seconds(update: Callable[[bytes], Any], piece: bytes) -> float:
    began = time.process_time()
    for _ in range(_BYTES // _PIECE):
        update(piece)
    return (time.process_time() - began) * GIB / _BYTES


if __name__ == "__main__":
    json.dump(hashing_s_per_gib(), sys.stdout)
    print()
