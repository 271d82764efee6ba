"""GET /runs at a million runs: p50, p95 and p95 ÷ the 20 ms it may take (design.md §10), through HTTP.

python -m benchmarks.list_runs_1m [--runs 1000000] [--requests 300]

First everybody's runs, as the figure has it; then what keys limited to prefixes see, whose runs are all, some, few, old,
or none of the million.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple

import psycopg

from tests.system import System, durable_system

LIMIT_MS = 20
TOPICS = 200

# A run a second, newest last. A tenth has no op. The others are of 50 ops, the oldest twentieth of ten other ones. One in
# fifty FAILED, one in fifty CANCELLED, at random over everything.
FILL = """
INSERT INTO runs_run (
  id, state, priority, progress, current_attempt, executor, image, env, inputs, outputs, output_specs, op_definition,
  op_version, tags, retry_policy, failures, losses, topic, attributes, timeout_s, metadata, created_by, created_at,
  updated_at, queued_at, started_at, finished_at, message_offset, event_count, exit_code, error_message, cancel_reason)
SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '70008000' || lpad(to_hex(n), 12, '0'))::uuid,
       CASE (random() * 50)::int WHEN 0 THEN 'FAILED' WHEN 1 THEN 'CANCELLED' ELSE 'COMPLETED' END,
       5, 100, 1, 'docker', 'image-' || n %% 10, '{}', '{"image_path": "/data/a.png", "top_k": 5}',
       '{"label": "cat", "score": 0.9}', '{}',
       CASE WHEN n < %(runs)s / 20 THEN 'old-' || n %% 10 WHEN n %% 10 > 0 THEN 'op-' || (random() * 50)::int END,
       '1.0.0', '{}',
       '{"max_attempts": 3, "backoff": "exponential", "delay_s": 1, "max_delay_s": 60, "jitter": 0.1}', 0, 0,
       'topic-' || (random() * %(topics)s)::int, '{}', 3600, '{}', 'anonymous', at, at, at, at, at, 0, 3, 0, '', ''
  FROM (SELECT n, now() - make_interval(secs => %(runs)s - n) AS at FROM generate_series(1, %(runs)s) AS n) AS made
"""

QUERIES = {
    "topic and state": "/runs?topic=topic-{n}&state=COMPLETED",
    "topic and state, 100 rows": "/runs?topic=topic-{n}&state=COMPLETED&limit=100",
    "topic and rare state": "/runs?topic=topic-{n}&state=FAILED",
    "topic and two states": "/runs?topic=topic-{n}&state=FAILED&state=CANCELLED",
    "topic and two states, 100 rows": "/runs?topic=topic-{n}&state=FAILED&state=CANCELLED&limit=100",
    "a page in the middle": "/runs?topic=topic-{n}&state=COMPLETED&starting_after={middle}",
    "an hour of a topic": "/runs?topic=topic-{n}&created[gte]={begin}&created[lt]={end}",
    "everything": "/runs",
    "the door alone": "/health",
}
# Prefixes of a key, by what they open.
KEYS = {
    "all": "op-|old-|topic-",
    "51 ops": "op-",
    "one op": "op-7",
    "200 topics without op": "topic-",
    "old ones": "old-",
    "none": "nobody",
}
OF_A_KEY = {
    "": "/runs",
    ", 100 rows": "/runs?limit=100",
    ", FAILED": "/runs?state=FAILED",
    ", after the middle": "/runs?starting_after={middle}",
}


class Filled(NamedTuple):
    """A system full of runs, and the id of one in the middle that each key can see, or of none."""

    gyoza: System
    runs: int
    middle: str


def fill(gyoza: System, runs: int) -> str:
    """Make the runs and return the id of one in the middle."""
    started = time.monotonic()
    with psycopg.connect(gyoza.env["DATABASE_URL"], autocommit=True) as link:
        link.execute(FILL, {"runs": runs, "topics": TOPICS})
        link.execute("VACUUM ANALYZE runs_run")
        middle = middle_of(gyoza, runs, "")
    print(f"{runs} runs made in {time.monotonic() - started:.0f} s")
    return middle


def middle_of(gyoza: System, runs: int, prefixes: str) -> str:
    """Return the id of a run in the middle, or next to it, under one of the prefixes."""
    with psycopg.connect(gyoza.env["DATABASE_URL"]) as link:
        row = link.execute(
            "SELECT id FROM (SELECT * FROM runs_run ORDER BY id OFFSET %s) AS newer"
            " WHERE coalesce(op_definition, topic) ~ %s ORDER BY id LIMIT 1",
            [runs // 2 if "old" not in prefixes else runs // 40, f"^({prefixes})"],
        ).fetchone()
    return str(row[0]) if row else ""


def measure(filled: Filled, pattern: str, requests: int, key: str = "") -> list[float]:
    """Return the sorted latencies of one kind of request, in milliseconds, one after another."""
    http = HTTPConnection("127.0.0.1", filled.gyoza.port)
    headers = {"X-API-Key": key} if key else {}
    latencies = []
    for _ in range(requests):
        begin = time.time() - random.randrange(3600, filled.runs // 2)
        path = pattern.format(
            n=random.randrange(1, TOPICS),
            middle=filled.middle,
            begin=int(begin),
            end=int(begin + 3600),
        )
        started = time.perf_counter()
        http.request("GET", path, headers=headers)
        answer = http.getresponse()
        body = answer.read()
        latencies.append((time.perf_counter() - started) * 1000)
        assert answer.status == 200, body
    http.close()
    return sorted(latencies)


def report(name: str, found: list[float]) -> None:
    """Print what one kind of request took."""
    p50, p95 = found[len(found) // 2], found[int(len(found) * 0.95)]
    print(
        f"{name:44} p50 {p50:6.1f} ms   p95 {p95:6.1f} ms   ÷ {LIMIT_MS} ms = {p95 / LIMIT_MS:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--requests", type=int, default=300)
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="gyoza-bench-") as home,
        durable_system(Path(home)) as gyoza,
    ):
        filled = Filled(gyoza, given.runs, fill(gyoza, given.runs))
        gyoza.start_web()
        for pattern in QUERIES.values():
            measure(filled, pattern, 20)
        for name, pattern in QUERIES.items():
            report(name, measure(filled, pattern, given.requests))
        for kind, prefixes in KEYS.items():
            secret = gyoza.manage("keys", "create", kind, "--scopes=read", f"--prefixes={prefixes}")
            theirs = filled._replace(middle=middle_of(gyoza, given.runs, prefixes))
            for name, pattern in OF_A_KEY.items():
                if theirs.middle or "middle" not in pattern:
                    measure(theirs, pattern, 10, secret.strip())
                    found = measure(theirs, pattern, given.requests // 3, secret.strip())
                    report(f"a key that sees {kind}{name}", found)


if __name__ == "__main__":
    main()
