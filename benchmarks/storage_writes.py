"""2,000 small objects written over HTTP by 8 writers, each in its own execution: how long a write takes, and what the log tells.

python -m benchmarks.storage_writes [--objects 2000] [--writers 8]
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
import threading
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING

from tests.system import durable_system

if TYPE_CHECKING:
    from tests.system import System

LIMIT_MS = 15
CONTENT = os.urandom(2048)


def open_executions(gyoza: System, count: int) -> list[str]:
    """Start executions that go on until they are told to end, and return their ids."""
    steps = [{"name": "wait", "adapter": "sleep", "inputs": {"seconds": 3600}}]
    made = gyoza.post("/api/v1/pipelines/", {"name": "bench", "id": "bench", "steps": steps})
    return [gyoza.post(f"/api/v1/pipelines/{made['id']}/run", {})["id"] for _ in range(count)]


def write(gyoza: System, execution: str, objects: int, latencies: list[float]) -> None:
    http = HTTPConnection("127.0.0.1", gyoza.port)
    for number in range(objects):
        started = time.perf_counter()
        http.request("PUT", f"/api/v1/storage/objects/{execution}/s/{number}.bin", CONTENT)
        answer = http.getresponse()
        body = answer.read()
        latencies.append((time.perf_counter() - started) * 1000)
        assert answer.status == 201, body
    http.close()


def told(gyoza: System) -> list[tuple[str, str]]:
    """Return id and key of every event, in the order of the log."""
    events, after = [], 0
    while True:
        body = {"from_seq": after, "limit": 1000}
        page = gyoza.post("/v0/topics/system.storage.events/diff", body)
        events += [(record["data"]["id"], record["data"]["key"]) for record in page["records"]]
        after = page["next_from_seq"]
        if not page["records"]:
            return events


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=2000)
    parser.add_argument("--writers", type=int, default=8)
    given = parser.parse_args()
    each = given.objects // given.writers
    with (
        tempfile.TemporaryDirectory(prefix="gyoza-bench-") as home,
        durable_system(Path(home)) as gyoza,
    ):
        gyoza.start_web()
        executions = open_executions(gyoza, given.writers)
        latencies: list[float] = []
        threads = [
            threading.Thread(target=write, args=[gyoza, one, each, latencies]) for one in executions
        ]
        started = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.perf_counter() - started
        events = told(gyoza)
    latencies.sort()
    ids = [event_id for event_id, _ in events]
    lost = each * given.writers - len({key for _, key in events})
    p50, p95 = latencies[len(latencies) // 2], latencies[int(len(latencies) * 0.95)]
    print(
        f"{len(latencies)} objects of {len(CONTENT)} bytes by {given.writers} writers in {took:.1f} s:"
        f" {len(latencies) / took:.0f}/s, p50 {p50:.1f} ms, p95 {p95:.1f} ms,"
        f" p50 ÷ {LIMIT_MS} ms = {p50 / LIMIT_MS:.2f} (load {os.getloadavg()[0]:.1f})"
    )
    rising = all(one < other for one, other in itertools.pairwise(ids))
    print(f"events: {len(ids)}, lost {lost}, ids {'rise' if rising else 'DO NOT RISE'}")


if __name__ == "__main__":
    main()
