"""Append → the first step of the triggered execution RUNNING on an idle system ÷ the 30 ms it may take, leg by leg.

python -m benchmarks.trigger_latency [--messages 100] [--pause 0.05]

As in run_latency, RUNNING counts from the commit that says so, and the beginning is the moment before the client sends.
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

LIMIT_MS = 30.0
PIPELINE = {
    "id": "orders",
    "name": "orders",
    "options": {"event": "orders", "trigger": {"max_concurrency": 16}},
    "steps": [
        {"name": "a", "python": "tests.ops:noop", "inputs": {"order": {"$ref": "trigger.data"}}}
    ],
}

# By seq of the message: when the transactions began that dispatched it, made the run and claimed it, and when the one
# was committed that says it runs.
LEGS = """
SELECT execution.source_seq, extract(epoch FROM execution.created_at)::float8,
       extract(epoch FROM run.created_at)::float8, extract(epoch FROM run.assigned_at)::float8,
       extract(epoch FROM pg_xact_commit_timestamp(started.xmin))::float8
FROM pipelines_execution execution
JOIN runs_run run ON run.execution_id = execution.id
JOIN runs_runevent started ON started.run_id = run.id AND started.type = 'STARTED'
"""
COMPLETED = "SELECT count(*) FROM pipelines_execution WHERE status = 'completed'"


def publish(
    gyoza: System, messages: int, pause: float, *, after: int
) -> dict[int, tuple[float, float]]:
    """Append messages one by one, each when the last one's execution has ended; return when each was sent and answered."""
    times: dict[int, tuple[float, float]] = {}
    # The plainest client there is: what httpx costs would be counted as the server's.
    http = HTTPConnection("127.0.0.1", gyoza.port)
    with psycopg.connect(gyoza.env["DATABASE_URL"], autocommit=True) as link:
        for number in range(messages):
            sent = time.time()
            body = json.dumps({"records": [{"data": {"n": number}}]})
            http.request("POST", "/v0/topics/orders", body, {"Content-Type": "application/json"})
            answer = json.loads(http.getresponse().read())
            times[answer["last_seq"]] = (sent, time.time())
            gyoza.wait_for(
                lambda done=after + number + 1: link.execute(COMPLETED).fetchone() == (done,),
                "the execution ends",
            )
            # At random, or the system's own rhythm would be met or missed.
            time.sleep(random.uniform(pause, 2 * pause))
    return times


def legs(gyoza: System, times: dict[int, tuple[float, float]]) -> dict[str, list[float]]:
    """Return the milliseconds of each leg, one value per message."""
    with psycopg.connect(gyoza.env["DATABASE_URL"]) as link:
        rows = link.execute(LEGS).fetchall()
    found: dict[str, list[float]] = {}
    for seq, dispatched, made, claimed, running in rows:
        if seq not in times:
            continue
        sent, answered = times[seq]
        for name, begin, end in (
            ("append: sent → answered", sent, answered),
            ("sent → turn that dispatches", sent, dispatched),
            ("that turn → turn that makes the run", dispatched, made),
            ("that turn → turn that claims it", made, claimed),
            ("that turn → RUNNING", claimed, running),
            ("append → RUNNING", sent, running),
        ):
            found.setdefault(name, []).append((end - begin) * 1000)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100)
    parser.add_argument("--pause", type=float, default=0.05)
    given = parser.parse_args()
    with timed_system() as gyoza:
        gyoza.post("/api/v1/pipelines/", PIPELINE)
        gyoza.post("/api/v1/events/orders")
        publish(gyoza, 20, given.pause, after=0)
        found = legs(gyoza, publish(gyoza, given.messages, given.pause, after=20))
    for name, delays in found.items():
        cuts = quantiles(delays, n=100)
        print(f"{name:36} p50 {cuts[49]:6.1f} ms   p95 {cuts[94]:6.1f} ms")
    p50 = quantiles(found["append → RUNNING"], n=100)[49]
    print(f"append → RUNNING, idle: p50 ÷ {LIMIT_MS:.0f} ms = {p50 / LIMIT_MS:.2f} (at most 1)")


if __name__ == "__main__":
    main()
