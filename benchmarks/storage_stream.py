"""A small object written → its frame at who follows the execution: 2,000 by 8 writers at once (p50 ≤ 15 ms); then 500 clients of
one busy execution, none of whom misses an event.

Writers PUT one object after another, each under an execution of its own, over a connection of its own, on a Postgres that waits for
the disk. Two latencies are told: from the write (its answer, so it has been committed) and from before it was sent, which has
the write itself in it, eight at a time.
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
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psutil
import uvloop

from benchmarks.watchers import raise_file_limit
from tests.system import System, durable_system

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.queues import Queue
    from multiprocessing.synchronize import Event

OBJECTS = int(os.environ.get("OBJECTS", "2000"))
WRITERS = 8
CLIENTS = int(os.environ.get("CLIENTS", "500"))
BUSY_OBJECTS = int(os.environ.get("BUSY_OBJECTS", "2000"))
P50_MS = 15.0
# Of so many clients one is read frame by frame; of the others, events are counted.
EVERY = 50
PATIENCE = int(os.environ.get("PATIENCE", "300"))
_EVENT = b"event: storage.object.created\n"
_KEY = re.compile(rb'^id: ([0-9a-f-]{36})\n.*\n.*"key":"([^"]*)"', re.MULTILINE)

# What stands between the pieces of a long part; a frame may be cut by it, and has no carriage return of its own.
_CHUNK = re.compile(rb"\r\n[0-9a-f]+\r\n")

Heard = dict[str, float]


class _Client(asyncio.Protocol):
    """A stream, of which it counts the events, and reads those of its beginning and the order of ids if it is to."""

    def __init__(self, clients: _Clients, request: bytes, *, reads: bool) -> None:
        self._clients, self._request, self._reads = clients, request, reads
        self._rest = b""
        self.heard: Heard = {}
        self.ids: list[str] = []
        self.count = 0
        self.is_open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        data = self._rest + data
        whole, found, self._rest = data.rpartition(b"\n\n")
        if not found:
            self._rest = data
            return
        assert self.is_open or whole.startswith(b"HTTP/1.1 200"), whole[:500]
        if not self.is_open and b"retry: 3000" in whole:
            self.is_open = True
            self._clients.one_more_open()
        whole = _CHUNK.sub(b"", whole)
        if self._reads:
            for event_id, key in _KEY.findall(whole):
                self.heard[key.decode()] = now
                self.ids.append(event_id.decode())
        self.count += whole.count(_EVENT)
        if self.count >= self._clients.expected:
            self._clients.one_more_done(self)


class _Clients:
    """So many streams in one process, until each has had as many events as are expected."""

    def __init__(
        self, url: str, executions: Sequence[str], count: int, expected: int, seen: str
    ) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "", parts.port or 80)
        query = "&".join(f"execution_id={one}" for one in executions)
        self._request = (
            f"GET /api/v1/storage/events?timeout=3600&{query} HTTP/1.0\r\nHost: 127.0.0.1\r\n"
            f"Last-Event-ID: {seen}\r\n\r\n"
        ).encode()
        self.expected = expected
        self._clients = [
            _Client(self, self._request, reads=not number % EVERY) for number in range(count)
        ]
        self._open = 0
        self._done: set[_Client] = set()
        self._all_open, self._all_done = asyncio.Event(), asyncio.Event()

    def one_more_open(self) -> None:
        self._open += 1
        if self._open == len(self._clients):
            self._all_open.set()

    def one_more_done(self, client: _Client) -> None:
        self._done.add(client)
        if len(self._done) == len(self._clients):
            self._all_done.set()

    async def follow(self, ready: Event) -> tuple[Heard, list[int], bool, str]:
        """Return when the first client heard of each key, how many events each has had, whether all ids rose, and the first id."""
        loop = asyncio.get_running_loop()
        for client in self._clients:
            await loop.create_connection(partial(_itself, client), *self._address)
        async with asyncio.timeout(60):
            await self._all_open.wait()
        ready.set()
        try:
            async with asyncio.timeout(PATIENCE):
                await self._all_done.wait()
        except TimeoutError:
            pass
        rising = all(one.ids == sorted(set(one.ids)) for one in self._clients)
        for client in self._clients:
            client.transport.abort()
        first = self._clients[0]
        return first.heard, [one.count for one in self._clients], rising, min(first.ids)


def _itself(client: _Client) -> _Client:
    return client


async def _follow(
    url: str, executions: Sequence[str], count: int, expected: int, seen: str, ready: Event
) -> tuple[Heard, list[int], bool, str]:
    return await _Clients(url, executions, count, expected, seen).follow(ready)


def follow(
    url: str,
    executions: Sequence[str],
    count: int,
    expected: int,
    seen: str,
    ready: Event,
    found: Queue[Any],
) -> None:
    raise_file_limit()
    found.put(uvloop.run(_follow(url, executions, count, expected, seen, ready)))


async def write(url: str, keys: Sequence[str], at: dict[str, tuple[float, float]]) -> None:
    """PUT objects one after another, and note when each was sent and answered."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    for key in keys:
        sent = time.monotonic()
        writer.write(
            f"PUT /api/v1/storage/objects/{key} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n".encode()
            + b"x" * 100
        )
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 201"), head
        length = re.search(rb"content-length: (\d+)", head.lower())
        assert length is not None
        await reader.readexactly(int(length[1]))
        at[key] = (sent, time.monotonic())
    writer.close()


def measure(
    gyoza: System, executions: Sequence[str], objects: int, clients: int
) -> tuple[list[float], list[float], str]:
    """Let 8 write and so many follow; return the latencies from the answer and from the request, and the first id."""
    context = multiprocessing.get_context("spawn")
    ready, found = context.Event(), context.Queue()
    following = context.Process(
        target=follow, args=(gyoza.url, executions, clients, objects, "", ready, found)
    )
    web = psutil.Process(gyoza.processes["web"].pid)
    empty = web.memory_info().rss / 2**20
    following.start()
    assert ready.wait(120)
    opened = web.memory_info().rss / 2**20
    share = objects // WRITERS
    at: dict[str, tuple[float, float]] = {}
    started, before = time.monotonic(), web.cpu_times()

    async def write_all() -> None:
        await asyncio.gather(
            *(
                write(
                    gyoza.url,
                    [f"{executions[n % len(executions)]}/s/{n}-{m}" for m in range(share)],
                    at,
                )
                for n in range(WRITERS)
            )
        )

    uvloop.run(write_all())
    seconds = time.monotonic() - started
    heard, counts, rising, first = found.get(timeout=PATIENCE + 60)
    done, spent = time.monotonic() - started, web.cpu_times()
    following.join()
    print(
        f"{clients} clients, {len(at)} objects by {WRITERS} writers in {seconds:.1f} s ({len(at) / seconds:.0f}/s);"
        f" all heard after {done:.1f} s; web took {spent.user + spent.system - before.user - before.system:.1f} s"
    )
    print(
        f"heard by each ÷ written: {min(counts) / len(at):.3f} to {max(counts) / len(at):.3f} (exactly 1);"
        f" ids {'rise' if rising else 'DO NOT RISE'}"
    )
    print(
        f"memory of web: {empty:.0f} MB before, {opened:.0f} MB with the streams open,"
        f" {web.memory_info().rss / 2**20:.0f} MB at the end"
    )
    keys = at.keys() & heard.keys()
    since_answer = sorted((heard[key] - at[key][1]) * 1000 for key in keys)
    since_request = sorted((heard[key] - at[key][0]) * 1000 for key in keys)
    return since_answer, since_request, first


def come_back(gyoza: System, execution: str, seen: str, missed: int) -> None:
    """Let all clients come at once with the id of their first event, as when their process has died."""
    context = multiprocessing.get_context("spawn")
    ready, found = context.Event(), context.Queue()
    arguments = (gyoza.url, [execution], CLIENTS, missed, seen, ready, found)
    following = context.Process(target=follow, args=arguments)
    following.start()
    assert ready.wait(120)
    started = time.monotonic()
    _, counts, rising, _ = found.get(timeout=PATIENCE + 60)
    following.join()
    print(
        f"{CLIENTS} clients come back at once: the last has all {missed} it missed {time.monotonic() - started:.1f} s after the"
        f" last was let in; heard by each ÷ missed: {min(counts) / missed:.3f} to {max(counts) / missed:.3f} (exactly 1);"
        f" ids {'rise' if rising else 'DO NOT RISE'}"
    )


def told(name: str, latencies: list[float], bound: float | None) -> None:
    p50, p99 = (latencies[int(len(latencies) * share)] for share in (0.5, 0.99))
    ratio = f" ÷ {bound:.0f} ms: {p50 / bound:.2f} (at most 1)" if bound else ""
    print(f"{name}: p50 {p50:.1f} ms{ratio}, p99 {p99:.1f} ms")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="gyoza-bench-") as home:
        Path(home).chmod(0o711)
        with durable_system(Path(home)) as gyoza:
            gyoza.start_web()
            steps = [{"name": "wait", "adapter": "approve", "inputs": {"message": "?"}}]
            gyoza.post("/api/v1/pipelines/", {"id": "p", "name": "p", "steps": steps})

            def run() -> str:
                return str(gyoza.post("/api/v1/pipelines/p/run", {})["id"])

            measure(gyoza, [run()], 200, 1)  # warm
            print(f"load average: {os.getloadavg()[0]:.1f}")
            answered, sent, _ = measure(gyoza, [run() for _ in range(WRITERS)], OBJECTS, 1)
            told("write → frame, from the write", answered, P50_MS)
            told("write → frame, from the request", sent, P50_MS)
            busy = run()
            answered, _, first = measure(gyoza, [busy], BUSY_OBJECTS, CLIENTS)
            told(f"write → frame of the first of {CLIENTS}, from the write", answered, None)
            come_back(gyoza, busy, first, BUSY_OBJECTS - 1)


if __name__ == "__main__":
    main()
