"""A log of 10 million records ÷ one of 10 thousand; then all of them expire under a writer (design.md §10, issue 3).

Both logs are there at the same time, each with a Postgres and a web process of its own, and are measured in turns, so that
whatever else the machine does meets both. The sweep runs as often as beat would send it.
"""

from __future__ import annotations

import os
import random
import tempfile
import threading
import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import psycopg
import uvloop

from benchmarks import load
from tests.system import durable_system

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.system import System

BIG, SMALL = int(os.environ.get("BIG", "10_000_000")), 10_000
ROUNDS = int(os.environ.get("ROUNDS", "10"))
REQUESTS = 200
# Ten million records are four segments then, as forty million are by default, and can be dropped when they expire.
SEGMENT = os.environ.get("SEGMENT", "4_000_000").replace("_", "")
SWEEP_SECONDS = 10

DATA = '{"sensor":"north-7","value":21.53,"unit":"C","flags":["a","b"],"note":"%s"}' % ("x" * 50)
ONE = b'{"records":[{"data":%b}]}' % DATA.encode()
SWEEP = "from apps.topics.disk import sweep; sweep.trim_records()"


def fill(gyoza: System, count: int) -> None:
    """Put records into the topic `t`, as appends would, with the sweep that goes with them."""
    gyoza.http.put("/v0/topics/t", json={"durability": "fsync"})
    step = min(count, int(SEGMENT) // 4)
    with psycopg.connect(gyoza.env["DATABASE_URL"], autocommit=True) as link:
        for _ in range(0, count, step):
            link.execute(
                "WITH topic AS (UPDATE topics_topic SET head = head + %(n)s, count = count + %(n)s,"
                " bytes = bytes + %(n)s * %(size)s::bigint, written = (head + %(n)s) * %(size)s::bigint,"
                " largest = %(size)s,"
                " earliest_ts = coalesce(earliest_ts, 1700000000000), last_write_ts = 1700000000000"
                " WHERE name = 't' RETURNING id, head)"
                " INSERT INTO topics_event (topic_id, seq, ts, total, size, data)"
                " SELECT id, head - %(n)s + g, 1700000000000, (head - %(n)s + g) * %(size)s, %(size)s, %(data)s"
                " FROM topic, generate_series(1, %(n)s) AS g",
                {"n": step, "size": len(DATA), "data": DATA},
            )
            gyoza.manage("shell", "-c", SWEEP)
        link.execute("VACUUM ANALYZE topics_event")


def latency(gyoza: System, requests: Iterable[bytes]) -> float:
    """Return the median latency of requests one after another, in ms."""
    left = iter(requests)
    return uvloop.run(load.run(gyoza.url, lambda: next(left, None), connections=1)).percentile(0.5)


def appends() -> list[bytes]:
    return [load.post("/v0/topics/t", ONE)] * REQUESTS


def diffs(head: int) -> Callable[[], list[bytes]]:
    return lambda: [
        load.post(
            "/v0/topics/t/diff", b'{"from_seq":%d,"limit":100}' % random.randrange(head - 100)
        )
        for _ in range(REQUESTS)
    ]


def compare(big: System, small: System) -> None:
    for name, of_big, of_small in (
        ("append", appends, appends),
        ("diff", diffs(BIG), diffs(SMALL)),
    ):
        ratios, times = [], []
        for _ in range(ROUNDS):
            ours, theirs = latency(big, of_big()), latency(small, of_small())
            ratios.append(ours / theirs)
            times.append((ours, theirs))
        ours, theirs = (median(column) for column in zip(*times, strict=True))
        print(
            f"{name} at {BIG:,} ÷ at {SMALL:,}: {ours:.2f} ms ÷ {theirs:.2f} ms,"
            f" median of ratios {median(ratios):.2f} (at most 1.3)"
        )


class Writer:
    """Appends one record after another until told to stop, and keeps when each was sent and answered."""

    def __init__(self, gyoza: System) -> None:
        self.times: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write, args=[gyoza.url])
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def between(self, first: float, last: float) -> str:
        """Describe the latencies of a stretch of time."""
        waits = sorted(
            (after - before) * 1000
            for before, after in pairwise(self.times)
            if first <= before < last
        )
        if not waits:
            return "nothing"
        return (
            f"{len(waits) / (last - first):,.0f}/s, p50 {waits[len(waits) // 2]:.2f} ms,"
            f" p99 {waits[int(len(waits) * 0.99)]:.1f} ms, longest {waits[-1]:.0f} ms"
        )

    def _write(self, url: str) -> None:
        request = load.post("/v0/topics/t", ONE)

        def following() -> bytes | None:
            self.times.append(time.perf_counter())
            return None if self._stop.is_set() else request

        uvloop.run(load.run(url, following, connections=1))


def expire(gyoza: System) -> None:
    """Let all records expire at once while somebody writes, and sweep until the disk is given back."""
    sizes = []
    writer = Writer(gyoza)
    marks = [time.perf_counter()]

    def phase(name: str) -> None:
        marks.append(time.perf_counter())
        print(f"  {name} ({marks[-1] - marks[-2]:.1f} s): a writer {writer.between(*marks[-2:])}")

    with psycopg.connect(gyoza.env["DATABASE_URL"], autocommit=True) as link:

        def disk() -> int:
            row = link.execute(
                "SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits"
                " WHERE inhparent = 'topics_event'::regclass"
            ).fetchone()
            assert row is not None
            return int(row[0])

        sizes.append(disk())
        time.sleep(5)
        phase("before")
        answer = gyoza.http.put(
            "/v0/topics/t", json={"durability": "fsync", "ttl_ms": 3_600_000}, timeout=120
        )
        assert answer.status_code == 200, answer.text
        phase("everything expires")
        for _ in range(3):
            began = time.perf_counter()
            gyoza.manage("shell", "-c", SWEEP)
            time.sleep(max(0.0, SWEEP_SECONDS - (time.perf_counter() - began)))
            phase("sweep")
        sizes.append(disk())
    writer.stop()
    print(f"  disk: {sizes[0] / 2**20:,.0f} MB → {sizes[1] / 2**20:,.0f} MB")


def main() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="gyoza-bench-") as big_home,
        tempfile.TemporaryDirectory(prefix="gyoza-bench-") as small_home,
        durable_system(Path(big_home), GYOZA_SEGMENT_RECORDS=SEGMENT) as big,
        durable_system(Path(small_home), GYOZA_SEGMENT_RECORDS=SEGMENT) as small,
    ):
        for gyoza, count in ((small, SMALL), (big, BIG)):
            gyoza.start_web()
            fill(gyoza, count)
        compare(big, small)
        expire(big)


if __name__ == "__main__":
    main()
