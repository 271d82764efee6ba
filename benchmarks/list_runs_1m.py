"""GET /runs at a million runs: p50, p95 and p95 ÷ the 20 ms it may take, through HTTP.

python -m benchmarks.list_runs_1m [--runs 1000000] [--requests 300]
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from pathlib import Path

import psycopg

from tests.system import System, system

LIMIT_MS = 20
TOPICS = 200

# A run a second, newest last, over 200 topics, 50 ops and ten images; one in fifty FAILED, one in fifty CANCELLED.
FILL = """
INSERT INTO runs_run (
  id, state, priority, progress, current_attempt, executor, image, env, inputs, outputs, output_specs, op_definition,
  op_version, tags, retry_policy, failures, losses, topic, attributes, timeout_s, metadata, created_by, created_at,
  updated_at, queued_at, started_at, finished_at, message_offset, event_count, exit_code, error_message, cancel_reason)
SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '70008000' || lpad(to_hex(n), 12, '0'))::uuid,
       CASE n % 50 WHEN 0 THEN 'FAILED' WHEN 1 THEN 'CANCELLED' ELSE 'COMPLETED' END,
       5, 100, 1, 'docker', 'image-' || n % 10, '{}', '{"image_path": "/data/a.png", "top_k": 5}',
       '{"label": "cat", "score": 0.9}', '{}', 'op-' || (random() * 50)::int, '1.0.0', '{}',
       '{"max_attempts": 3, "backoff": "exponential", "delay_s": 1, "max_delay_s": 60, "jitter": 0.1}', 0, 0,
       'topic-' || (random() * %(topics)s)::int, '{}', 3600, '{}', 'anonymous', at, at, at, at, at, 0, 3, 0, '', ''
  FROM (SELECT n, now() - make_interval(secs => %(runs)s - n) AS at FROM generate_series(1, %(runs)s) AS n) AS made
"""

QUERIES = {
    "topic and state": "/runs?topic=topic-{n}&state=COMPLETED",
    "topic and rare state": "/runs?topic=topic-{n}&state=FAILED",
    "topic and two states": "/runs?topic=topic-{n}&state=FAILED&state=CANCELLED",
    "topic and state, 100 rows": "/runs?topic=topic-{n}&state=COMPLETED&limit=100",
    "a page in the middle": "/runs?topic=topic-{n}&state=COMPLETED&starting_after={middle}",
    "an hour of a topic": "/runs?topic=topic-{n}&created[gte]={begin}&created[lt]={end}",
    "everything": "/runs",
    "the door alone": "/health",
}


def fill(gyoza: System, runs: int) -> str:
    """Make the runs and return the id of one in the middle."""
    started = time.monotonic()
    with psycopg.connect(gyoza.env["DATABASE_URL"], autocommit=True) as link:
        link.execute(FILL.replace("n % ", "n %% "), {"runs": runs, "topics": TOPICS})
        link.execute("VACUUM ANALYZE runs_run")
        row = link.execute(
            "SELECT id FROM runs_run ORDER BY id OFFSET %s LIMIT 1", [runs // 2]
        ).fetchone()
    assert row is not None
    print(f"{runs} runs made in {time.monotonic() - started:.0f} s")
    return str(row[0])


def measure(gyoza: System, pattern: str, requests: int, middle: str, runs: int) -> list[float]:
    """Return the sorted latencies of one kind of request, in milliseconds, one after another."""
    latencies = []
    for _ in range(requests):
        begin = time.time() - random.randrange(3600, runs // 2)
        path = pattern.format(
            n=random.randrange(1, TOPICS), middle=middle, begin=int(begin), end=int(begin + 3600)
        )
        started = time.perf_counter()
        answer = gyoza.http.get(path)
        latencies.append((time.perf_counter() - started) * 1000)
        assert answer.status_code == 200, answer.text
    return sorted(latencies)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--requests", type=int, default=300)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as home, system(Path(home)) as gyoza:
        middle = fill(gyoza, given.runs)
        gyoza.start_web()
        for pattern in QUERIES.values():
            measure(gyoza, pattern, 20, middle, given.runs)
        for name, pattern in QUERIES.items():
            found = measure(gyoza, pattern, given.requests, middle, given.runs)
            p50, p95 = found[len(found) // 2], found[int(len(found) * 0.95)]
            print(
                f"{name:26} p50 {p50:6.1f} ms   p95 {p95:6.1f} ms   p95 / {LIMIT_MS} ms = {p95 / LIMIT_MS:.2f}"
            )


if __name__ == "__main__":
    main()
