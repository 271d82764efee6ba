"""Tracked no-op runs/s ÷ bare Celery no-op tasks/s: same broker, same concurrency, same machine, one run.

Both sides: the work is queued first, then one worker process is started, and the time from its first task to its
last is what counts. A tracked run is claimed, executed in a child process, and told in three events in a feed.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from statistics import median

import psycopg
import redis

from tests.system import System, durable_system

RUNS = int(os.environ.get("RUNS", "4000"))
CONCURRENCY = int(os.environ.get("CONCURRENCY", "16"))
ROUNDS = int(os.environ.get("ROUNDS", "3"))

BARE = """
import os, time
from celery import Celery
import redis as r
app = Celery("bare", broker=os.environ["BROKER"])
app.conf.update(task_ignore_result=True, worker_prefetch_multiplier=4, broker_connection_retry_on_startup=True)
client = r.Redis.from_url(os.environ["REDIS_URL"])
@app.task(name="bare.noop")
def noop():
    client.incr("bare:done")
"""


def bare_celery(gyoza: System) -> float:
    """Return no-op tasks per second of a plain Celery worker with a thread pool."""
    client = redis.Redis.from_url(gyoza.env["REDIS_URL"])
    client.flushdb()
    module = gyoza.home / "bare_noop.py"
    # The no-op keeps no account; the broker's queue length tells when it is empty.
    module.write_text(BARE.replace('    client.incr("bare:done")\n', "    pass\n"))
    broker = gyoza.env["REDIS_URL"].replace("unix://", "redis+socket://")
    env = {**gyoza.env, "BROKER": broker, "PYTHONPATH": str(gyoza.home)}
    os.environ["BROKER"] = broker
    os.environ["REDIS_URL"] = gyoza.env["REDIS_URL"]
    sys.path.insert(0, str(gyoza.home))
    bare_noop = import_module("bare_noop")
    for _ in range(RUNS):
        bare_noop.noop.apply_async(queue="bare")
    argv = [
        sys.executable, "-m", "celery", "-A", "bare_noop", "worker", "-P", "threads", "-c", str(CONCURRENCY),
        "-Q", "bare", "--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "WARNING",
    ]  # fmt: skip
    gyoza.start("bare", argv, **env)
    first = gyoza.wait_for(
        lambda: (n := client.llen("bare")) < RUNS and (time.monotonic(), n), "first task"
    )
    began, left = first
    gyoza.wait_for(
        lambda: client.llen("bare") == 0 and client.hlen("unacked") == 0, "all tasks done"
    )
    rate = float(left / (time.monotonic() - began))
    gyoza.kill("bare", signal.SIGTERM)
    return rate


def tracked(gyoza: System) -> float:
    """Return no-op runs per second, tracked in Postgres and followed by a feed."""
    body = {"python": "tests.ops:noop", "event_delivery": {"topic": "bench"}}
    for begin in range(0, RUNS, 500):
        gyoza.post("/runs/batch", {"runs": [body] * min(500, RUNS - begin)})
    with psycopg.connect(gyoza.env["DATABASE_URL"], autocommit=True) as link:

        def done() -> int:
            # One row, so that looking costs nothing: each run leaves three records in the feed.
            row = link.execute("SELECT head / 3 FROM topics_topic WHERE name = 'bench'").fetchone()
            return int(row[0]) if row else 0

        def all_done() -> bool:
            time.sleep(0.3)  # counting is work for the server, too
            return done() == before + RUNS

        before = done()
        gyoza.start_worker("tracked", GYOZA_WORKER_SLOTS=str(CONCURRENCY))
        # The runs themselves say when they were done: no clock of ours is in the way.
        gyoza.wait_for(all_done, "all runs done", 300)
        row = link.execute(
            "SELECT count(*), extract(epoch FROM max(finished_at) - min(assigned_at)) FROM (SELECT finished_at,"
            " assigned_at FROM runs_run ORDER BY id DESC LIMIT %s) AS latest",
            [RUNS],
        ).fetchone()
        assert row is not None
    gyoza.kill("tracked", signal.SIGTERM)
    return float(row[0]) / float(row[1])


def main() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="gyoza-bench-") as home,
        durable_system(Path(home), GYOZA_PYTHON_OPS="tests.ops.*") as gyoza,
    ):
        gyoza.start_web()
        ratios = []
        for round_ in range(ROUNDS):
            bare, ours = bare_celery(gyoza), tracked(gyoza)
            ratios.append(ours / bare)
            print(
                f"round {round_ + 1}: tracked {ours:,.0f}/s ÷ bare Celery {bare:,.0f}/s = {ours / bare:.2f}"
            )
        print(
            f"tracked no-op runs/s ÷ bare Celery no-op tasks/s: {median(ratios):.2f} (at least 1.0)"
        )


if __name__ == "__main__":
    main()
