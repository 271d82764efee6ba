"""Pages of an execution's storage with 100,000 objects in one stage and as many in folders: p95 ÷ the 30 ms it may take.

python -m benchmarks.storage_list_100k [--objects 100000] [--requests 200]
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from benchmarks.storage_writes import open_executions
from tests.system import durable_system

if TYPE_CHECKING:
    from tests.system import System

LIMIT_MS = 30
# A flat stage, and one of a hundred folders.
FILL = """
INSERT INTO storage_object (id, space_id, name, stage, folder, extension, content_type, content_length, sha256, blob,
                            metadata, created_at, modified_at)
SELECT gen_random_uuid(), %(space)s, folder || to_char(n, 'FM000000') || extension, stage, folder, extension, 'text/plain',
       1000, repeat('0', 64), md5(folder || n), '{}', now(), now()
FROM (
  SELECT n, CASE n %% 10 WHEN 0 THEN '.md' ELSE '.json' END AS extension, stage,
         CASE stage WHEN 'flat' THEN 'flat/' ELSE 'deep/' || to_char(n %% 100, 'FM00') || '/' END AS folder
  FROM generate_series(1, %(objects)s) AS n, (VALUES ('flat'), ('deep')) AS s (stage)
) AS made
"""
SUMS = """
INSERT INTO storage_stagetotal (space_id, stage, count, bytes)
SELECT space_id, stage, count(*), sum(content_length) FROM storage_object GROUP BY space_id, stage
"""
QUERIES = {
    "a stage, first page": "&stage=flat",
    "a stage, any page": "&stage=flat&offset={offset}",
    "a stage, last page": "&stage=flat&offset={last}",
    "a stage, 1,000 a page": "&stage=flat&offset={offset}&limit=1000",
    "everything, any page": "&offset={offset}",
    "a folder by its prefix": "&prefix=deep/{folder:02d}/",
    "folders of a stage": "&prefix=deep/&delimiter=/",
    "a flat stage as a folder": "&prefix=flat/&delimiter=/&offset={offset}",
    "a stage, by extension": "&stage=flat&extension=md&offset={tenth}",
    "a stage, by a prefix of a tenth": "&prefix=flat/05",
}


def measure(
    gyoza: System, execution: str, pattern: str, objects: int, requests: int
) -> list[float]:
    """Return the sorted latencies of one kind of request, in milliseconds, one after another."""
    http = HTTPConnection("127.0.0.1", gyoza.port)
    latencies = []
    for _ in range(requests):
        query = pattern.format(
            offset=random.randrange(objects - 1000),
            last=objects - 100,
            tenth=random.randrange(objects // 10 - 100),
            folder=random.randrange(100),
        )
        started = time.perf_counter()
        http.request("GET", f"/api/v1/storage/objects?execution_id={execution}{query}")
        answer = http.getresponse()
        body = answer.read()
        latencies.append((time.perf_counter() - started) * 1000)
        assert answer.status == 200, body
    http.close()
    return sorted(latencies)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=100_000)
    parser.add_argument("--requests", type=int, default=200)
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="gyoza-bench-") as home,
        durable_system(Path(home)) as gyoza,
    ):
        gyoza.start_web()
        (execution,) = open_executions(gyoza, 1)
        with psycopg.connect(gyoza.env["DATABASE_URL"], autocommit=True) as link:
            link.execute(FILL, {"space": execution, "objects": given.objects})
            link.execute(SUMS)
            link.execute("UPDATE storage_space SET count = %s", [2 * given.objects])
            link.execute("VACUUM ANALYZE storage_object")
        print(f"load {os.getloadavg()[0]:.1f}")
        for name, pattern in QUERIES.items():
            measure(gyoza, execution, pattern, given.objects, 10)
            found = measure(gyoza, execution, pattern, given.objects, given.requests)
            p50, p95 = found[len(found) // 2], found[int(len(found) * 0.95)]
            print(
                f"{name:34} p50 {p50:6.1f} ms   p95 {p95:6.1f} ms   ÷ {LIMIT_MS} ms = {p95 / LIMIT_MS:.2f}"
            )


if __name__ == "__main__":
    main()
