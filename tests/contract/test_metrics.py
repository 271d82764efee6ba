"""GET /metrics: the whole service for Prometheus."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection

from apps.core import asyncdb, clock, sql
from apps.pipelines import metrics as pipelines
from apps.pipelines.models import Execution
from apps.pipelines.states import EXECUTION_MOVES
from apps.pipelines.states import FINAL as FINAL_EXECUTIONS
from apps.runs import metrics as runs
from apps.runs.states import FINAL, RunState, WorkerState
from apps.storage import metrics as storage
from tests.cast import make_key
from tests.factories import make_run, make_worker
from tests.object_client import call
from tests.object_writer import delete, open_space, write

pytestmark = pytest.mark.django_db(transaction=True)


def scraped(**options: Any) -> dict[str, float]:
    answer = call("GET", "/metrics", **options)
    assert answer.status == 200, answer.content
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = [line for line in answer.content.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def make_execution(status: str = "running", **over: Any) -> None:
    ended = {"completed_at": clock.now()} if status in FINAL_EXECUTIONS else {}
    Execution.objects.create(
        pipeline_id="p", pipeline_version=1, status=status, document="{}", **ended, **over
    )


def test_it_counts_what_has_not_ended():
    make_worker("idle")
    make_worker("leaving", state=WorkerState.DRAINING)
    make_worker("gone", state=WorkerState.LOST)
    for state in (*RunState, RunState.PENDING):
        make_run(state)
    make_run(scheduled_at=clock.now() + timedelta(hours=1))
    make_run(scheduled_at=clock.now() - timedelta(hours=1))
    for status in EXECUTION_MOVES:
        make_execution(status)
    make_execution(is_queued=True)
    found = scraped()
    assert {name: value for name, value in found.items() if name.startswith("gyoza_runs")} == {
        'gyoza_runs{state="PENDING"}': 4,
        'gyoza_runs{state="ASSIGNED"}': 1,
        'gyoza_runs{state="RUNNING"}': 1,
        "gyoza_runs_delayed": 1,
    }
    assert found['gyoza_workers{state="READY"}'] == 1
    assert found['gyoza_workers{state="DRAINING"}'] == 1
    assert found['gyoza_executions{status="running"}'] == 2
    assert found['gyoza_executions{status="interrupted"}'] == 1
    assert found["gyoza_executions_queued"] == 1


def test_every_state_that_is_not_final_is_there():
    found = scraped()
    states = {match[1] for name in found if (match := re.match(r'gyoza_runs{state="(\w+)"}', name))}
    assert states == {*map(str, RunState)} - {*map(str, FINAL)}
    states = {
        match[1] for name in found if (match := re.match(r'gyoza_executions{status="(\w+)"}', name))
    }
    assert states == {*map(str, EXECUTION_MOVES)} - {*map(str, FINAL_EXECUTIONS)}


def test_it_tells_what_v0_metrics_tells_and_more():
    def told(path: str) -> set[str]:
        lines = call("GET", path).content.decode().splitlines()
        return {line for line in lines if line.startswith("# TYPE")}

    more = told("/metrics") - told("/v0/metrics")
    assert told("/v0/metrics") < told("/metrics")
    assert all(line.startswith("# TYPE gyoza_") for line in more)


def test_it_tells_how_much_is_stored():
    found = scraped()
    assert (found["gyoza_storage_objects"], found["gyoza_storage_bytes"]) == (0, 0)
    first, second = open_space(), open_space()
    write(first, "s/a", "s/b", "s/a")
    write(second, "s/a")
    delete(first, ["s/b"])
    found = scraped()
    assert (found["gyoza_storage_objects"], found["gyoza_storage_bytes"]) == (2, 2)


def test_it_tells_how_much_room_objects_have():
    found = scraped()
    assert 0 < found["gyoza_storage_disk_free_bytes"] <= found["gyoza_storage_disk_bytes"]
    assert found["gyoza_storage_leftovers"] == 0


def test_more_than_it_counts_is_not_counted(monkeypatch: pytest.MonkeyPatch):
    for module in (runs, pipelines, storage):
        monkeypatch.setattr(module, "MOST_COUNTED", 2)
    for _ in range(4):
        make_run()
        make_execution()
    found = scraped()
    assert found['gyoza_runs{state="PENDING"}'] == 2
    assert found['gyoza_executions{status="running"}'] == 2


@pytest.mark.parametrize(
    ("statement", "indexes"),
    [
        ("runs/count_runs", ["run_by_state", "run_due"]),
        ("pipelines/count_executions", ["execution_under_way", "execution_by_status"]),
    ],
)
def test_counting_reads_indexes_alone(statement: str, indexes: list[str]):
    with connection.cursor() as cursor:
        cursor.execute("SET enable_seqscan = off")
        cursor.execute(f"EXPLAIN {sql.statement(statement)}", {"most": 10, "now": clock.now()})
        plan = "\n".join(row[0] for row in cursor.fetchall())
        cursor.execute("RESET enable_seqscan")
    assert [name for name in indexes if name not in plan] == []
    assert "Seq Scan" not in plan


def test_without_postgres_it_tells_of_this_process(monkeypatch: pytest.MonkeyPatch):
    def nothing(*_: Any, **__: Any) -> Any:
        raise psycopg.OperationalError("away")

    monkeypatch.setattr(asyncdb, "connection", nothing)
    found = scraped()
    assert found["topics_ready"] == 0
    assert not [name for name in found if name.startswith("gyoza_")]


def test_it_needs_the_scope_read():
    reader, writer = make_key("r", "read"), make_key("w", "write")
    assert call("GET", "/metrics").status == 401
    assert call("GET", "/metrics", key=writer).status == 403
    assert scraped(key=reader)["topics_ready"] == 1
