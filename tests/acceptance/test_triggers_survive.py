"""Real processes: every message starts exactly one execution, whoever dies and wherever (pipelines-storage.md §2)."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from typing import TYPE_CHECKING

import httpx
import psycopg
import pytest

from tests.system import ROOT, System, system

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.acceptance

PUBLISHERS, MESSAGES = 4, 500
PIPELINE = {
    "id": "orders",
    "name": "orders",
    "options": {"event": "orders", "trigger": {"max_concurrency": 200}},
    "steps": [
        {"name": "a", "python": "tests.ops:echo", "inputs": {"order": {"$ref": "trigger.data"}}}
    ],
}
COUNTS = """
SELECT count(*), count(*) FILTER (WHERE status <> 'running') FROM pipelines_execution
"""


@pytest.fixture
def gyoza(tmp_path) -> Iterator[System]:
    env = {"GYOZA_PYTHON_OPS": "tests.ops.*", "GYOZA_LOST_SECONDS": "4"}
    with system(tmp_path, **env) as opened:
        yield opened


def publish(gyoza: System, publisher: int) -> None:
    with httpx.Client(base_url=gyoza.url, timeout=60) as http:
        for first in range(0, MESSAGES, 5):
            records = [{"data": [publisher, n]} for n in range(first, first + 5)]
            answer = http.post("/v0/topics/orders", json={"records": records})
            assert answer.status_code < 300, answer.text


def test_2000_messages_start_one_execution_each_while_workers_are_killed(gyoza):
    gyoza.start_web()
    gyoza.start_beat()
    gyoza.start_worker("one")
    gyoza.start_worker("two")
    gyoza.post("/api/v1/pipelines/", PIPELINE)
    gyoza.post("/api/v1/events/orders")
    publishers = [
        threading.Thread(target=publish, args=[gyoza, number]) for number in range(PUBLISHERS)
    ]
    for publisher in publishers:
        publisher.start()
    with psycopg.connect(gyoza.env["DATABASE_URL"], autocommit=True) as link:

        def ended() -> int:
            row = link.execute(COUNTS).fetchone()
            return int(row[1]) if row else 0

        for number, after in enumerate((100, 500, 900)):
            gyoza.wait_for(lambda least=after: ended() >= least, f"{after} executions end", 120)
            # Both dispatch and both execute; at the last both die at once.
            for name in ("one", "two") if number == 2 else (("one", "two")[number],):
                gyoza.kill(name)
                gyoza.start_worker(name)
        for publisher in publishers:
            publisher.join()
        gyoza.wait_for(lambda: ended() == PUBLISHERS * MESSAGES, "all executions end", 180)
        rows = link.execute(
            "SELECT status, error_info ->> 'message', trigger FROM pipelines_execution"
        ).fetchall()
    taken = Counter(tuple(json.loads(trigger)["data"]) for _, _, trigger in rows)
    assert taken == Counter((p, n) for p in range(PUBLISHERS) for n in range(MESSAGES))
    assert Counter((status, error) for status, error, _ in rows) == {("completed", None): 2000}

    def settled() -> bool:
        status = gyoza.get("/api/v1/events/orders/status")
        return bool(status["succeeded"] == PUBLISHERS * MESSAGES)

    gyoza.wait_for(settled, "the trigger knows of all ends")
    counted = gyoza.get("/api/v1/events/orders/status")
    assert (counted["received"], counted["started"], counted["failed"]) == (2000, 2000, 0)


def test_the_engine_may_die_at_any_point(gyoza):
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash_points"],
        cwd=ROOT, env=gyoza.env, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    *points, last = done.stdout.splitlines()
    points = [point for point in points if point.startswith(("before ", "after "))]
    found = json.loads(last)
    # Dispatching, advancing and settling: each has statements of its own, and a commit.
    assert len(points) > 25
    assert sum(point.endswith(" a commit") for point in points) >= 5
    numbers = list(range(found["published"]))
    failed = [number for number in numbers if number % 7 == 0]
    good = len(numbers) - len(failed)
    assert found["taken"] == numbers
    assert found["statuses"] == {"completed": good, "failed": len(failed)}
    assert found["runs"] == 2 * good + len(failed)
    assert found["ends"] == {"1": len(numbers)}
    assert found["dead"] == failed
    assert found["counters"] == {
        "received": len(numbers),
        "started": len(numbers),
        "succeeded": good,
        "failed": len(failed),
        "dead_lettered": len(failed),
    }
