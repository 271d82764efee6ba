"""topics v0 §20: health, readiness, metrics."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from django.db import connection

from apps.core import asyncdb, lifespan
from apps.topics.vitals import commits
from tests.cast import make_key
from tests.contract.topics.conftest import refused

if TYPE_CHECKING:
    from tests.contract.topics.conftest import Api

HEALTH = ["/v0/health", "/healthz"]
READY = ["/v0/ready", "/readyz"]

SERIES = {
    "topics_topics": "gauge",
    "topics_topics_by_class": "gauge",
    "topics_routers": "gauge",
    "topics_records_live": "gauge",
    "topics_bytes_live": "gauge",
    "topics_topic_head_seq": "gauge",
    "topics_topic_earliest_seq": "gauge",
    "topics_topic_records_live": "gauge",
    "topics_topic_bytes_live": "gauge",
    "topics_topic_queue_ready": "gauge",
    "topics_topic_queue_in_flight": "gauge",
    "topics_topic_queue_delayed": "gauge",
    "topics_topic_queue_dead_lettered": "gauge",
    "topics_topic_queue_oldest_age_ms": "gauge",
    "topics_topic_metrics_truncated": "gauge",
    "topics_queue_topics": "gauge",
    "topics_queue_leases_in_flight": "gauge",
    "topics_router_lag": "gauge",  # ours
    "topics_sse_connections": "gauge",
    "topics_watch_sessions": "gauge",
    "topics_ready": "gauge",
    "topics_recovery_progress": "gauge",
    "topics_uptime_ms": "counter",
    "topics_wal_frames_total": "counter",
    "topics_wal_batches_total": "counter",
    "topics_wal_fsyncs_total": "counter",
    "topics_wal_bytes_written_total": "counter",
    "topics_wal_rotations_total": "counter",
    "topics_wal_submit_full_total": "counter",
    "topics_wal_queue_depth": "gauge",
    "topics_wal_queue_depth_peak": "gauge",
    "topics_wal_read_only": "gauge",
    "topics_wal_fsync_latency_us": "histogram",
}
# Beyond the table.
EXTRA = {"topics_router_lag": "gauge"}
LOCAL = {name for name in SERIES if "_wal_" in name} | {
    "topics_sse_connections", "topics_ready", "topics_recovery_progress", "topics_uptime_ms",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _counted_from_nought(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in commits.Commits.__slots__:
        monkeypatch.setattr(commits.here, name, getattr(commits.Commits(), name))


def no_postgres(monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> Any:
        raise psycopg.OperationalError("refused")

    monkeypatch.setattr(asyncdb, "connection", away)


def metrics(api: Api, **options: Any) -> dict[str, float]:
    """Return every sample by its name and labels, having checked that the text is well-formed."""
    answer = api.get("/v0/metrics", **options)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert answer.text.endswith("\n")
    found: dict[str, float] = {}
    told: dict[str, str] = {}
    current = ""
    for line in answer.text.splitlines():
        if line.startswith("# "):
            _, word, current, rest = line.split(" ", 3)
            told[current] = rest if word == "TYPE" else told.get(current, "")
        else:
            match = re.fullmatch(r"(\w+)(\{\w+=\"(?:[^\"\\\n]|\\.)*\"\})? ([0-9.]+)", line)
            assert match, line
            assert match[1].startswith(current), line
            assert (match[1] + (match[2] or "")) not in found
            found[match[1] + (match[2] or "")] = float(match[3])
    assert told.items() <= (SERIES | EXTRA).items()
    assert told.keys() >= LOCAL
    return found


# --- health and readiness ------------------------------------------------------------------------


@pytest.mark.parametrize("path", HEALTH)
def test_health_says_that_the_process_answers(api: Api, path: str, settings: Any):
    found = api.get(path).json()
    assert set(found) == {"status", "version", "uptime_ms"}
    assert (found["status"], found["version"]) == ("ok", settings.GYOZA_VERSION)
    assert isinstance(found["uptime_ms"], int)


@pytest.mark.parametrize("path", HEALTH)
def test_health_needs_nobody_else(api: Api, path: str, monkeypatch: pytest.MonkeyPatch):
    no_postgres(monkeypatch)
    assert api.get(path).status_code == 200


@pytest.mark.parametrize("path", READY)
def test_ready_says_how_many_topics_there_are(api: Api, path: str):
    api.write("a", 1)
    api.write("b", 1)
    expected = {"status": "ready", "wal_replay_complete": True, "topics": 2}
    assert api.get(path).json() == expected


@pytest.mark.parametrize("path", READY)
def test_without_postgres_it_is_not_ready(api: Api, path: str, monkeypatch: pytest.MonkeyPatch):
    no_postgres(monkeypatch)
    answer = api.get(path)
    assert refused(answer, 503, "not_ready") == {"replay_progress": 0.0}
    assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize("path", READY)
def test_a_process_that_drains_is_not_ready(api: Api, path: str, monkeypatch: pytest.MonkeyPatch):
    """⚑4."""
    monkeypatch.setattr(lifespan, "_draining", True)
    refused(api.get(path), 503, "shutting_down")
    assert api.get("/v0/health").status_code == 200
    assert metrics(api)["topics_ready"] == 0


def test_what_a_crash_of_postgres_left_is_done_before_it_is_ready(api: Api):
    api.write("t", 1)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM topics_intact")
        api.get("/v0/ready")
        cursor.execute("SELECT count(*) FROM topics_intact")
        assert cursor.fetchone() == (1,)


@pytest.mark.parametrize("path", [*HEALTH, *READY])
def test_probes_ask_for_no_key_unless_told_to(api: Api, path: str, settings: Any):
    """§3.3."""
    key = make_key("anyone", "delete")
    assert api.get(path).status_code == 200
    assert api.get(path, key="wrong").status_code == 200
    settings.GYOZA_PROBE_AUTH = True
    refused(api.get(path), 401, "unauthorized")
    refused(api.post(path), 401, "unauthorized")
    assert api.get(path, key=key).status_code == 200
    refused(api.post(path, key=key), 405, "method_not_allowed")


# --- metrics -------------------------------------------------------------------------------------


def test_every_series_of_the_table_is_there(api: Api):
    api.put("/v0/topics/q", {"type": "queue"})
    text = api.get("/v0/metrics").text
    for name, kind in SERIES.items():
        assert f"\n# TYPE {name} {kind}\n" in text
        assert f"# HELP {name} " in text
    found = metrics(api)
    bounds = ["50", "100", "250", "500", "1000", "5000", "10000", "50000", "100000", "+Inf"]
    buckets = [name for name in found if name.startswith("topics_wal_fsync_latency_us_bucket")]
    assert buckets == [f'topics_wal_fsync_latency_us_bucket{{le="{bound}"}}' for bound in bounds]


def test_the_figures_are_right(api: Api):
    api.write("a", 1, 22, 333)
    api.write("b", 1, config={"durability": "fsync"})
    api.put("/v0/topics/q", {"type": "queue", "durability": "memory"})
    api.write("q", 1, 2)
    api.post("/v0/topics/a/delete", {"before_seq": 2})
    found = metrics(api)
    expected = {
        "topics_topics": 3,
        'topics_topics_by_class{class="ephemeral"}': 0,
        'topics_topics_by_class{class="memory"}': 1,
        'topics_topics_by_class{class="disk"}': 1,
        'topics_topics_by_class{class="fsync"}': 1,
        "topics_records_live": 5,
        "topics_bytes_live": 8,
        'topics_topic_head_seq{topic="a"}': 3,
        'topics_topic_earliest_seq{topic="a"}': 2,
        'topics_topic_records_live{topic="a"}': 2,
        'topics_topic_bytes_live{topic="a"}': 5,
        'topics_topic_queue_ready{topic="q"}': 2,
        'topics_topic_queue_in_flight{topic="q"}': 0,
        "topics_topic_metrics_truncated": 0,
        "topics_queue_topics": 1,
        "topics_ready": 1,
        "topics_recovery_progress": 1,
        "topics_wal_frames_total": 3,
        "topics_wal_batches_total": 3,
        "topics_wal_bytes_written_total": 9,
        "topics_wal_queue_depth": 0,
        "topics_wal_queue_depth_peak": 1,
    }
    assert {name: found[name] for name in expected} == expected
    assert 'topics_topic_queue_ready{topic="a"}' not in found
    # Both topics that a write made, and the write that waits for the disk anyway.
    assert found["topics_wal_fsyncs_total"] >= 2
    assert found["topics_wal_fsync_latency_us_count"] == found["topics_wal_fsyncs_total"]
    assert found["topics_wal_fsync_latency_us_sum"] > 0


def test_a_write_that_does_not_wait_for_the_disk_is_no_flush(api: Api):
    api.write("t", 1)
    api.write("t", 1)  # reserves seqs (Appendix B.12)
    before = metrics(api)
    api.write("t", 1)
    after = metrics(api)
    assert after["topics_wal_batches_total"] == before["topics_wal_batches_total"] + 1
    assert after["topics_wal_fsyncs_total"] == before["topics_wal_fsyncs_total"]


def test_topics_beyond_the_first_are_left_out_and_it_says_so(
    api: Api, monkeypatch: pytest.MonkeyPatch
):
    """§4.1."""
    from apps.topics.vitals import metrics as module

    monkeypatch.setattr(module, "MOST_TOPICS", 2)
    for name in "cab":
        api.write(name, 1)
    found = metrics(api)
    heads = [name for name in found if name.startswith("topics_topic_head_seq")]
    assert heads == ['topics_topic_head_seq{topic="a"}', 'topics_topic_head_seq{topic="b"}']
    assert (found["topics_topic_metrics_truncated"], found["topics_topics"]) == (1, 3)


def test_json_when_asked_for(api: Api):
    api.write("t", 1)
    answer = api.get("/v0/metrics", Accept="text/html, application/json;q=0.9")
    assert answer.headers["content-type"] == "application/json"
    found = answer.json()
    assert list(found) == [
        "topics", "topics_ephemeral", "topics_memory", "topics_disk", "topics_fsync", "routers", "records_live",
        "bytes_live", "queue_topics", "queue_leases_in_flight", "sse_connections", "watch_sessions", "ready",
        "replay_progress", "uptime_ms", "wal",
    ]  # fmt: skip
    assert list(found["wal"]) == [
        "fsyncs", "frames", "batches", "bytes_written", "rotations", "queue_depth", "queue_depth_peak",
        "submit_full_total", "read_only", "fsync_count", "fsync_micros_total",
    ]  # fmt: skip
    assert (found["topics"], found["topics_disk"], found["ready"]) == (1, 1, True)
    assert found["replay_progress"] == 1.0
    assert found["wal"]["frames"] == 1


def test_metrics_need_the_scope_read(api: Api):
    """§3.3, ⚑50."""
    refused(api.get("/v0/metrics", key=make_key("w", "write")), 403, "forbidden")
    refused(api.get("/v0/metrics"), 401, "unauthorized")
    assert metrics(api, key=make_key("r", "read"))["topics_topics"] == 0


def test_without_postgres_the_process_tells_of_itself(api: Api, monkeypatch: pytest.MonkeyPatch):
    """200 always; what isn't known is left out rather than nought."""
    api.write("t", 1)
    no_postgres(monkeypatch)
    found = metrics(api)
    assert (found["topics_ready"], found["topics_wal_frames_total"]) == (0, 1)
    assert "topics_topics" not in found
    shown = api.get("/v0/metrics", Accept="application/json").json()
    assert (shown["ready"], "topics" in shown) == (False, False)
