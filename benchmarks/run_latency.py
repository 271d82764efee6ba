"""POST /runs → RUNNING on an idle system (design.md §10: p50 ≤ 15 ms), and worker memory at rest (≤ 150 MB)."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from statistics import quantiles

import psutil
import psycopg

from tests.system import system

RUNS = int(os.environ.get("RUNS", "100"))
LIMIT_MS = 15.0
LIMIT_MB = 150


def main() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="gyoza-bench-") as home,
        system(Path(home), GYOZA_PYTHON_OPS="tests.ops.*") as gyoza,
    ):
        gyoza.start_web()
        gyoza.start_worker()
        gyoza.start_beat()
        body = {"python": "tests.ops:noop"}
        for _ in range(10):
            gyoza.wait_for_state(gyoza.post("/runs", body)["id"], "COMPLETED")
        sent: dict[str, float] = {}
        for _ in range(RUNS):
            began = time.time()
            sent[gyoza.post("/runs", body)["id"]] = began
            time.sleep(0.05)  # idle: one at a time
        for one in sent:
            gyoza.wait_for_state(one, "COMPLETED")
        with psycopg.connect(gyoza.env["DATABASE_URL"]) as link:
            rows = link.execute(
                "SELECT id::text, extract(epoch FROM started_at)::float8 FROM runs_run WHERE id = ANY(%s::uuid[])",
                [list(sent)],
            ).fetchall()
        delays = sorted((started - sent[one]) * 1000 for one, started in rows)
        cuts = quantiles(delays, n=100)
        print(
            f"POST /runs → RUNNING, idle, {RUNS} runs: p50 {cuts[49]:.1f} ms, p99 {cuts[98]:.1f} ms"
        )
        print(f"p50 ÷ {LIMIT_MS:.0f} ms: {cuts[49] / LIMIT_MS:.2f} (at most 1)")
        process = psutil.Process(gyoza.processes["worker"].pid)
        resident = process.memory_info().rss / 2**20
        print(
            f"worker at rest: {resident:.0f} MB ÷ {LIMIT_MB} MB: {resident / LIMIT_MB:.2f} (at most 1)"
        )


if __name__ == "__main__":
    main()
