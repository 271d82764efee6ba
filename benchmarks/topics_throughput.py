"""Appends and reads over HTTP ÷ what Postgres itself does with the same rows in the same table (design.md §10).

Postgres flushes every commit here. Each ratio is of two measurements that follow each other; the median of ROUNDS counts.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import psutil
import psycopg
import uvloop

from apps.stack.postgres import Postgres
from benchmarks import load
from tests.system import durable_system

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.system import System

ROUNDS = int(os.environ.get("ROUNDS", "5"))
SECONDS = float(os.environ.get("SECONDS", "3"))
CONNECTIONS = int(os.environ.get("CONNECTIONS", "64"))
ONLY = os.environ.get("ONLY", "batch single diff").split()
DURABILITY = os.environ.get("DURABILITY", "fsync")

DATA = '{"sensor":"north-7","value":21.53,"unit":"C","flags":["a","b"],"note":"%s"}' % ("x" * 50)
BATCH = b'{"records":[%b]}' % b",".join([b'{"data":%b}' % DATA.encode()] * 100)
ONE = b'{"records":[{"data":%b}]}' % DATA.encode()


@dataclass(slots=True)
class Bench:
    gyoza: System
    server: Postgres
    link: psycopg.Connection[tuple[object, ...]]
    copied: int = 0

    def send(self, following: Callable[[], bytes | None], connections: int) -> load.Load:
        """Send requests, and say what each side of it took of the two cores."""
        before = self._cpu()
        sent = uvloop.run(load.run(self.gyoza.url, following, connections=connections))
        spent = {name: used - before[name] for name, used in self._cpu().items()}
        shares = ", ".join(f"{name} {used / sent.seconds:.2f}" for name, used in spent.items())
        print(f"    {sent.requests} requests in {sent.seconds:.1f} s; cores used: {shares}")
        return sent

    def _cpu(self) -> dict[str, float]:
        web = psutil.Process(self.gyoza.processes["web"].pid).cpu_times()
        times = [
            spent for process in psutil.process_iter() if (spent := self._backend_times(process))
        ]
        return {
            "client": time.process_time(),
            "web": web.user + web.system,
            "postgres": sum(t.user + t.system for t in times),
        }

    def _backend_times(self, process: psutil.Process) -> Any:
        try:
            if process.name() == "postgres" and process.cwd() == str(self.server.data):
                return process.cpu_times()
        except psutil.Error:
            pass  # it has ended meanwhile
        return None

    def copy_in(self, rows: int) -> float:
        """Return the rows/s of one COPY into the table of records."""
        first = self.copied + 1
        self.copied += rows
        size = len(DATA)
        text = [
            f"0\t{n}\t1700000000000\t{n * size}\t{size}\t{DATA}\n".encode()
            for n in range(first, first + rows)
        ]
        parts = [b"".join(text[at : at + 500]) for at in range(0, rows, 500)]
        started = time.perf_counter()
        with self.link.cursor().copy(
            "COPY topics_event (topic_id, seq, ts, total, size, data) FROM STDIN"
        ) as copy:
            for part in parts:
                copy.write(part)
        return rows / (time.perf_counter() - started)

    def copy_out(self, topic: str) -> float:
        """Return the rows/s of one COPY of the records of a topic."""
        started = time.perf_counter()
        count = 0
        with self.link.cursor().copy(
            "COPY (SELECT seq, ts, node, data, meta FROM topics_event WHERE topic_id ="
            " (SELECT id FROM topics_topic WHERE name = %s) ORDER BY seq) TO STDOUT",
            [topic],
        ) as copy:
            for part in copy:
                count += bytes(part).count(b"\n")
        return count / (time.perf_counter() - started)

    def pgbench(self) -> float:
        """Return the single inserts/s of eight clients of pgbench."""
        script = self.gyoza.home / "insert.sql"
        script.write_text(
            "INSERT INTO topics_event (topic_id, seq, ts, total, size, data)"
            f" VALUES (-1, nextval('bench_seq'), 1700000000000, 0, {len(DATA)}, '{DATA}');\n"
        )
        done = subprocess.run(
            [
                str(self.server.programs / "pgbench"), "--no-vacuum", "--protocol", "prepared", "--client", "8",
                "--jobs", "1", "--time", str(max(int(SECONDS), 1)), "--file", str(script),
                "--host", str(self.server.sockets), "--username", "gyoza", self.link.info.dbname,
            ],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        found = re.search(r"tps = ([\d.]+)", done.stdout)
        assert found, done.stdout
        return float(found[1])


def batch(bench: Bench) -> float:
    request = load.post("/v0/topics/batch?return_seqs=false", BATCH)
    sent = bench.send(load.for_seconds(SECONDS, lambda: request), CONNECTIONS)
    ours = 100 * sent.per_second
    theirs = bench.copy_in(int(min(ours * SECONDS, 1_000_000)))
    print(f"  batches of 100: {ours:,.0f} records/s ÷ COPY {theirs:,.0f}/s = {ours / theirs:.2f}")
    return ours / theirs


def single(bench: Bench) -> float:
    request = load.post("/v0/topics/single", ONE)
    ours = bench.send(load.for_seconds(SECONDS, lambda: request), CONNECTIONS).per_second
    theirs = bench.pgbench()
    print(f"  single records: {ours:,.0f}/s ÷ pgbench {theirs:,.0f}/s = {ours / theirs:.2f}")
    return ours / theirs


def diff(bench: Bench) -> float:
    head = bench.gyoza.get("/v0/topics/batch")["head_seq"]
    pages = iter(range(0, 10**12, 1000))

    def following() -> bytes:
        after = next(pages) % (head - 1000)
        return load.post("/v0/topics/batch/diff", b'{"from_seq":%d,"limit":1000}' % after)

    ours = 1000 * bench.send(load.for_seconds(SECONDS, following), 4).per_second
    theirs = bench.copy_out("batch")
    print(f"  diff of 1000: {ours:,.0f} records/s ÷ COPY TO {theirs:,.0f}/s = {ours / theirs:.2f}")
    return ours / theirs


FIGURES = {"batch": (batch, 0.5), "single": (single, 0.4), "diff": (diff, 0.4)}


def main() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="gyoza-bench-") as home,
        durable_system(Path(home)) as gyoza,
        psycopg.connect(gyoza.env["DATABASE_URL"], autocommit=True) as link,
    ):
        gyoza.start_web()
        link.execute("CREATE SEQUENCE bench_seq")
        for topic in ("batch", "single"):
            answer = gyoza.http.put(f"/v0/topics/{topic}", json={"durability": DURABILITY})
            assert answer.status_code < 300, answer.text
        bench = Bench(gyoza, Postgres(Path(home) / "durable"), link)
        ratios: dict[str, list[float]] = {name: [] for name in ONLY}
        for round_ in range(ROUNDS):
            print(f"round {round_ + 1}")
            for name in ONLY:
                ratios[name].append(FIGURES[name][0](bench))
        for name in ONLY:
            print(f"{name}: {median(ratios[name]):.2f} (at least {FIGURES[name][1]})")


if __name__ == "__main__":
    main()
