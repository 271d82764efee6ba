"""Real processes: nothing acknowledged is lost, nothing is told twice (design.md §1.2)."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import redis

from tests.system import System, system

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.acceptance
TERMINAL = {"COMPLETED", "FAILED", "CANCELLED"}
OPS = {"GYOZA_PYTHON_OPS": "tests.ops.*", "GYOZA_CANCEL_GRACE_SECONDS": "1"}


@pytest.fixture(scope="module")
def gyoza(tmp_path_factory) -> Iterator[System]:
    with system(tmp_path_factory.mktemp("gyoza"), **OPS) as opened:
        opened.start_web()
        opened.start_beat()
        yield opened


@pytest.fixture
def worker(gyoza) -> Iterator[System]:
    gyoza.start_worker()
    yield gyoza
    for name in [name for name in gyoza.processes if name.startswith("worker")]:
        gyoza.kill(name, signal.SIGTERM)


def follow(gyoza: System, topic: str, *, until: int, seconds: float = 120) -> list[dict[str, Any]]:
    """Read a feed by its cursor until so many terminal events have come."""
    events: list[dict[str, Any]] = []
    cursor, ended = "0", 0
    with httpx.Client(base_url=gyoza.url, timeout=40) as http:

        def page() -> bool:
            nonlocal cursor, ended
            answer = http.get("/events", params={"topic": topic, "after": cursor, "wait": 1})
            assert answer.status_code == 200, answer.text
            body = answer.json()
            assert "gap" not in body
            events.extend(body["events"])
            ended += sum(event["type"] in TERMINAL for event in body["events"])
            cursor = body["next_cursor"]
            return ended >= until

        gyoza.wait_for(page, f"{until} terminal events in {topic}", seconds)
    return events


def submit(gyoza: System, topic: str, count: int, clients: int, **run: Any) -> list[str]:
    """Submit runs from several clients at once; return their ids."""
    ids: list[str] = []
    lock = threading.Lock()
    body = {"python": "tests.ops:noop", "event_delivery": {"topic": topic}, **run}
    shares = [count // clients + (n < count % clients) for n in range(clients)]

    def client(share: int) -> None:
        with httpx.Client(base_url=gyoza.url, timeout=60) as http:
            for _ in range(share):
                answer = http.post("/runs", json=body)
                assert answer.status_code == 201, answer.text
                with lock:
                    ids.append(answer.json()["id"])

    threads = [threading.Thread(target=client, args=(share,)) for share in shares]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == count
    return ids


def assert_each_ended_once(
    gyoza: System, topic: str, ids: list[str], events: list[dict[str, Any]]
) -> None:
    ends = Counter(event["run_id"] for event in events if event["type"] in TERMINAL)
    assert ends == Counter(ids)
    cursors = [int(event["cursor"]) for event in events]
    assert cursors == sorted(set(cursors))
    listed: list[str] = []
    after = None
    while True:
        params = {"topic": topic, "state": "COMPLETED", "limit": 100}
        page = gyoza.get("/runs", **params, **({"starting_after": after} if after else {}))
        listed += [run["id"] for run in page["data"]]
        if not page["has_more"]:
            break
        after = listed[-1]
    assert sorted(listed) == sorted(ids)


def test_a_consumer_sees_each_of_500_runs_end_exactly_once(worker):
    found: list[dict[str, Any]] = []
    reader = threading.Thread(target=lambda: found.extend(follow(worker, "many", until=500)))
    reader.start()
    ids = submit(worker, "many", 500, clients=8)
    reader.join()
    assert_each_ended_once(worker, "many", ids, found)


def test_an_emptied_redis_loses_nothing(worker):
    client = redis.Redis.from_url(worker.env["REDIS_URL"])
    stop = threading.Event()

    def flush() -> None:
        while not stop.wait(0.05):
            client.flushall()

    flusher = threading.Thread(target=flush)
    flusher.start()
    try:
        ids = submit(worker, "flushed", 500, clients=4)
    finally:
        stop.set()
        flusher.join()
    events = follow(worker, "flushed", until=500)
    assert_each_ended_once(worker, "flushed", ids, events)


def test_a_worker_that_starts_while_redis_is_away_works(gyoza):
    gyoza.start_worker("worker-r", REDIS_URL="redis://127.0.0.1:1/0", GYOZA_WORKER_NAME="r")
    (one,) = submit(gyoza, "blind", 1, 1)
    gyoza.wait_for_state(one, "COMPLETED")
    gyoza.kill("worker-r", signal.SIGTERM)


def test_a_killed_worker_loses_nothing(gyoza):
    gyoza.start_worker("worker-a", GYOZA_WORKER_SLOTS="20", GYOZA_WORKER_NAME="a")
    ids = submit(gyoza, "killed", 20, 4, python=None, command=["sleep", "3"], priority=1)
    for one in ids:
        gyoza.wait_for_state(one, "RUNNING")
    stale = gyoza.run(ids[0])
    gyoza.kill("worker-a")
    gyoza.start_worker("worker-b", GYOZA_WORKER_SLOTS="20", GYOZA_WORKER_NAME="b")
    events = follow(gyoza, "killed", until=20)
    assert_each_ended_once(gyoza, "killed", ids, events)
    for one in ids:
        first, second = gyoza.get(f"/runs/{one}/attempts")["data"]
        assert (first["state"], second["state"]) == ("FAILED", "COMPLETED")
        assert "lost" in first["execution_summary"]["error_message"]
    late = {"type": "COMPLETED", "attempt": 1, "lease": "0" * 32}
    answer = gyoza.http.post(f"/runs/{stale['id']}/events", json=late)
    assert answer.status_code == 409
    gyoza.kill("worker-b", signal.SIGTERM)


def test_a_worker_that_comes_back_in_time_goes_on_with_its_ops(gyoza):
    gyoza.start_worker("worker-c", GYOZA_WORKER_NAME="c")
    ids = submit(gyoza, "adopted", 4, 1, python=None, command=["sh", "-c", "sleep 4; echo done"])
    for one in ids:
        gyoza.wait_for_state(one, "RUNNING")
    gyoza.kill("worker-c")
    gyoza.start_worker("worker-c", GYOZA_WORKER_NAME="c")
    for one in ids:
        run = gyoza.wait_for_state(one, "COMPLETED")
        assert run["current_attempt"] == 1
        assert gyoza.http.get(f"/runs/{one}/logs").text == "done\n"
    gyoza.kill("worker-c", signal.SIGTERM)


def test_a_stopping_worker_gives_back_what_does_not_end_in_time(gyoza):
    gyoza.start_worker("worker-d", GYOZA_WORKER_NAME="d", GYOZA_DRAIN_SECONDS="0.5")
    (one,) = submit(gyoza, "drained", 1, 1, python=None, command=["sleep", "60"])
    gyoza.wait_for_state(one, "RUNNING")
    gyoza.kill("worker-d", signal.SIGTERM)
    run = gyoza.run(one)
    assert (run["state"], run["current_attempt"]) == ("PENDING", 2)
    gyoza.post(f"/runs/{one}/cancel")


def test_an_op_that_ignores_sigterm_is_killed_with_its_children(worker, tmp_path):
    pids = tmp_path / "pids"
    script = f"trap '' TERM; (trap '' TERM; echo $$ >> {pids}; setsid sleep 300) & echo $! >> {pids}; wait; sleep 300"
    (one,) = submit(worker, "stubborn", 1, 1, python=None, command=["sh", "-c", script])
    worker.wait_for_state(one, "RUNNING")
    worker.wait_for(
        lambda: pids.exists() and len(pids.read_text().split()) == 2, "the children run"
    )
    answer = worker.post(f"/runs/{one}/cancel")
    assert answer["state"] == "RUNNING"
    run = worker.wait_for_state(one, "CANCELLED")
    assert run["finished_at"] is not None
    for pid in {int(word) for word in pids.read_text().split()}:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_an_op_that_prints_a_gigabyte_harms_nobody(worker):
    script = 'head -c 1073741824 /dev/zero | tr \'\\0\' \'x\'; echo; echo \'{"gyoza":"output","name":"n","value":1}\''
    (one,) = submit(worker, "loud", 1, 1, python=None, command=["sh", "-c", script])
    run = worker.wait_for_state(one, "COMPLETED")
    assert run["outputs"] == {"n": 1}
    log = worker.http.get(f"/runs/{one}/logs").content
    assert 10 * 2**20 <= len(log) < 11 * 2**20
    assert b"over 10 MiB" in log[-300:]
