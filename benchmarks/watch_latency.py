"""append → SSE frame, 100 watchers of one topic at 1,000 records/s (design.md §10: p50 ≤ 5 ms, p99 ≤ 50 ms).

Each record is a POST of its own, at a steady pace over 16 connections; its latency at a watcher is from just before the
POST is sent until the bytes of its frame are read. Writers and watchers are two processes beside the one web process.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import re
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psutil
import uvloop

from benchmarks import load
from benchmarks.watchers import Watchers
from tests.system import system

if TYPE_CHECKING:
    from multiprocessing.synchronize import Event

WATCHERS = int(os.environ.get("WATCHERS", "100"))
PER_SECOND = int(os.environ.get("PER_SECOND", "1000"))
SECONDS = float(os.environ.get("SECONDS", "10"))
WARM_UP = 2.0
CONNECTIONS = 16
# One watcher in so many is timed: reading all of their frames in Python would cost more than sending them.
EVERY = 10
P50_MS, P99_MS = 5.0, 50.0
_SENT = re.compile(rb'"data":(\d+\.\d+)')


class Writer(asyncio.Protocol):
    """A connection that carries one POST at a time."""

    def __init__(self, free: list[Writer]) -> None:
        self._free = free
        self.answers = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._free.append(self)

    def data_received(self, data: bytes) -> None:
        assert data.startswith((b"HTTP/1.1 2", b"{")), data
        if data.endswith(b"}}"):
            self.answers += 1
            self._free.append(self)


async def write(url: str, seconds: float) -> int:
    """Write a record every so often; what it says is when it was sent. Return how many were written."""
    loop = asyncio.get_running_loop()
    parts = urlsplit(url)
    free: list[Writer] = []
    writers = [Writer(free) for _ in range(CONNECTIONS)]
    for one in writers:
        await loop.create_connection(partial(_itself, one), parts.hostname or "", parts.port or 80)
    started = time.monotonic()
    sent = 0
    while (now := time.monotonic()) < started + seconds:
        while free and sent < (now - started) * PER_SECOND:
            body = b'{"records":[{"data":%.7f}]}' % time.monotonic()
            path = "/v0/topics/busy?return_seqs=false"
            free.pop(0).transport.write(load.post(path, body))
            sent += 1
        await asyncio.sleep(0.001)  # uvloop would take less for nothing
    return sum(one.answers for one in writers)


def _itself(writer: Writer) -> Writer:
    return writer


def writer(url: str, ready: Event) -> None:
    ready.wait()
    seconds = WARM_UP + SECONDS
    written = uvloop.run(write(url, seconds))
    print(f"written: {written / seconds:.0f} records/s", flush=True)


async def watch(url: str, ready: Event) -> list[float]:
    latencies: list[float] = []
    counted_from = float("inf")

    def heard(number: int, data: bytes) -> None:
        now = time.monotonic()
        if now >= counted_from:
            latencies.extend([(now - float(sent)) * 1000 for sent in _SENT.findall(data)])

    async with Watchers(url, {"busy": {"tail": True}}, WATCHERS, heard, every=EVERY) as watchers:
        await watchers.until_all_have(b"caught-up")
        ready.set()
        counted_from = time.monotonic() + WARM_UP
        await asyncio.sleep(WARM_UP + SECONDS + 1)
        print(
            f"frames: {watchers.frames * EVERY / WATCHERS / (WARM_UP + SECONDS):.0f} per watcher and second"
        )
    return latencies


def main() -> None:
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="gyoza-bench-") as home, system(Path(home)) as gyoza:
        gyoza.start_web()
        gyoza.post("/v0/topics/busy", {"records": [{"data": 0}]})
        ready = context.Event()
        writing = context.Process(target=writer, args=(gyoza.url, ready))
        writing.start()
        web = psutil.Process(gyoza.processes["web"].pid)
        before, started = web.cpu_times(), time.monotonic()
        found = sorted(uvloop.run(watch(gyoza.url, ready)))
        spent, seconds = web.cpu_times(), time.monotonic() - started
        writing.join()
        print(
            f"web took {spent.user - before.user:.1f} s in user mode and {spent.system - before.system:.1f} s"
            f" in the kernel, of {seconds:.1f} s"
        )
        print(gyoza.read_log("web").decode()[-1500:])
    assert found, "no record was heard in time"
    p50, p99 = (found[int(len(found) * share)] for share in (0.5, 0.99))
    expected = WATCHERS / EVERY * PER_SECOND * SECONDS
    print(
        f"{WATCHERS} watchers, {PER_SECOND} records/s: {len(found) / expected:.1%} of the records timed"
    )
    print(f"p50 {p50:.1f} ms ÷ {P50_MS:.0f} ms: {p50 / P50_MS:.2f} (at most 1)")
    print(f"p99 {p99:.1f} ms ÷ {P99_MS:.0f} ms: {p99 / P99_MS:.2f} (at most 1)")


if __name__ == "__main__":
    main()
