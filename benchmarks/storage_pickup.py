"""A file closed by an op → its frame at who follows the execution: 2,000 small files by 8 runs at once (p50 ≤ 15 ms).

python -m benchmarks.storage_pickup [--files 2000] [--pause 0.1]

Each op writes one file after another and rests in between. A file is finished under a hidden name, and then gets the moment as its name. All on a
Postgres that waits for the disk.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import quantiles
from typing import Any

import httpx

from tests.system import System, durable_system

RUNS = 8
LIMIT_MS = 15.0
# The files are born hidden, and named by the moment in which they are complete.
OP = """
import os, sys, time
os.chdir(os.environ["GYOZA_STORAGE_DIR"])
for number in range(int(sys.argv[1])):
    with open(".gyoza-new", "w") as file:
        file.write("x" * 100)
    os.rename(".gyoza-new", f"{number}-{time.time_ns()}.txt")
    time.sleep(float(sys.argv[2]))
"""
_KEY = re.compile(r'"id": ?"([0-9a-f-]{36})".*"path": ?"(\d+)-(\d+)\.txt"')


def follow(url: str, execution: str, wanted: int, heard: list[tuple[str, float]]) -> None:
    """Note the id and the lateness in milliseconds of each event until all have come."""
    path = f"{url}/api/v1/storage/events?execution_id={execution}&replay=true&timeout=600"
    with httpx.stream("GET", path, timeout=120) as stream:
        for line in stream.iter_lines():
            if line.startswith("data:"):
                now = time.time_ns()
                found = _KEY.search(line)
                assert found is not None, line
                heard.append((found[1], (now - int(found[3])) / 1e6))
                if len(heard) == wanted:
                    return


def measure(gyoza: System, files: int, pause: float) -> list[float]:
    share = files // RUNS
    steps: list[dict[str, Any]] = [
        {
            "name": f"write{number}",
            "command": [sys.executable, "-c", OP, str(share), str(pause)],
        }
        for number in range(RUNS)
    ]
    pipeline = f"p{files}"
    gyoza.post("/api/v1/pipelines/", {"id": pipeline, "name": pipeline, "steps": steps})
    execution = str(gyoza.post(f"/api/v1/pipelines/{pipeline}/run", {})["id"])
    heard: list[tuple[str, float]] = []
    following = threading.Thread(
        target=follow, args=(gyoza.url, execution, share * RUNS, heard), daemon=True
    )
    started = time.monotonic()
    following.start()
    following.join(300)
    seconds = time.monotonic() - started
    ids = [event_id for event_id, _ in heard]
    rising = ids == sorted(set(ids))
    print(
        f"{RUNS} runs, {share * RUNS} files in {seconds:.1f} s; heard ÷ written: {len(heard) / (share * RUNS):.3f}"
        f" (exactly 1); ids {'rise' if rising else 'DO NOT RISE'}"
    )
    return [late for _, late in heard]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--pause", type=float, default=0.1, help="Seconds between two files.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gyoza-bench-") as home:
        Path(home).chmod(0o711)
        with durable_system(Path(home), GYOZA_WORKER_SLOTS="16") as gyoza:
            gyoza.start_web()
            gyoza.start_worker()
            measure(gyoza, 80, 0.01)  # warm
            print(f"load average: {os.getloadavg()[0]:.1f}")
            late = measure(gyoza, options.files, options.pause)
    points = quantiles(late, n=100)
    print(
        f"file closed → frame: p50 {points[49]:.1f} ms ÷ {LIMIT_MS:.0f} ms: {points[49] / LIMIT_MS:.2f} (at most 1),"
        f" p99 {points[98]:.1f} ms"
    )


if __name__ == "__main__":
    main()
