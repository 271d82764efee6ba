"""Real web processes: whatever becomes of one, a watcher sees each record once; and nobody pays for a bad client."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import threading
from contextlib import ExitStack, aclosing
from itertools import count
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from tests.system import system

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from tests.system import System

pytestmark = pytest.mark.acceptance
WATCHERS = 50
STALLED_SECONDS = 2


@pytest.fixture(scope="module")
def gyoza(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    home = tmp_path_factory.mktemp("gyoza")
    with system(home, GYOZA_STALLED_SECONDS=str(STALLED_SECONDS)) as opened:
        opened.start_web()
        yield opened


class Watcher:
    """A client that connects again, to whichever process answers, with the id of the last frame it has seen whole."""

    def __init__(self, path: str, bases: list[str], last: int) -> None:
        self.path = path
        self.bases = bases
        self.last = last
        self.seqs: list[int] = []
        self.where: dict[str, str] = {}
        self.reconnections = 0

    async def run(self) -> None:
        async with httpx.AsyncClient(timeout=httpx.Timeout(30)) as client:
            while not self.seqs or self.seqs[-1] < self.last:
                for base in self.bases:
                    try:
                        async with client.stream("GET", base + self.path, headers=self.where) as it:
                            assert it.status_code == 200, await it.aread()
                            await self._take(it)
                    except httpx.TransportError:
                        self.reconnections += 1

    async def _take(self, answer: httpx.Response) -> None:
        rest = ""
        # Left in the middle, it would hold its connection until somebody collects it, when the loop is gone.
        async with aclosing(cast("AsyncGenerator[str]", answer.aiter_text())) as texts:
            async for text in texts:
                *frames, rest = (rest + text).split("\n\n")
                for frame in frames:
                    self._see(dict(line.split(": ", 1) for line in frame.splitlines()))
                if self.seqs and self.seqs[-1] >= self.last:
                    return

    def _see(self, fields: dict[str, str]) -> None:
        if fields.get("event") == "record":
            self.seqs += [record["$seq"] for record in json.loads(fields["data"])["records"]]
        if "id" in fields:
            self.where = {"Last-Event-ID": fields["id"]}


def test_watchers_of_a_killed_web_process_see_each_record_once_at_another(gyoza: System):
    gyoza.start_web("other")
    other = gyoza.url_of("other")
    gyoza.post("/v0/topics/killed", {"records": [{"data": 0}]})
    last = 3000
    half_way, written = threading.Event(), count(2)

    def write() -> None:
        with httpx.Client(base_url=other, timeout=60) as http:
            for seq in written:
                http.post("/v0/topics/killed", json={"records": [{"data": seq}]}).raise_for_status()
                if seq == last // 2:
                    half_way.set()
                if seq == last:
                    return

    watchers = [
        Watcher(
            gyoza.post("/v0/watch", {"topics": {"killed": {}}, "limit": 7})["stream_url"],
            [gyoza.url, other],
            last,
        )
        for _ in range(WATCHERS)
    ]

    async def watch() -> None:
        async with asyncio.timeout(120):
            await asyncio.gather(*(watcher.run() for watcher in watchers))

    writing = threading.Thread(target=write)
    watching = threading.Thread(target=asyncio.run, args=[watch()])
    for thread in (watching, writing):
        thread.start()
    assert half_way.wait(60)
    gyoza.kill("web", signal.SIGKILL)
    for thread in (writing, watching):
        thread.join(150)
        assert not thread.is_alive()
    for watcher in watchers:
        assert watcher.seqs == list(range(1, last + 1))
        assert watcher.reconnections > 0
    gyoza.kill("other", signal.SIGTERM)
    gyoza.start_web()


def streams_open(gyoza: System) -> int:
    answer = gyoza.http.get("/v0/metrics", headers={"Accept": "application/json"})
    return int(answer.json()["sse_connections"])


def connect(
    gyoza: System, path: str, links: ExitStack, *, buffer: int | None = None
) -> socket.socket:
    """Open a stream on a socket and read nothing; it is closed with `links`, whatever happens."""
    link = links.enter_context(socket.socket())
    if buffer is not None:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    link.connect(("127.0.0.1", gyoza.port))
    link.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    return link


def test_clients_that_never_read_cost_only_themselves(gyoza: System):
    gyoza.post("/v0/topics/big", {"records": [{"data": 0}]})
    page, pages = {"records": [{"data": "x" * 100_000}] * 10}, 60
    body = {"topics": {"big": {}}, "max_batch_bytes": 8 << 20, "limit": 1000}
    paths = [gyoza.post("/v0/watch", body)["stream_url"] for _ in range(21)]
    reader = Watcher(paths[0], [gyoza.url], last=1 + 10 * pages)
    with ExitStack() as deaf:
        for deaf_path in paths[1:]:
            connect(gyoza, deaf_path, deaf, buffer=4096)
        gyoza.wait_for(lambda: streams_open(gyoza) == 20, "the deaf are connected")
        reading = threading.Thread(target=asyncio.run, args=[reader.run()])
        reading.start()
        process = psutil.Process(gyoza.processes["web"].pid)
        before = process.memory_info().rss
        for _ in range(pages):
            gyoza.post("/v0/topics/big", page)
        reading.join(60)
        assert reader.seqs == list(range(1, 2 + 10 * pages))
        grown = (process.memory_info().rss - before) / 2**20
        # 20 × 60 MB would have been theirs. They have a page of 8 MiB in common, and a piece or two each; the allocator
        # gives back what it likes.
        assert grown < 300, f"{grown:.0f} MB"
        # And they are given up.
        patience = 10 * STALLED_SECONDS
        gyoza.wait_for(lambda: streams_open(gyoza) == 0, "the deaf are given up", patience)


def test_five_hundred_clients_that_connect_and_vanish_leave_nothing(gyoza: System):
    gyoza.post("/v0/topics/gone", {"records": [{"data": 0}]})
    path = gyoza.post("/v0/watch", {"topics": {"gone": {}}})["stream_url"]
    for wave in range(5):
        with ExitStack() as links:
            for _ in range(100):
                link = connect(gyoza, path, links)
                if wave % 2:
                    # Without a word: reset, not closed.
                    link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    gyoza.wait_for(lambda: streams_open(gyoza) == 0, "nobody is connected")
    files = psutil.Process(gyoza.processes["web"].pid).num_fds()
    assert files < 100
    fresh = gyoza.post("/v0/watch", {"topics": {"gone": {}}})["stream_url"]
    reader = Watcher(fresh, [gyoza.url], last=1)
    asyncio.run(reader.run())
    assert reader.seqs == [1]


def test_a_stopping_process_says_goodbye_and_the_next_goes_on(gyoza: System):
    gyoza.post("/v0/topics/restart", {"records": [{"data": 0}]})
    path = gyoza.post("/v0/watch", {"topics": {"restart": {}}})["stream_url"]
    said: list[str] = []
    begun = threading.Event()

    def listen() -> None:
        with httpx.stream("GET", gyoza.url + path, timeout=30) as answer:
            for line in answer.iter_lines():
                said.append(line)
                if line == "event: caught-up":
                    begun.set()

    listening = threading.Thread(target=listen)
    listening.start()
    assert begun.wait(30)
    gyoza.kill("web", signal.SIGTERM)
    listening.join(30)
    assert not listening.is_alive()
    assert said[-3] == "event: error"
    assert '"code":"server_shutting_down"' in said[-2]
    gyoza.start_web()
    gyoza.post("/v0/topics/restart", {"records": [{"data": 1}]})
    reader = Watcher(path, [gyoza.url], last=2)
    reader.where = {"Last-Event-ID": said[-4].removeprefix("id: ")}
    asyncio.run(reader.run())
    assert reader.seqs == [2]


@pytest.mark.parametrize("size", [1_000, 60_000, 1_000_000])
def test_a_huge_id_is_ignored_or_refused_and_breaks_nothing(gyoza: System, size: int):
    gyoza.post("/v0/topics/huge", {"records": [{"data": 0}]})
    path = gyoza.post("/v0/watch", {"topics": {"huge": {}}})["stream_url"]
    parts = urlsplit(gyoza.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=30) as link:
        head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nLast-Event-ID: {'e' * size}\r\n\r\n"
        link.sendall(head.encode())
        answer: Any = link.recv(100)
    assert answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 4"))
