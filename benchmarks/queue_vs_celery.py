"""Jobs through a durable queue over HTTP ÷ no-op tasks through bare Celery: same Redis machine, one run, side by side.

Both sides: the jobs are queued first, then consumed. Ours: 20 workers, each claims 8 jobs and acks them, over and over;
every write, lease and ack is flushed (`durability: fsync`, `leases_durable`). Celery's: a worker with 20 threads runs
tasks that do nothing and keep no result.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import msgspec

os.environ.setdefault("RUNS", os.environ.get("JOBS", "20000"))
os.environ.setdefault("CONCURRENCY", "20")

from benchmarks.load import post
from benchmarks.runs_vs_celery import CONCURRENCY, ROUNDS, RUNS, bare_celery
from tests.system import System, durable_system

BATCH = 8
CONFIG = {"type": "queue", "durability": "fsync", "leases_durable": True}


class _Job(msgspec.Struct):
    seq: int = msgspec.field(name="$seq")
    lease_id: str


class _Claimed(msgspec.Struct):
    claimed: list[_Job]


_claimed = msgspec.json.Decoder(_Claimed)


class Worker(asyncio.Protocol):
    """Claims and acks over one connection until there is nothing left."""

    def __init__(self, queue: str, node: str, done: asyncio.Future[int]) -> None:
        self._path, self._node, self._done = f"/v0/topics/{queue}", node, done
        self._buffer = b""
        self._is_claiming = False
        self._jobs = 0
        self._ask = post(f"{self._path}/claim", msgspec.json.encode({"node": node, "max": BATCH}))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._claim()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r")[0])
        if len(body) < length:
            return
        self._buffer = b""
        if not head.startswith(b"HTTP/1.1 2"):
            self._done.set_exception(RuntimeError(body.decode()))
        elif self._is_claiming:
            self._ack(_claimed.decode(body).claimed)
        else:
            self._claim()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(exc or ConnectionError("the server hung up"))

    def _claim(self) -> None:
        self._is_claiming = True
        self._transport.write(self._ask)

    def _ack(self, jobs: list[_Job]) -> None:
        if not jobs:
            self._done.set_result(self._jobs)
            self._transport.close()
            return
        self._jobs += len(jobs)
        self._is_claiming = False
        body = {
            "node": self._node,
            "seqs": [job.seq for job in jobs],
            "lease_ids": [job.lease_id for job in jobs],
        }
        self._transport.write(post(f"{self._path}/ack", msgspec.json.encode(body)))


async def _consume(url: str, queue: str) -> int:
    loop = asyncio.get_running_loop()
    parts = urlsplit(url)
    ends: list[asyncio.Future[int]] = []
    for number in range(CONCURRENCY):
        done: asyncio.Future[int] = loop.create_future()
        make: Any = partial(Worker, queue, f"worker-{number}", done)
        await loop.create_connection(make, parts.hostname or "", parts.port or 80)
        ends.append(done)
    return sum(await asyncio.gather(*ends))


def queue_of_ours(gyoza: System, name: str) -> float:
    """Return how many jobs per second the workers claim and ack."""
    answer = gyoza.http.put(f"/v0/topics/{name}", json=CONFIG)
    assert answer.status_code == 201, answer.text
    for begin in range(0, RUNS, 1000):
        records = [{"data": {"job": n}} for n in range(begin, min(begin + 1000, RUNS))]
        gyoza.post(f"/v0/topics/{name}", {"records": records}, params={"return_seqs": "false"})
    began = time.perf_counter()
    jobs = asyncio.run(_consume(gyoza.url, name))
    seconds = time.perf_counter() - began
    assert jobs == RUNS, f"{jobs} of {RUNS} jobs came"
    assert gyoza.get(f"/v0/topics/{name}")["count"] == 0
    return jobs / seconds


def main() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="gyoza-bench-") as home,
        durable_system(Path(home)) as gyoza,
    ):
        gyoza.start_web()
        ratios = []
        for number in range(1, ROUNDS + 1):
            bare, ours = bare_celery(gyoza), queue_of_ours(gyoza, f"jobs-{number}")
            ratios.append(ours / bare)
            print(
                f"round {number}: {ours:,.0f} jobs/s ÷ bare Celery {bare:,.0f}/s = {ours / bare:.2f}"
            )
        print(
            f"jobs claimed by 8 and acked, {CONCURRENCY} workers, flushed ÷ bare Celery no-op tasks:"
            f" {median(ratios):.2f} (at least 2)"
        )


if __name__ == "__main__":
    main()
