"""WebSockets on real web processes: they speak across processes, end with their key, and say goodbye."""

from __future__ import annotations

import json
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.system import system

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.system import System

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def gyoza(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with system(tmp_path_factory.mktemp("gyoza"), GYOZA_STALLED_SECONDS="2") as opened:
        opened.start_web()
        opened.start_web("other")
        yield opened


class Client:
    """A socket, in JSON."""

    def __init__(self, link: Any) -> None:
        self.link = link

    def say(self, op: str, **members: Any) -> None:
        self.link.send(json.dumps({"op": op, **members}))

    def expect(self, op: str) -> Any:
        message = json.loads(self.link.recv(timeout=30))
        assert message["op"] == op, message
        return message


@contextmanager
def opened(base: str, *, most_unread: int = 16, **headers: str) -> Iterator[Client]:
    url = base.replace("http:", "ws:") + "/v0/ws"
    with connect(url, additional_headers=headers, max_size=None, max_queue=most_unread) as link:
        yield Client(link)


def test_what_one_publishes_another_hears_at_another_process(gyoza: System):
    with opened(gyoza.url) as writer, opened(gyoza.url_of("other")) as reader:
        writer.say("publish", request_id=1, topic="t", records=[{"data": 1}])
        assert writer.expect("ack")["first_seq"] == 1
        reader.say("subscribe", topic="t")
        reader.expect("subscribed")
        assert [one["data"] for one in reader.expect("record")["records"]] == [1]
        reader.expect("caught_up")
        for number in range(2, 50):
            writer.say("publish", topic="t", records=[{"data": number}], return_seqs=False)
        heard: list[int] = []
        while len(heard) < 48:
            message = json.loads(reader.link.recv(timeout=30))
            heard += [one["data"] for one in message.get("records", [])]
        assert heard == list(range(2, 50))


def test_a_large_write_and_a_large_page_pass(gyoza: System):
    records = [{"data": "x" * 1_000_000}] * 12
    with opened(gyoza.url) as client:
        client.say("publish", topic="large", records=records)
        client.expect("ack")
        client.say("subscribe", topic="large", max_batch_bytes=8 << 20)
        client.expect("subscribed")
        assert sum(len(client.expect("record")["records"]) for _ in range(2)) == 12
        client.say("publish", topic="large", records=[{"data": "x" * 1_000_000}] * 17)
        client.expect("caught_up")
        assert client.expect("error")["code"] == "payload_too_large"


def test_a_refusal_is_plain_http(gyoza: System):
    assert httpx.get(f"{gyoza.url}/v0/ws").status_code == 426
    with (
        pytest.raises(InvalidStatus) as caught,
        opened(gyoza.url, Origin="https://elsewhere.example"),
    ):
        pass
    answer = caught.value.response
    assert answer.status_code == 403
    assert answer.headers["content-type"] == "application/json"
    assert json.loads(answer.body or b"")["error"]["code"] == "forbidden"


def sockets_open(gyoza: System) -> int:
    answer = gyoza.http.get("/v0/metrics", headers={"Accept": "application/json"})
    return int(answer.json()["sse_connections"])


def test_a_client_that_never_reads_is_given_up(gyoza: System):
    gyoza.post("/v0/topics/big", {"records": [{"data": "x" * 1_000_000}] * 30})
    links = []
    with opened(gyoza.url) as reader:
        for _ in range(20):
            client = opened(gyoza.url, most_unread=1)
            deaf = client.__enter__()
            links.append(client)
            deaf.say("subscribe", topic="big")
        reader.say("subscribe", topic="big")
        reader.expect("subscribed")
        assert sum(len(reader.expect("record")["records"]) for _ in range(30)) == 30
        gyoza.wait_for(lambda: sockets_open(gyoza) == 1, "the deaf are given up")
    for client in links:
        client.__exit__(None, None, None)


def test_a_stopping_process_says_goodbye(gyoza: System):
    with opened(gyoza.url_of("other")) as client:
        client.say("ping")
        client.expect("pong")
        gyoza.kill("other", signal.SIGTERM)
        assert client.expect("error")["code"] == "server_shutting_down"
        with pytest.raises(ConnectionClosed) as caught:
            client.link.recv(timeout=30)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1001
    gyoza.start_web("other")


def test_a_socket_ends_with_its_key(tmp_path: Path):
    with system(tmp_path) as gyoza:
        gyoza.start_web()
        gyoza.manage("keys", "create", "staying")
        secret = gyoza.manage("keys", "create", "leaving").split()[-1]
        with opened(gyoza.url, Authorization=f"Bearer {secret}") as client:
            client.say("ping")
            client.expect("pong")
            gyoza.manage("keys", "revoke", "leaving")
            with pytest.raises(ConnectionClosed) as caught:
                client.link.recv(timeout=30)
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1008
