"""What the web process keeps in memory: under appends that go on and on, and under large bodies that come at once."""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

import psutil
import uvloop

from benchmarks import load
from benchmarks.topics_throughput import BATCH
from tests.system import durable_system

if TYPE_CHECKING:
    from tests.system import System

SECONDS = float(os.environ.get("SECONDS", "600"))
CONNECTIONS = int(os.environ.get("CONNECTIONS", "64"))
CLIENTS = int(os.environ.get("CLIENTS", "200"))
BODY_BYTES = int(os.environ.get("BODY_BYTES", str(64 * 1024 * 1024 - 1024)))
LIMIT_MB = 250
_RECORD = b'{"data":"%b"}' % (b"x" * 100_000)


class Sampler:
    """Looks at the resident memory of the web process until the block ends."""

    def __init__(self, gyoza: System, every: float) -> None:
        self._process = psutil.Process(gyoza.processes["web"].pid)
        self._every = every
        self._stop = threading.Event()
        self.megabytes: list[float] = []

    def __enter__(self) -> Sampler:
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(self._every):
            self.megabytes.append(self._process.memory_info().rss / 2**20)


def sustained(gyoza: System) -> None:
    request = load.post("/v0/topics/t?return_seqs=false", BATCH)
    following = load.for_seconds(SECONDS, lambda: request)
    with Sampler(gyoza, SECONDS / 300) as sampler:
        sent = uvloop.run(load.run(gyoza.url, following, connections=CONNECTIONS))
    # The first tenth is warming up: pools, caches, code.
    megabytes = sampler.megabytes[len(sampler.megabytes) // 10 :]
    third = len(megabytes) // 3
    first, last = mean(megabytes[:third]), mean(megabytes[-third:])
    print(
        f"{sent.requests * 100:,} records in {SECONDS:.0f} s, {CONNECTIONS} connections: first third {first:.0f} MB,"
        f" last third {last:.0f} MB, last ÷ first {last / first:.2f} (flat: at most 1.05)"
    )
    print(
        f"most {max(megabytes):.0f} MB ÷ {LIMIT_MB} MB: {max(megabytes) / LIMIT_MB:.2f} (at most 1)"
    )


def flood(gyoza: System) -> None:
    count = BODY_BYTES // len(_RECORD) - 1
    body = b'{"records":[%b]}' % b",".join([_RECORD] * count)
    head = (
        b"POST /v0/topics/large HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body)
    )

    async def client() -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", gyoza.port)
        answer = asyncio.create_task(reader.readline())
        view = memoryview(body)
        try:
            writer.write(head)
            for start in range(0, len(view), 1 << 20):
                if answer.done():
                    break
                writer.write(view[start : start + (1 << 20)])
                await writer.drain()
            return (await answer).decode().strip()
        except ConnectionError:
            return "connection lost"
        finally:
            answer.cancel()
            writer.transport.abort()

    async def crowd() -> list[str]:
        return list(await asyncio.gather(*[client() for _ in range(CLIENTS)]))

    began = time.perf_counter()
    with Sampler(gyoza, 0.02) as sampler:
        answers = Counter(uvloop.run(crowd()))
    print(
        f"{CLIENTS} clients × {len(body) / 2**20:.0f} MiB at once ({time.perf_counter() - began:.1f} s):"
        f" most {max(sampler.megabytes):,.0f} MB, answers {dict(answers)}"
    )


def main() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="gyoza-bench-") as home,
        durable_system(Path(home)) as gyoza,
    ):
        gyoza.start_web()
        gyoza.http.put("/v0/topics/t", json={"cap_records": 100_000})
        sustained(gyoza)
        flood(gyoza)


if __name__ == "__main__":
    main()
