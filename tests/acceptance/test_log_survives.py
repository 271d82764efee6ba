"""The log with real processes: several web processes are one, and what was acknowledged survives their death."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tests import log_client, servers
from tests.system import ROOT, System, durable_system, system

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.acceptance

TOPICS = {"log.a": "fsync", "log.b": "disk", "log.c": "memory", "log.d": "fsync"}
WRITERS, READERS = 8, 8
APPENDS = 120


@pytest.fixture
def gyoza(tmp_path) -> Iterator[System]:
    with system(tmp_path) as opened:
        start(opened)
        yield opened


def start(gyoza: System) -> None:
    gyoza.start_web()
    gyoza.start_web("other")
    for topic, durability in TOPICS.items():
        answer = gyoza.http.put(f"/v0/topics/{topic}", json={"durability": durability})
        assert answer.status_code == 201, answer.text


class Crowd:
    """Writers and readers, each a process, with what they have said so far."""

    def __init__(self, urls: list[str]) -> None:
        self.urls = ",".join(urls)
        self.told: list[dict[str, Any]] = []
        self.lost: list[dict[str, Any]] = []
        self._grown = threading.Condition()
        self._writers = [
            self._start("write", ",".join(TOPICS), str(n), str(APPENDS)) for n in range(WRITERS)
        ]
        self._readers = [self._start("read", list(TOPICS)[n % len(TOPICS)]) for n in range(READERS)]
        self._listeners = [
            threading.Thread(target=self._listen, args=[writer]) for writer in self._writers
        ]
        for listener in self._listeners:
            listener.start()

    def wait_for_appends(self, number: int) -> None:
        """Return when so many have been acknowledged."""
        with self._grown:
            assert self._grown.wait_for(lambda: len(self.told) >= number, timeout=30)

    def join_writers(self) -> None:
        for listener, writer in zip(self._listeners, self._writers, strict=True):
            listener.join()
            assert writer.wait(timeout=30) == 0

    def seen(self) -> list[dict[str, Any]]:
        """Return what each reader has seen, to the end."""
        answers = []
        for reader in self._readers:
            said, _ = reader.communicate(timeout=40)
            assert reader.returncode == 0
            answers.append(json.loads(said))
        return answers

    def _start(self, role: str, topics: str, *numbers: str) -> subprocess.Popen[str]:
        argv = [sys.executable, "-m", "tests.log_client", role, self.urls, topics, *numbers]
        return subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True)

    def _listen(self, writer: subprocess.Popen[str]) -> None:
        assert writer.stdout is not None
        with writer.stdout as lines:
            for line in lines:
                said = json.loads(line)
                with self._grown:
                    (self.lost if said["at"] is None else self.told).append(said)
                    self._grown.notify_all()


def end_topics(gyoza: System) -> None:
    for topic in TOPICS:
        gyoza.post(f"/v0/topics/{topic}", {"records": [{"data": log_client.END}]})


def stored(gyoza: System, topic: str) -> list[list[Any]]:
    """Return the whole of a topic as [seq, data]."""
    found: list[list[Any]] = []
    while True:
        after = found[-1][0] if found else 0
        page = gyoza.post(f"/v0/topics/{topic}/diff", {"from_seq": after, "limit": 1000})
        found += [[record["$seq"], record["data"]] for record in page["records"]]
        if page["caught_up"]:
            return found


def assert_acknowledged_are_there(crowd: Crowd, logs: dict[str, list[list[Any]]]) -> None:
    at = {topic: dict(log) for topic, log in logs.items()}
    for said in crowd.told:
        first, last = said["at"]
        assert [at[said["topic"]].get(seq) for seq in range(first, last + 1)] == said["records"]


def assert_unacknowledged_are_whole_or_absent(
    crowd: Crowd, logs: dict[str, list[list[Any]]]
) -> None:
    for said in crowd.lost:
        batch = [tuple(item) for item in said["records"]]
        found = [
            (seq, tuple(data))
            for seq, data in logs[said["topic"]]
            if data != log_client.END and tuple(data) in batch
        ]
        assert not found or [data for _, data in found] == batch
        assert [seq - found[0][0] for seq, _ in found] == list(range(len(found)))


def assert_readers_saw_all_of_it_in_order(crowd: Crowd, logs: dict[str, list[list[Any]]]) -> None:
    for answer in crowd.seen():
        assert answer["seen"] == logs[answer["topic"]]


def test_several_web_processes_are_one_log(gyoza):
    crowd = Crowd([gyoza.url, gyoza.url_of("other")])
    crowd.join_writers()
    end_topics(gyoza)
    logs = {topic: stored(gyoza, topic) for topic in TOPICS}
    assert crowd.lost == []
    assert_acknowledged_are_there(crowd, logs)
    for log in logs.values():
        assert [seq for seq, _ in log] == list(range(1, len(log) + 1))
        assert max(Counter(json.dumps(data) for _, data in log).values()) == 1
    assert_readers_saw_all_of_it_in_order(crowd, logs)


def test_nothing_acknowledged_dies_with_a_web_process(gyoza):
    crowd = Crowd([gyoza.url, gyoza.url_of("other")])
    crowd.wait_for_appends(WRITERS * APPENDS // 3)
    gyoza.kill("other", signal.SIGKILL)
    crowd.wait_for_appends(WRITERS * APPENDS // 2)
    gyoza.start_web("other")
    crowd.join_writers()
    end_topics(gyoza)
    logs = {topic: stored(gyoza, topic) for topic in TOPICS}
    assert crowd.lost
    assert_acknowledged_are_there(crowd, logs)
    assert_unacknowledged_are_whole_or_absent(crowd, logs)
    for log in logs.values():
        assert [seq for seq, _ in log] == list(range(1, len(log) + 1))
        assert max(Counter(json.dumps(data) for _, data in log).values()) == 1
    assert_readers_saw_all_of_it_in_order(crowd, logs)


def test_a_crash_of_postgres_reuses_no_seq_and_loses_nothing_flushed(tmp_path):
    with durable_system(tmp_path) as gyoza:
        start(gyoza)
        crowd = Crowd([gyoza.url, gyoza.url_of("other")])
        crowd.wait_for_appends(WRITERS * APPENDS // 3)
        servers.crash(tmp_path / "durable/data")
        crowd.join_writers()
        end_topics(gyoza)
        logs = {topic: stored(gyoza, topic) for topic in TOPICS}
    for said in crowd.told:
        first, last = said["at"]
        log = dict(logs[said["topic"]])
        found = [log.get(seq) for seq in range(first, last + 1)]
        lost = [None] * len(found)
        # Whole, or if its class doesn't wait for the disk, lost: never another record in its place.
        assert found == said["records"] or (TOPICS[said["topic"]] != "fsync" and found == lost)
    assert_unacknowledged_are_whole_or_absent(crowd, logs)
    assert_readers_saw_no_seq_twice(crowd, logs)


def assert_readers_saw_no_seq_twice(crowd: Crowd, logs: dict[str, list[list[Any]]]) -> None:
    for answer in crowd.seen():
        seqs = [seq for seq, _ in answer["seen"]]
        assert seqs == sorted(set(seqs))
        # What was read and lost afterwards was not waited for on the disk; nothing else stands in its place.
        log = dict(logs[answer["topic"]])
        assert all(log.get(seq) in (None, data) for seq, data in answer["seen"])
        assert {seq for seq, _ in logs[answer["topic"]]} <= set(seqs)
