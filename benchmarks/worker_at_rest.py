"""Memory of a worker at rest ÷ the 150 MB it may take, before its first run and with every child warm.

python -m benchmarks.worker_at_rest [--runs 1000]

Counted as PSS over the worker and its child processes: what children share with each other counts once. Children are
kept warm for a minute after a burst; that is the most a worker holds while it does nothing.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import psutil

from tests.system import System, durable_system

LIMIT_MB = 150
# After this long nothing is under way any more: a heartbeat, a sweep, the last reports.
REST_SECONDS = 5


def proportional_mb(gyoza: System) -> tuple[float, int]:
    """Return the PSS of the worker and its children in MB, and how many processes these are."""
    worker = psutil.Process(gyoza.processes["worker"].pid)
    family = [worker, *worker.children(recursive=True)]
    return sum(one.memory_full_info().pss for one in family) / 2**20, len(family)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="gyoza-bench-") as home,
        durable_system(Path(home), GYOZA_PYTHON_OPS="tests.ops.*") as gyoza,
    ):
        gyoza.start_web()
        gyoza.start_worker()
        gyoza.start_beat()
        time.sleep(REST_SECONDS)
        found = {"before its first run": proportional_mb(gyoza)}
        runs = [{"python": "tests.ops:noop"}] * given.runs
        made = gyoza.post("/runs/batch", {"runs": runs})["data"]
        for run in made:
            gyoza.wait_for_state(run["id"], "COMPLETED")
        time.sleep(REST_SECONDS)
        found["with every child warm"] = proportional_mb(gyoza)
    for when, (size, processes) in found.items():
        print(
            f"worker at rest, {when}: {size:.0f} MB in {processes} processes ÷ {LIMIT_MB} MB"
            f" = {size / LIMIT_MB:.2f} (at most 1)"
        )


if __name__ == "__main__":
    main()
