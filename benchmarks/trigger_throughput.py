"""Messages/s through a trigger with one `python` step ÷ runs/s of the same op as plain runs (issue: at least 0.6).

python -m benchmarks.trigger_throughput [--messages 1000] [--rounds 3] [--concurrency 1000]

Both sides on one system that is up: from the moment before the first batch is sent to the last row that says it has
ended. Plain runs are limited by the worker's slots alone, so the trigger may have all of its executions under way, too.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import psycopg

from tests.system import System, durable_system

LEAST = 0.6
BATCH = 500
OP = "tests.ops:noop"
RUNS = """
SELECT count(*), extract(epoch FROM max(finished_at))::float8 FROM runs_run
WHERE execution_id IS NULL AND finished_at >= to_timestamp(%s)
"""
EXECUTIONS = """
SELECT count(*), extract(epoch FROM max(completed_at))::float8 FROM pipelines_execution
WHERE status = 'completed' AND completed_at >= to_timestamp(%s)
"""


def pipeline(concurrency: int) -> dict[str, Any]:
    """Return a pipeline with a trigger that may have so many executions under way."""
    return {
        "id": "orders",
        "name": "orders",
        "options": {"event": "orders", "trigger": {"max_concurrency": concurrency}},
        "steps": [{"name": "a", "python": OP, "inputs": {"order": {"$ref": "trigger.data"}}}],
    }


def ended(gyoza: System, query: str, began: float, count: int) -> float:
    """Wait until all of them have ended; return how many that were per second."""
    with psycopg.connect(gyoza.env["DATABASE_URL"], autocommit=True) as link:

        def last() -> float | None:
            time.sleep(0.3)  # counting is work for the server, too
            row = link.execute(query, [began]).fetchone()
            return float(row[1]) if row is not None and row[0] == count else None

        return count / (float(gyoza.wait_for(last, "all have ended", 300)) - began)


def plain(gyoza: System, count: int) -> float:
    """Return plain runs per second."""
    began = time.time()
    for begin in range(0, count, BATCH):
        size = min(BATCH, count - begin)
        gyoza.post(
            "/runs/batch",
            {"runs": [{"python": OP, "inputs": {"order": {"n": n}}} for n in range(size)]},
        )
    return ended(gyoza, RUNS, began, count)


def triggered(gyoza: System, count: int) -> float:
    """Return executions per second."""
    began = time.time()
    for begin in range(0, count, BATCH):
        size = min(BATCH, count - begin)
        gyoza.post("/v0/topics/orders", {"records": [{"data": {"n": n}} for n in range(size)]})
    return ended(gyoza, EXECUTIONS, began, count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--concurrency", type=int, default=1000)
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="gyoza-bench-") as home,
        durable_system(Path(home), GYOZA_PYTHON_OPS="tests.ops.*") as gyoza,
    ):
        gyoza.start_web()
        gyoza.start_worker()
        gyoza.start_beat()
        gyoza.post("/api/v1/pipelines/", pipeline(given.concurrency))
        gyoza.post("/api/v1/events/orders")
        triggered(gyoza, 50)
        plain(gyoza, 50)
        ratios = []
        for round_ in range(given.rounds):
            runs, executions = plain(gyoza, given.messages), triggered(gyoza, given.messages)
            ratios.append(executions / runs)
            print(
                f"round {round_ + 1}: triggered {executions:,.0f}/s ÷ plain runs {runs:,.0f}/s = {ratios[-1]:.2f}"
            )
    print(f"triggered executions/s ÷ plain runs/s: {median(ratios):.2f} (at least {LEAST})")


if __name__ == "__main__":
    main()
