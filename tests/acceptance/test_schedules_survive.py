"""Schedules with real beats: what was due while nobody was there is started once, whoever is killed and however often."""

from __future__ import annotations

import sys
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import psycopg
import pytest
import redis

from tests.system import system

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.system import System

pytestmark = pytest.mark.acceptance

PIPELINES = 20
BEAT = [
    sys.executable,
    "-m",
    "celery",
    "-A",
    "gyoza_site.celery",
    "beat",
    "--pidfile=",
    "-l",
    "INFO",
]


@pytest.fixture
def gyoza(tmp_path: Path) -> Iterator[System]:
    with system(tmp_path) as opened:
        opened.start_web()
        yield opened


def make_due(gyoza: System) -> None:
    """Let every schedule have been due for years, as if all had been away."""
    with psycopg.connect(gyoza.env["DATABASE_URL"], autocommit=True) as link:
        link.execute("UPDATE pipelines_schedule SET next_at = '2020-01-01T00:00:00Z'")


def started(gyoza: System) -> Counter[str]:
    found = gyoza.get("/api/v1/executions/", limit=100)["executions"]
    return Counter(one["pipeline_id"] for one in found)


def test_what_was_due_is_started_once_by_two_beats_that_are_killed(gyoza: System):
    for number in range(PIPELINES):
        document = {
            "id": f"yearly{number}",
            "name": "Yearly",
            "options": {"schedule": "0 0 1 1 *"},
            "steps": [{"name": "a", "adapter": "transform", "inputs": {"expr": "@", "data": 1}}],
        }
        gyoza.post("/api/v1/pipelines/", document)
    make_due(gyoza)
    gyoza.start_worker()
    broker = redis.Redis.from_url(gyoza.env["REDIS_URL"])
    for round_ in range(4):
        said = len(gyoza.read_log("beat"))
        for name in ("beat", "other-beat"):
            gyoza.start(name, BEAT)
        if round_ < 3:
            # In the middle of whatever they are at.
            gyoza.wait_for(
                lambda: b"Schedule changed" in gyoza.read_log("beat")[said:],  # noqa: B023
                "beat goes by the rows",
            )
            for name in ("beat", "other-beat"):
                gyoza.kill(name)
            broker.flushall()
        if round_ == 1:
            gyoza.kill("worker")
            gyoza.start_worker()
    expected = Counter({f"yearly{number}": 1 for number in range(PIPELINES)})
    gyoza.wait_for(lambda: started(gyoza) >= expected, "each is started")
    gyoza.wait_for(
        lambda: gyoza.get("/api/v1/executions/", status="running")["total"] == 0, "all have ended"
    )
    assert started(gyoza) == expected
    this_year = f"{datetime.now(UTC).year}-01-01T00:00:00.000000Z"
    for one in gyoza.get("/api/v1/executions/", limit=100)["executions"]:
        assert one["trigger"]["scheduled_at"] == this_year
        assert one["status"] == "completed"
    # A row that forgets what it has started starts nothing twice.
    make_due(gyoza)
    gyoza.wait_for(
        lambda: not gyoza.get("/api/v1/pipelines/yearly0/schedule")["next_at"].startswith("2020"),
        "the sweep has looked",
    )
    assert started(gyoza) == expected
