"""Several web processes on one database behave as one: what one has answered, the others know."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
import pytest

from tests.system import System, system

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def gyoza(tmp_path_factory) -> Iterator[System]:
    with system(tmp_path_factory.mktemp("gyoza")) as opened:
        opened.start_web()
        opened.start_web("other")
        yield opened


@pytest.fixture(scope="module")
def one(gyoza) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gyoza.url, timeout=40) as client:
        yield client


@pytest.fixture(scope="module")
def other(gyoza) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gyoza.url_of("other"), timeout=40) as client:
        yield client


@pytest.fixture
def topic() -> str:
    return f"shared.{uuid4().hex[:8]}"


def write(client: httpx.Client, topic: str, *data: Any, **body: Any) -> Any:
    records = [{"data": item} for item in data]
    answer = client.post(f"/v0/topics/{topic}", json={"records": records, **body})
    assert answer.status_code < 300, answer.text
    return answer.json()


def read(client: httpx.Client, topic: str, **body: Any) -> Any:
    answer = client.post(f"/v0/topics/{topic}/diff", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_what_one_has_acknowledged_the_other_reads(one, other, topic):
    for number in range(20):
        writer, reader = (one, other) if number % 2 else (other, one)
        seq = write(writer, topic, number)["last_seq"]
        page = read(reader, topic, from_seq=seq - 1)
        assert [(record["$seq"], record["data"]) for record in page["records"]] == [(seq, number)]


def test_a_long_poll_at_one_is_woken_by_a_write_at_the_other(one, other, topic):
    write(one, topic, 1)
    pages: list[dict[str, Any]] = []
    waiting = threading.Thread(
        target=lambda: pages.append(read(one, topic, from_seq=1, wait_ms=30_000))
    )
    waiting.start()
    while waiting.is_alive():
        write(other, topic, 2)
        waiting.join(timeout=0.2)
    assert pages[0]["records"][0]["data"] == 2


def test_a_topic_deleted_at_one_begins_anew_at_the_other(one, other, topic):
    for deleting, writing in ((one, other), (other, one)):
        assert write(writing, topic, 1, 2)["last_seq"] == 2
        assert write(deleting, topic, 3)["last_seq"] == 3
        assert deleting.delete(f"/v0/topics/{topic}").json()["deleted"] is True
        assert (
            writing.post(f"/v0/topics/{topic}/diff", json={}).json()["error"]["code"]
            == "topic_not_found"
        )
        assert write(writing, topic, 4)["first_seq"] == 1
        writing.delete(f"/v0/topics/{topic}")


def test_a_config_set_at_one_holds_at_the_other(one, other, topic):
    write(other, topic, 1, 2, 3)
    one.put(f"/v0/topics/{topic}", json={"cap_records": 3, "discard": "reject"})
    full = other.post(f"/v0/topics/{topic}", json={"records": [{"data": 4}]})
    assert (full.status_code, full.json()["error"]["code"]) == (422, "topic_full")
    one.put(f"/v0/topics/{topic}", json={"cap_records": 2})
    assert read(other, topic)["tombstone"]["gap_to"] == 1


def test_a_key_used_at_both_writes_once(one, other, topic):
    first = write(one, topic, 1, 2, idempotency_key="k")
    again = write(other, topic, 1, 2, idempotency_key="k")
    assert (again["deduped"], again["seqs"]) == (True, first["seqs"])
    assert len(read(one, topic)["records"]) == 2


def test_a_key_used_at_both_at_once_writes_once(one, other, topic):
    answers: list[dict[str, Any]] = []
    barrier = threading.Barrier(2)

    def send(client: httpx.Client) -> None:
        barrier.wait()
        answers.append(write(client, topic, 1, idempotency_key="k"))

    threads = [threading.Thread(target=send, args=[client]) for client in (one, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer["deduped"] for answer in answers) == [False, True]
    assert [answer["seqs"] for answer in answers] == [[1], [1]]


def test_records_deleted_at_one_are_gone_at_the_other(one, other, topic):
    write(one, topic, *range(10))
    assert other.post(f"/v0/topics/{topic}/delete", json={"before_seq": 6}).json()["deleted"] == 5
    page = read(one, topic)
    assert (page["earliest_seq"], len(page["records"]), page["tombstone"]) == (6, 5, None)


def test_that_one_has_read_the_other_tells(gyoza, one, other, topic):
    write(one, topic, 1)
    read(one, topic)

    def told() -> Any:
        return other.get(f"/v0/topics/{topic}?touch=false").json()["last_read_ts"]

    at = gyoza.wait_for(told, "the other process knows of the read", 10)
    assert abs(at - time.time() * 1000) < 60_000
