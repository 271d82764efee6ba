"""Many watchers of one web process: memory with 1,000 idle ones (design.md §10: ≤ 250 MB, no database connection held),
and 5,000 connected at once without an error, each of whom hears the record that is written then."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from pathlib import Path

import httpx
import psutil
import psycopg
import uvloop

from benchmarks.watchers import Watchers, raise_file_limit
from tests.system import System, system

IDLE = int(os.environ.get("IDLE", "1000"))
MANY = int(os.environ.get("MANY", "5000"))
LIMIT_MB = 250
# Beside the sockets: libraries, logs, Postgres, Redis.
OTHER_FILES = 500


def backends(gyoza: System) -> tuple[int, int]:
    """Return how many connections to Postgres the system has, and how many of them do anything."""
    with psycopg.connect(gyoza.env["DATABASE_URL"]) as link:
        row = link.execute(
            "SELECT count(*), count(*) FILTER (WHERE state <> 'idle') FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchone()
    assert row is not None
    return row


async def idle(gyoza: System, process: psutil.Process) -> None:
    empty = process.memory_info().rss / 2**20
    async with Watchers(gyoza.url, {"quiet": {}}, IDLE, lambda number, data: None) as watchers:
        await watchers.until_all_have(b"caught-up")
        # Two heartbeats, so that all has been done that idle watchers need.
        await asyncio.sleep(31)
        resident = process.memory_info().rss / 2**20
        connections, busy = backends(gyoza)
        print(
            f"{IDLE} idle watchers: {resident:.0f} MB (without: {empty:.0f} MB) ÷ {LIMIT_MB} MB:"
            f" {resident / LIMIT_MB:.2f} (at most 1)"
        )
        print(f"connections to Postgres: {connections} of a pool of 8 per kind, {busy} in use")
        assert not watchers.errors, watchers.errors[:3]


async def many(gyoza: System, process: psutil.Process) -> None:
    started = time.monotonic()
    heard: dict[int, float] = {}

    def hear(number: int, data: bytes) -> None:
        if b"hello" in data:
            heard[number] = time.monotonic()

    async with Watchers(gyoza.url, {"quiet": {"tail": True}}, MANY, hear) as watchers:
        await watchers.until_all_have(b"caught-up", 240)
        print(f"{MANY} watchers connected in {time.monotonic() - started:.0f} s")
        async with httpx.AsyncClient(base_url=gyoza.url) as client:
            sent = time.monotonic()
            await client.post("/v0/topics/quiet", json={"records": [{"data": "hello"}]})
        while len(heard) < MANY and time.monotonic() < sent + 60:
            await asyncio.sleep(0.05)
        latest = (max(heard.values()) - sent) * 1000
        print(f"{len(heard)} of them heard a record, the last after {latest:.0f} ms")
        print(f"errors: {len(watchers.errors)} {watchers.errors[:3]}")
        print(f"{process.memory_info().rss / 2**20:.0f} MB")
    print(f"heard ÷ connected: {len(heard) / MANY:.2f} (at least 1)")


def main() -> None:
    files = raise_file_limit()
    assert files > max(IDLE, MANY) + OTHER_FILES, f"only {files} open files are allowed"
    with tempfile.TemporaryDirectory(prefix="gyoza-bench-") as home, system(Path(home)) as gyoza:
        gyoza.start_web()
        gyoza.post("/v0/topics/quiet", {"records": [{"data": 0}]})
        process = psutil.Process(gyoza.processes["web"].pid)
        uvloop.run(idle(gyoza, process))
        uvloop.run(many(gyoza, process))


if __name__ == "__main__":
    main()
