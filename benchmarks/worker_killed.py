"""A worker SIGKILLed with runs in flight → all of them RUNNING on another, ÷ the 12 s it may take (design.md §10).

python -m benchmarks.worker_killed [--runs 20] [--rounds 3]

Nobody tells of the death: the others notice 10 s of silence. The ops sleep, so what is measured is the noticing, the
taking back, the claims and the starts.
"""

from __future__ import annotations

import argparse
import signal
import tempfile
import time
from pathlib import Path

import psycopg

from tests.system import System, durable_system

LIMIT_SECONDS = 12.0
OP_SECONDS = 40

RUNNING_ON = """
SELECT count(*) FROM runs_run run
WHERE id = ANY(%s::uuid[]) AND state = 'RUNNING' AND current_attempt = %s
"""


def running(gyoza: System, runs: list[str], attempt: int) -> bool:
    """Say whether all these runs are RUNNING in that attempt."""
    with psycopg.connect(gyoza.env["DATABASE_URL"]) as link:
        row = link.execute(RUNNING_ON, [runs, attempt]).fetchone()
    return row is not None and row[0] == len(runs)


def seconds_to_recover(gyoza: System, count: int) -> float:
    """Kill the only worker that holds the runs while another waits; return how long until that one runs them all."""
    gyoza.start_worker("first", GYOZA_WORKER_NAME="first", GYOZA_WORKER_SLOTS=str(count))
    run = {"command": ["sleep", str(OP_SECONDS)]}
    made = gyoza.post("/runs/batch", {"runs": [run] * count})["data"]
    runs = [one["id"] for one in made]
    gyoza.wait_for(lambda: running(gyoza, runs, 1), "all runs are RUNNING on the first worker")
    gyoza.start_worker("second", GYOZA_WORKER_NAME="second", GYOZA_WORKER_SLOTS=str(count))
    gyoza.kill("first")
    killed = time.monotonic()
    gyoza.wait_for(lambda: running(gyoza, runs, 2), "all runs are RUNNING on the second worker")
    took = time.monotonic() - killed
    for one in runs:
        gyoza.post(f"/runs/{one}/cancel")
    # Its ops have outlived it. Back again, it learns that they are no longer its own, and ends them.
    gyoza.start_worker("first", GYOZA_WORKER_NAME="first")
    for name in ("first", "second"):
        gyoza.kill(name, signal.SIGTERM)
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="gyoza-bench-") as home,
        durable_system(Path(home)) as gyoza,
    ):
        gyoza.start_web()
        gyoza.start_beat()
        worst = 0.0
        for round_ in range(1, given.rounds + 1):
            took = seconds_to_recover(gyoza, given.runs)
            worst = max(worst, took)
            print(f"round {round_}: {given.runs} runs RUNNING elsewhere after {took:.1f} s")
    print(
        f"worker SIGKILLed → its runs RUNNING elsewhere, worst round ÷ {LIMIT_SECONDS:.0f} s"
        f" = {worst / LIMIT_SECONDS:.2f} (at most 1)"
    )


if __name__ == "__main__":
    main()
