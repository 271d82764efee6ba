"""Queues with real processes: no job is lost, and none is acknowledged twice, whoever dies."""

from __future__ import annotations

import json
import signal
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests import servers
from tests.system import System, durable_system, system

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.acceptance
STREAMS, JOBS = 20, 600


@pytest.fixture
def gyoza(tmp_path: Path) -> Iterator[System]:
    with system(tmp_path) as opened:
        opened.start_web()
        opened.start_web("other")
        yield opened


def make_queue(gyoza: System, name: str, jobs: int, **config: Any) -> None:
    answer = gyoza.http.put(f"/v0/topics/{name}", json={"type": "queue", **config})
    assert answer.status_code == 201, answer.text
    for begin in range(0, jobs, 200):
        records = [{"data": n} for n in range(begin, min(begin + 200, jobs))]
        gyoza.post(f"/v0/topics/{name}", {"records": records})


class Worker(threading.Thread):
    """Follows /work, acks what comes, and connects to the next web process when its own has gone."""

    def __init__(self, urls: list[str], queue: str, number: int, crew: Crew) -> None:
        super().__init__(daemon=True)
        self._urls, self._path = urls, f"/v0/topics/{queue}"
        self.node = f"worker-{number}"
        self._crew = crew

    def run(self) -> None:
        attempt = 0
        while not self._crew.is_over.is_set():
            url = self._urls[attempt % len(self._urls)]
            attempt += 1
            try:
                with httpx.Client(base_url=url, timeout=20) as http:
                    self._follow(http)
            except httpx.TransportError:
                self._crew.note_break(self.node)

    def _follow(self, http: httpx.Client) -> None:
        query: dict[str, str | int] = {"node": self.node, "max": 4, "lease_ms": 1500}
        with http.stream("GET", f"{self._path}/work", params=query) as stream:
            for line in stream.iter_lines():
                if line.startswith("data: "):
                    self._handle(http, json.loads(line[6:]))
                if self._crew.is_over.is_set():
                    return

    def _handle(self, http: httpx.Client, job: dict[str, Any]) -> None:
        if "$seq" not in job:
            return  # the farewell of a process that ends
        self._crew.note_delivery(job)
        # One in four is dropped, as by a worker that crashes: its lease has to end.
        if job["deliveries"] == 1 and job["$seq"] % 4 == 0:
            return
        body = {"node": self.node, "seqs": [job["$seq"]], "lease_ids": [job["lease_id"]]}
        try:
            answer = http.post(f"{self._path}/ack", json=body)
        except httpx.TransportError:
            # Perhaps it was done, and only the answer was lost with the process.
            self._crew.note_doubt(job["$seq"])
            raise
        assert answer.status_code == 200, answer.text
        if answer.json()["acked"]:
            self._crew.note_ack(job["$seq"])


class Crew:
    """The workers, and what they have seen together."""

    def __init__(self, urls: list[str], queue: str, jobs: int) -> None:
        self.is_over = threading.Event()
        self.acked: Counter[int] = Counter()
        self.doubtful: set[int] = set()
        self.deliveries: Counter[int] = Counter()
        self.leases: Counter[str] = Counter()
        self.breaks: Counter[str] = Counter()
        self._jobs = jobs
        self._changed = threading.Condition()
        self._workers = [Worker(urls, queue, number, self) for number in range(STREAMS)]
        for worker in self._workers:
            worker.start()

    @property
    def done(self) -> set[int]:
        return self.doubtful | self.acked.keys()

    def note_delivery(self, job: dict[str, Any]) -> None:
        with self._changed:
            self.deliveries[job["$seq"]] = job["deliveries"]
            self.leases[job["lease_id"]] += 1

    def note_ack(self, seq: int) -> None:
        with self._changed:
            self.acked[seq] += 1
            self._changed.notify_all()

    def note_doubt(self, seq: int) -> None:
        with self._changed:
            self.doubtful.add(seq)
            self._changed.notify_all()

    def note_break(self, node: str) -> None:
        with self._changed:
            self.breaks[node] += 1

    def wait_for_acks(self, number: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.done) >= number, timeout=60), (
                f"{len(self.done)} of {number} jobs were acked"
            )

    def end(self) -> None:
        self.is_over.set()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_web_process_dies_with_twenty_work_streams(gyoza: System, how: signal.Signals):
    make_queue(gyoza, "jobs", JOBS)
    # All begin at the one that dies, and go on at the other.
    crew = Crew([gyoza.url, gyoza.url_of("other")], "jobs", JOBS)
    crew.wait_for_acks(100)
    gyoza.kill("web", how)
    crew.wait_for_acks(JOBS)
    with httpx.Client(base_url=gyoza.url_of("other")) as http:

        def drained() -> Any:
            found = http.get("/v0/topics/jobs").json()
            return found if found["count"] == 0 else None

        state = gyoza.wait_for(drained, "every job is done")
    crew.end()
    assert state["queue"] == {"ready": 0, "in_flight": 0, "dead_lettered": 0}
    assert crew.done == set(range(1, JOBS + 1))
    assert max(crew.acked.values()) == 1
    assert max(crew.leases.values()) == 1, "two deliveries under one lease"
    assert all(crew.deliveries[seq] >= 2 for seq in range(4, JOBS + 1, 4))


def test_what_a_stopped_process_had_delivered_is_ready_at_once(gyoza: System):
    """§21: on SIGTERM leases are released, whatever their deadline."""
    make_queue(gyoza, "jobs", 5)
    query: dict[str, str | int] = {"node": "w", "max": 3, "lease_ms": 3_600_000}
    frames: list[str] = []
    begun = threading.Event()

    def follow() -> None:
        with (
            httpx.Client(base_url=gyoza.url, timeout=30) as http,
            http.stream("GET", "/v0/topics/jobs/work", params=query) as stream,
        ):
            for line in stream.iter_lines():
                frames.append(line)
                if sum(line.startswith("event: job") for line in frames) == 3:
                    begun.set()

    follower = threading.Thread(target=follow)
    follower.start()
    assert begun.wait(30)
    gyoza.kill("web", signal.SIGTERM)
    follower.join(30)
    assert '"code":"server_shutting_down"' in frames[-2]
    with httpx.Client(base_url=gyoza.url_of("other")) as http:
        answer = http.post("/v0/topics/jobs/claim", json={"node": "x", "max": 9}).json()
    assert [(job["$seq"], job["deliveries"]) for job in answer["claimed"]] == [
        *[(1, 2), (2, 2), (3, 2)],
        *[(4, 1), (5, 1)],
    ]


def test_claimers_of_two_web_processes_share_a_window_fairly(gyoza: System):
    make_queue(gyoza, "jobs", 40, claim_jitter_ms=5000)
    given: list[int] = []
    barrier = threading.Barrier(8)

    def claim(url: str) -> None:
        with httpx.Client(base_url=url, timeout=30) as http:
            http.get("/v0/health")
            barrier.wait()
            body = {"node": "w", "max": 100}
            given.append(http.post("/v0/topics/jobs/claim", json=body).json()["count"])

    urls = [gyoza.url, gyoza.url_of("other")] * 4
    threads = [threading.Thread(target=claim, args=[url]) for url in urls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert given == [5] * 8


def test_leases_delays_and_counters_survive_a_crash_of_postgres(tmp_path: Path):
    """★44: they are in the database, not in a log that a checkpoint drops."""
    with durable_system(tmp_path) as gyoza:
        gyoza.start_web()
        make_queue(gyoza, "jobs", 4, leases_durable=True, durability="fsync")
        claimed = gyoza.post(
            "/v0/topics/jobs/claim", {"node": "w", "max": 3, "lease_ms": 3_600_000}
        )["claimed"]
        gyoza.post("/v0/topics/jobs/nack", {"node": "w", "seqs": [2], "delay_ms": 3_600_000})
        gyoza.post("/v0/topics/jobs/ack", {"node": "w", "seqs": [3]})
        servers.crash(tmp_path / "durable/data")
        state = gyoza.wait_for(lambda: state_of(gyoza, "jobs"), "Postgres is back")
        assert state["queue"] == {"ready": 1, "in_flight": 1, "dead_lettered": 0, "delayed": 1}
        lease = claimed[0]["lease_id"]
        body = {"node": "w", "seqs": [1], "lease_ids": [lease]}
        assert gyoza.post("/v0/topics/jobs/ack", body)["acked"] == 1
        [job] = gyoza.post("/v0/topics/jobs/claim", {"node": "x"})["claimed"]
        assert job["$seq"] == 4
        # Numbers that may have been lost are skipped.
        assert int(job["lease_id"][6:], 16) > int(lease[6:], 16) + 1000


def state_of(gyoza: System, name: str) -> Any:
    answer = gyoza.http.get(f"/v0/topics/{name}")
    return answer.json() if answer.status_code == 200 else None
