"""POST /runs → RUNNING on an idle system ÷ the 15 ms it may take, leg by leg (design.md §10).

python -m benchmarks.run_latency [--runs 200] [--pause 0.05]

A run is RUNNING when the transaction that says so has committed: before that nobody can see it. So the end of each leg
is a commit time, which Postgres is told to keep (it waits for the disk, as in production); the beginning is the
moment before the client sends its request. All clocks are this machine's.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from http.client import HTTPConnection
from statistics import quantiles
from typing import TYPE_CHECKING

import psycopg

from benchmarks.timed import timed_system

if TYPE_CHECKING:
    from tests.system import System

LIMIT_MS = 15.0
BODY = json.dumps({"python": "tests.ops:noop", "event_delivery": {"topic": "latency"}})

# When a run's row was made, and when the transactions committed that told of ASSIGNED and STARTED; created_at, assigned_at
# and started_at are when those transactions began.
LEGS = """
SELECT run.id::text, extract(epoch FROM run.created_at)::float8,
       extract(epoch FROM run.assigned_at)::float8, extract(epoch FROM pg_xact_commit_timestamp(assigned.xmin))::float8,
       extract(epoch FROM run.started_at)::float8, extract(epoch FROM pg_xact_commit_timestamp(started.xmin))::float8
FROM runs_run run
JOIN runs_runevent assigned ON assigned.run_id = run.id AND assigned.type = 'ASSIGNED'
JOIN runs_runevent started ON started.run_id = run.id AND started.type = 'STARTED'
WHERE run.id = ANY(%s::uuid[])
"""


def submit(gyoza: System, runs: int, pause: float) -> dict[str, tuple[float, float]]:
    """Create runs one after another, each once the last has ended; return when each was sent and answered."""
    times: dict[str, tuple[float, float]] = {}
    # The plainest client there is: what httpx costs would be counted as the server's.
    http = HTTPConnection("127.0.0.1", gyoza.port)
    for _ in range(runs):
        sent = time.time()
        http.request("POST", "/runs", BODY, {"Content-Type": "application/json"})
        answer = json.loads(http.getresponse().read())
        times[answer["id"]] = (sent, time.time())
        # Idle: nothing is left of the last one. At random, or the system's own rhythm would be met or missed.
        time.sleep(random.uniform(pause, 2 * pause))
    for run_id in times:
        gyoza.wait_for_state(run_id, "COMPLETED")
    return times


def legs(gyoza: System, times: dict[str, tuple[float, float]]) -> dict[str, list[float]]:
    """Return the milliseconds of each leg, one value per run."""
    with psycopg.connect(gyoza.env["DATABASE_URL"]) as link:
        rows = link.execute(LEGS, [list(times)]).fetchall()
    found: dict[str, list[float]] = {}
    for run_id, created, assigning, assigned, starting, started in rows:
        sent, answered = times[run_id]
        for name, begin, end in (
            ("POST: sent → row made", sent, created),
            ("row made → turn that claims", created, assigning),
            ("that turn → ASSIGNED", assigning, assigned),
            ("ASSIGNED → turn that reports", assigned, starting),
            ("that turn → RUNNING", starting, started),
            ("POST: sent → answered", sent, answered),
            ("POST → RUNNING", sent, started),
        ):
            found.setdefault(name, []).append((end - begin) * 1000)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--pause", type=float, default=0.05)
    given = parser.parse_args()
    with timed_system() as gyoza:
        submit(gyoza, 30, given.pause)
        found = legs(gyoza, submit(gyoza, given.runs, given.pause))
        for name, delays in found.items():
            cuts = quantiles(delays, n=100)
            print(f"{name:30} p50 {cuts[49]:6.1f} ms   p95 {cuts[94]:6.1f} ms")
        p50 = quantiles(found["POST → RUNNING"], n=100)[49]
        print(f"POST → RUNNING, idle: p50 ÷ {LIMIT_MS:.0f} ms = {p50 / LIMIT_MS:.2f} (at most 1)")


if __name__ == "__main__":
    main()
