"""Commit order: writers that hold their transactions open for random times, readers throughout (design.md §10).

Half of the writers append inside transactions of their own and pause before they commit, as workers do; the other half
over HTTP. Whatever a reader has passed by must not appear later: 0 missed, 0 doubled, 0 out of order. Meanwhile the log
is cut into segments again and again.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from tests.log_client import END, Client
from tests.system import ROOT, durable_system

if TYPE_CHECKING:
    from tests.system import System

RECORDS = int(os.environ.get("RECORDS", "1_000_000"))
WRITERS, READERS = 16, 8
TOPICS = ["order.a", "order.b", "order.c", "order.d"]
MOST = 100
SEGMENT = "20000"
# One in ten holds its transaction for up to three milliseconds.
HOLD_SHARE, HOLD_SECONDS = 0.1, 0.003


def batches(number: int) -> list[tuple[str, list[list[int]]]]:
    """Return what a writer writes: batches of one to MOST records, to the topics at random."""
    chance = random.Random(number)
    left, found = RECORDS // WRITERS, []
    while left:
        size = min(left, chance.randint(1, MOST))
        records = [[number, left - item] for item in range(size)]
        found.append((chance.choice(TOPICS), records))
        left -= size
    return found


def write_in_transactions(number: int) -> None:
    import django

    django.setup()
    from django.db import transaction

    from apps.topics.services import NewEvent, append_events

    chance = random.Random(-number)
    for topic, records in batches(number):
        with transaction.atomic():
            append_events([NewEvent(topic, json.dumps(record)) for record in records])
            if chance.random() < HOLD_SHARE:
                time.sleep(chance.random() * HOLD_SECONDS)


def write_over_http(number: int, urls: str) -> None:
    client = Client(urls.split(","))
    for topic, records in batches(number):
        body = {"records": [{"data": record} for record in records]}
        while client.post(f"/v0/topics/{topic}?return_seqs=false", body) is None:
            raise SystemExit("an append was not acknowledged")


def sweep_on_and_on() -> None:
    import django

    django.setup()
    from apps.topics.disk import sweep

    while True:
        sweep.trim_records()
        time.sleep(0.2)


def read(topic: str, urls: str) -> None:
    """Follow a topic to its end, and print what was wrong with what was seen."""
    client = Client(urls.split(","))
    after = expected = 0
    counts = {"records": 0, "missed": 0, "doubled": 0, "out of order": 0}
    seen: set[tuple[int, ...]] = set()
    while True:
        path = f"/v0/topics/{topic}/diff"
        page = client.post(path, {"from_seq": after, "limit": 1000, "wait_ms": 1000})
        client.turn()
        assert page is not None
        for record in page["records"]:
            if record["data"] == END:
                print(json.dumps(counts))
                return
            expected += 1
            counts["missed"] += max(record["$seq"] - expected, 0)
            counts["out of order"] += record["$seq"] < expected
            counts["doubled"] += tuple(record["data"]) in seen
            seen.add(tuple(record["data"]))
            counts["records"] += 1
            expected = record["$seq"]
        after = page["next_from_seq"]


def crowd(gyoza: System) -> list[dict[str, Any]]:
    """Let everybody loose; return what each reader has counted."""
    urls = f"{gyoza.url},{gyoza.url_of('other')}"

    def start(stack: ExitStack, *arguments: str) -> subprocess.Popen[str]:
        argv = [sys.executable, "-m", "benchmarks.commit_order", *arguments]
        process = subprocess.Popen(argv, cwd=ROOT, env=gyoza.env, stdout=subprocess.PIPE, text=True)
        return stack.enter_context(process)

    with ExitStack() as stack:
        sweeper = start(stack, "sweep")
        stack.callback(sweeper.kill)
        readers = [
            start(stack, "read", TOPICS[number % len(TOPICS)], urls) for number in range(READERS)
        ]
        writers = [
            start(stack, "hold", str(number))
            if number % 2
            else start(stack, "post", str(number), urls)
            for number in range(WRITERS)
        ]
        assert [writer.wait() for writer in writers] == [0] * WRITERS
        for topic in TOPICS:
            gyoza.post(f"/v0/topics/{topic}", {"records": [{"data": END}]})
        said = [reader.communicate()[0] for reader in readers]
    return [json.loads(line) for line in said]


def main() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="gyoza-bench-") as home,
        durable_system(Path(home), GYOZA_SEGMENT_RECORDS=SEGMENT) as gyoza,
    ):
        gyoza.start_web()
        gyoza.start_web("other")
        for topic in TOPICS:
            gyoza.http.put(f"/v0/topics/{topic}", json={})
        began = time.perf_counter()
        counts = crowd(gyoza)
        seconds = time.perf_counter() - began
        with psycopg.connect(gyoza.env["DATABASE_URL"]) as link:
            found = link.execute(
                "SELECT count(*) FROM pg_inherits WHERE inhparent = 'topics_event'::regclass"
            ).fetchone()
        assert found is not None
        assert sum(one["records"] for one in counts) == READERS // len(TOPICS) * RECORDS
        wrong = {
            name: sum(one[name] for one in counts) for name in ("missed", "doubled", "out of order")
        }
        print(
            f"{RECORDS:,} records by {WRITERS} writers, each read by {READERS // len(TOPICS)} of {READERS} readers,"
            f" in {seconds:.0f} s, {found[0]} segments at the end: {wrong} (0 each)"
        )


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["hold", number]:
            write_in_transactions(int(number))
        case ["post", number, urls]:
            write_over_http(int(number), urls)
        case ["sweep"]:
            sweep_on_and_on()
        case ["read", topic, urls]:
            read(topic, urls)
        case _:
            main()
