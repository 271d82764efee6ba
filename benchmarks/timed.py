"""A whole system, started, whose Postgres remembers when each transaction was committed: for latencies told leg by leg."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.system import durable_system

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system import System


@contextmanager
def timed_system() -> Iterator[System]:
    """Start web, worker and beat on a Postgres that waits for the disk; end them afterwards."""
    with (
        tempfile.TemporaryDirectory(prefix="gyoza-bench-") as home,
        durable_system(
            Path(home), "-c", "track_commit_timestamp=on", GYOZA_PYTHON_OPS="tests.ops.*"
        ) as gyoza,
    ):
        gyoza.start_web()
        gyoza.start_worker()
        gyoza.start_beat()
        yield gyoza
