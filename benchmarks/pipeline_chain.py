"""40 light steps one after another in one execution ÷ the 0.8 s they may take, leg by leg (design.md §10).

python -m benchmarks.pipeline_chain [--rounds 10] [--steps 40]

The execution's own clock counts: from when it was made to the commit that ended it. The legs of a step end with commits,
too, which Postgres is told to keep (it waits for the disk, as in production).
"""

from __future__ import annotations

import argparse
from statistics import median
from typing import TYPE_CHECKING

import psycopg

from benchmarks.timed import timed_system

if TYPE_CHECKING:
    from tests.system import System

LIMIT_S = 0.8

# The way of each run but the first of its execution, from the commit that ended the one before to the one that ended it;
# created_at and assigned_at are when the transactions began that made and claimed it.
LEGS = """
WITH step AS (
  SELECT run.execution_id, run.id,
         run.created_at, run.assigned_at,
         pg_xact_commit_timestamp(assigned.xmin) AS assigned, pg_xact_commit_timestamp(started.xmin) AS started,
         pg_xact_commit_timestamp(completed.xmin) AS completed
  FROM runs_run run
  JOIN runs_runevent assigned ON assigned.run_id = run.id AND assigned.type = 'ASSIGNED'
  JOIN runs_runevent started ON started.run_id = run.id AND started.type = 'STARTED'
  JOIN runs_runevent completed ON completed.run_id = run.id AND completed.type = 'COMPLETED'
  WHERE run.execution_id = ANY(%s::uuid[])
)
SELECT extract(epoch FROM created_at - lag(completed) OVER chain)::float8,
       extract(epoch FROM assigned_at - created_at)::float8, extract(epoch FROM assigned - assigned_at)::float8,
       extract(epoch FROM started - assigned)::float8, extract(epoch FROM completed - started)::float8
FROM step WINDOW chain AS (PARTITION BY execution_id ORDER BY id)
"""
NAMES = (
    "ended → turn that makes the next",
    "made → turn that claims",
    "that turn → ASSIGNED",
    "ASSIGNED → RUNNING",
    "RUNNING → COMPLETED",
)
TOOK = """
SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin) - created_at)::float8
FROM pipelines_execution WHERE id = %s AND status = 'completed'
"""


def document(steps: int) -> dict[str, object]:
    """Return a pipeline whose steps follow each other, each with what the last one gave."""
    first: dict[str, object] = {"name": "s0", "python": "tests.ops:echo", "inputs": {"n": 0}}
    rest = [
        {
            "name": f"s{n}",
            "python": "tests.ops:echo",
            "inputs": {"n": {"$ref": f"steps.s{n - 1}.outputs.n"}},
        }
        for n in range(1, steps)
    ]
    return {"id": "chain", "name": "chain", "steps": [first, *rest]}


def run_one(gyoza: System) -> str:
    """Run the pipeline to its end and return the execution's id."""
    execution = gyoza.post("/api/v1/pipelines/chain/run", {})["id"]

    def has_ended() -> bool:
        return bool(gyoza.get(f"/api/v1/executions/{execution}")["status"] != "running")

    gyoza.wait_for(has_ended, "the chain ends")
    return str(execution)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=40)
    given = parser.parse_args()
    with timed_system() as gyoza:
        gyoza.post("/api/v1/pipelines/", document(given.steps))
        run_one(gyoza)
        executions = [run_one(gyoza) for _ in range(given.rounds)]
        with psycopg.connect(gyoza.env["DATABASE_URL"]) as link:
            took = [link.execute(TOOK, [one]).fetchone() for one in executions]
            rows = link.execute(LEGS, [executions]).fetchall()
        for name, delays in zip(NAMES, zip(*rows, strict=True), strict=True):
            known = sorted(delay * 1000 for delay in delays if delay is not None)
            p95 = known[len(known) * 95 // 100]
            print(f"{name:34} p50 {median(known):6.1f} ms   p95 {p95:6.1f} ms")
        seconds = [row[0] for row in took if row is not None]
        print("rounds: " + "  ".join(f"{one:.2f}" for one in seconds) + " s")
        middle = median(seconds)
        print(
            f"{given.steps} steps: median {middle:.2f} s ÷ {LIMIT_S} s = {middle / LIMIT_S:.2f} (at most 1)"
        )


if __name__ == "__main__":
    main()
