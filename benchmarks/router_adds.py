"""What a router adds to the way of a record: seen in its destination after it was seen in its source (p50 ≤ 10 ms).

One reader waits at the source, one at each destination; a record is written, and the readers' answers are timed. Then
the backlog: how fast a router that is behind catches up, ÷ how fast the same records were appended over HTTP.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time
from pathlib import Path
from statistics import quantiles
from typing import Any

import httpx

from benchmarks import load
from tests.system import System, durable_system

RECORDS = int(os.environ.get("RECORDS", "200"))
BACKLOG = int(os.environ.get("BACKLOG", "50000"))
LIMIT_MS = 10.0
DESTS = ("one", "two", "three")


async def wait_at(http: httpx.AsyncClient, topic: str, after: int) -> float:
    """Return when a waiting reader had the next record."""
    body = {"from_seq": after, "wait_ms": 30_000}
    page = (await http.post(f"/v0/topics/{topic}/diff", json=body)).json()
    arrived = time.perf_counter()
    if not page["records"]:
        raise RuntimeError(f"nothing arrived at {topic}")
    return arrived


async def added(http: httpx.AsyncClient, source: str, dests: tuple[str, ...]) -> list[float]:
    """Return, for each record, the milliseconds between its source's reader and its last destination's."""
    found = []
    seq = (await http.get(f"/v0/topics/{source}")).json()["head_seq"]
    heads = [(await http.get(f"/v0/topics/{dest}")).json()["head_seq"] for dest in dests]
    for number in range(RECORDS):
        readers = [
            asyncio.create_task(wait_at(http, topic, after + number))
            for topic, after in zip((source, *dests), (seq, *heads), strict=True)
        ]
        await asyncio.sleep(0.03)  # idle: the readers wait, nothing else happens
        await http.post(f"/v0/topics/{source}", json={"records": [{"data": number}]})
        there, *copied = await asyncio.gather(*readers)
        found.append((max(copied) - there) * 1000)
    return found


def told(name: str, values: list[float]) -> None:
    cuts = quantiles(sorted(values), n=100)
    print(f"{name}: p50 {cuts[49]:.1f} ms, p99 {cuts[98]:.1f} ms")
    print(f"p50 ÷ {LIMIT_MS:.0f} ms: {cuts[49] / LIMIT_MS:.2f} (at most 1)")


async def measure(url: str) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=60) as http:
        await added(http, "alone", ("only",))  # warm
        told(f"one router, idle, {RECORDS} records", await added(http, "alone", ("only",)))
        told(
            f"three routers of one source, the last copy of {RECORDS}",
            await added(http, "shared", DESTS),
        )


def backlog(gyoza: System) -> None:
    body = json.dumps({"records": [{"data": {"x": "a" * 92}}] * 100}).encode()
    request = load.post("/v0/topics/backlog?return_seqs=false", body)
    left = BACKLOG // 100

    def following() -> bytes | None:
        nonlocal left
        left -= 1
        return request if left >= 0 else None

    put(gyoza, "behind", "backlog", "late", filter="nothing")
    written = asyncio.run(load.run(gyoza.url, following, connections=8))
    rate = written.requests * 100 / written.seconds
    # Made again from the beginning: as if nobody had forwarded.
    put(gyoza, "behind", "backlog", "late")
    gyoza.manage("shell", "-c", REWIND)
    began = time.perf_counter()
    state = gyoza.get("/v0/topics/late")
    seconds = time.perf_counter() - began
    caught_up = state["count"] / seconds
    print(
        f"a read that finds {state['count']:,} records owed: {seconds:.2f} s, {caught_up:,.0f} copies/s"
        f" ÷ {rate:,.0f} records/s in batches of 100 over HTTP: {caught_up / rate:.2f}"
    )


REWIND = (
    "from apps.topics.models import Router; Router.objects.filter(name='behind').update(position=0)"
)


def put(gyoza: System, router: str, source: str, dest: str, **over: Any) -> None:
    answer = gyoza.http.put(f"/v0/routers/{router}", json={"source": source, "dest": dest, **over})
    answer.raise_for_status()


def main() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="gyoza-bench-") as home,
        durable_system(Path(home)) as gyoza,
    ):
        gyoza.start_web()
        put(gyoza, "to-only", "alone", "only")
        for dest in DESTS:
            put(gyoza, f"to-{dest}", "shared", dest)
        asyncio.run(measure(gyoza.url))
        backlog(gyoza)


if __name__ == "__main__":
    main()
