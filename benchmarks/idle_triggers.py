"""CPU and processes of a system with 1,000 started triggers that nothing happens to ÷ those of one without any.

python -m benchmarks.idle_triggers [--triggers 1000] [--seconds 20]

Counted over everything: web, worker and its children, beat, and all of Postgres. Half of the triggers follow a topic of
their own, the others one that does not exist yet.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import psutil
import psycopg

from tests.system import System, durable_system

# After this long nothing is under way any more: sweeps, the last commits, the counters of Postgres.
REST_SECONDS = 5
POSTMASTER = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'"


def family(gyoza: System) -> dict[str, list[psutil.Process]]:
    """Return every process of the system by where it belongs."""
    with psycopg.connect(gyoza.env["DATABASE_URL"]) as link:
        row = link.execute(POSTMASTER).fetchone()
    assert row is not None
    roots = {name: psutil.Process(process.pid) for name, process in gyoza.processes.items()}
    postmaster = psutil.Process(row[0]).parent()
    assert postmaster is not None
    roots["postgres"] = postmaster
    return {name: [root, *root.children(recursive=True)] for name, root in roots.items()}


def spent(gyoza: System, seconds: float) -> tuple[dict[str, float], int]:
    """Return the share of one core that each part takes while nothing happens, and the number of our processes."""
    time.sleep(REST_SECONDS)
    before = {
        name: {one.pid: sum(one.cpu_times()[:2]) for one in processes}
        for name, processes in family(gyoza).items()
    }
    time.sleep(seconds)
    shares = {}
    after = family(gyoza)
    for name, processes in after.items():
        now = {one.pid: sum(one.cpu_times()[:2]) for one in processes}
        # What came in between counts from nothing; what went is lost, and a few connections at most.
        shares[name] = sum(cpu - before[name].get(pid, 0.0) for pid, cpu in now.items()) / seconds
    ours = sum(len(processes) for name, processes in after.items() if name != "postgres")
    return shares, ours


def start_triggers(gyoza: System, count: int) -> None:
    for number in range(count):
        if number % 2:
            gyoza.post(f"/v0/topics/t{number}", {"records": [{"data": number}]})
        document = {
            "id": f"p{number}",
            "name": "idle",
            "options": {"event": f"t{number}"},
            "steps": [{"name": "a", "python": "tests.ops:noop"}],
        }
        gyoza.post("/api/v1/pipelines/", document)
        gyoza.post(f"/api/v1/events/p{number}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--triggers", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=20)
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="gyoza-bench-") as home,
        durable_system(Path(home), GYOZA_PYTHON_OPS="tests.ops.*") as gyoza,
    ):
        gyoza.start_web()
        gyoza.start_worker()
        gyoza.start_beat()
        without, processes = spent(gyoza, given.seconds)
        start_triggers(gyoza, given.triggers)
        idle, processes_with = spent(gyoza, given.seconds)
    for name in idle:
        print(f"{name:10} {100 * without[name]:5.2f} % → {100 * idle[name]:5.2f} % of a core")
    more = 100 * (sum(idle.values()) - sum(without.values()))
    print(
        f"{given.triggers} idle triggers: {more:+.2f} % of a core, "
        f"{processes_with - processes:+d} processes (no measurable CPU, 0)"
    )


if __name__ == "__main__":
    main()
