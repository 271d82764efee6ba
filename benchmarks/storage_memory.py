"""What the web process adds to its memory for an object of 1 GiB on its way up and down, beside 64 MB.

python -m benchmarks.storage_memory [--mib 1024]
"""

from __future__ import annotations

import argparse
import hashlib
import os
import tempfile
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.storage_writes import open_executions
from benchmarks.web_memory import Sampler
from tests.system import durable_system

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.system import System

LIMIT_MB = 64
PIECE = os.urandom(2**20)


def up(gyoza: System, path: str, mib: int) -> str:
    """Send the object and return its sum, as the service tells it."""

    def pieces() -> Iterator[bytes]:
        for _ in range(mib):
            yield PIECE

    http = HTTPConnection("127.0.0.1", gyoza.port)
    http.request("PUT", path, pieces(), {"Content-Length": str(mib * 2**20)})
    answer = http.getresponse()
    body = answer.read()
    assert answer.status in {200, 201}, body
    return body.decode()


def down(gyoza: System, path: str) -> str:
    """Take the object and return its sum."""
    http = HTTPConnection("127.0.0.1", gyoza.port)
    http.request("GET", path)
    answer = http.getresponse()
    assert answer.status == 200
    found = hashlib.sha256()
    while piece := answer.read(2**20):
        found.update(piece)
    return found.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=1024)
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="gyoza-bench-") as home,
        durable_system(Path(home)) as gyoza,
    ):
        gyoza.start_web()
        (execution,) = open_executions(gyoza, 1)
        path = f"/api/v1/storage/objects/{execution}/s/big.bin"
        up(gyoza, path, 1)
        down(gyoza, path)
        with Sampler(gyoza, 0.01) as sampler:
            time.sleep(0.5)
        before = max(sampler.megabytes)
        told = _measured(gyoza, before, given.mib, "up", lambda: up(gyoza, path, given.mib))
        found = _measured(gyoza, before, given.mib, "down", lambda: down(gyoza, path))
        assert found in told, "what came down is not what went up"


def _measured(gyoza: System, before: float, mib: int, name: str, way: Callable[[], str]) -> str:
    started = time.perf_counter()
    with Sampler(gyoza, 0.01) as sampler:
        said = way()
    took = time.perf_counter() - started
    more = max(sampler.megabytes) - before
    print(
        f"{mib} MiB {name} in {took:.1f} s ({mib / took:.0f} MiB/s): {before:.0f} MB and {more:.1f} MB more"
        f" ÷ {LIMIT_MB} MB = {more / LIMIT_MB:.2f} (at most 1; load {os.getloadavg()[0]:.1f})"
    )
    return said


if __name__ == "__main__":
    main()
