"""Real processes: whatever becomes of a web process or of Redis, who follows an execution hears of each object once."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.servers import OwnValkey
from tests.system import ROOT, system

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system import System

pytestmark = pytest.mark.acceptance
EVENTS = "/api/v1/storage/events"
CLIENTS = 20
WRITERS = 4
OBJECTS = 150
PAGE = ROOT / "docs" / "howto" / "follow-files.md"


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnValkey]:
    own = OwnValkey(tmp_path_factory.mktemp("valkey"))
    yield own
    own.remove()


@pytest.fixture(scope="module")
def gyoza(tmp_path_factory: pytest.TempPathFactory, valkey: OwnValkey) -> Iterator[System]:
    home = tmp_path_factory.mktemp("gyoza")
    with system(home, REDIS_URL=valkey.url) as opened:
        opened.start_web()
        opened.start_web("other")
        opened.start_worker()
        opened.post(
            "/api/v1/pipelines/",
            {"id": "p", "name": "p", "steps": [{"name": "wait", "adapter": "approve", "inputs": {"message": "?"}}]},
        )  # fmt: skip
        yield opened


class Client:
    """Follows executions to their end, from process to process, with the last id it has."""

    def __init__(self, bases: list[str], *executions: str) -> None:
        self.bases = bases
        self.query = {"execution_id": executions, "replay": "true"}
        self.events: list[dict[str, Any]] = []
        self.connections = 0
        self.end = ""

    async def run(self) -> None:
        async with httpx.AsyncClient(timeout=httpx.Timeout(40)) as client:
            while not self.end:
                base = self.bases[self.connections % len(self.bases)]
                self.connections += 1
                seen = {"Last-Event-ID": self.events[-1]["id"]} if self.events else {}
                try:
                    async with client.stream(
                        "GET", base + EVENTS, params=self.query, headers=seen
                    ) as answer:
                        assert answer.status_code == 200, await answer.aread()
                        await self._take(answer)
                except httpx.TransportError:
                    await asyncio.sleep(0.05)

    async def _take(self, answer: httpx.Response) -> None:
        rest = ""
        async for text in answer.aiter_text():
            *blocks, rest = (rest + text).split("\n\n")
            for block in blocks:
                if block.startswith(": end reason=all_terminal"):
                    self.end = block
                elif found := re.search(r"^data: (.*)$", block, re.MULTILINE):
                    self.events.append(json.loads(found[1]))


class Following:
    """Clients in a thread of their own."""

    def __init__(self, clients: list[Client]) -> None:
        self.clients = clients
        self._thread = threading.Thread(target=asyncio.run, args=[self._run()])
        self._thread.start()

    async def _run(self) -> None:
        async with asyncio.timeout(120):
            await asyncio.gather(*(client.run() for client in self.clients))

    def assert_heard(self, written: set[str]) -> None:
        """Wait until all have come to the end, and assert that each has heard of each object once, in order."""
        self._thread.join(150)
        assert not self._thread.is_alive()
        for client in self.clients:
            ids = [event["id"] for event in client.events]
            assert ids == sorted(set(ids))
            keys = [event["key"] for event in client.events]
            assert len(keys) == len(set(keys))
            assert set(keys) == written


def run(gyoza: System) -> str:
    return str(gyoza.post("/api/v1/pipelines/p/run", {})["id"])


def write(base: str, execution: str, name: str) -> set[str]:
    """PUT objects one after another, and return their keys."""
    keys = {f"{execution}/s/{name}-{number}" for number in range(OBJECTS)}
    with httpx.Client(base_url=base, timeout=60) as http:
        for key in sorted(keys):
            http.put(f"/api/v1/storage/objects/{key}", content=b"x").raise_for_status()
    return keys


def write_all(base: str, executions: list[str], name: str) -> set[str]:
    with ThreadPoolExecutor(WRITERS) as writers:
        work = [
            writers.submit(write, base, executions[n % len(executions)], f"{name}{n}")
            for n in range(WRITERS)
        ]
    return set().union(*(one.result() for one in work))


def end(gyoza: System, base: str, *executions: str) -> None:
    for execution in executions:
        gyoza.http.post(f"{base}/api/v1/executions/{execution}/cancel").raise_for_status()


def test_clients_of_a_killed_web_process_hear_of_each_object_once_at_another(gyoza: System):
    other = gyoza.url_of("other")
    executions = [run(gyoza), run(gyoza)]
    following = Following([Client([gyoza.url, other], *executions) for _ in range(CLIENTS)])
    written = write_all(other, executions, "a")
    gyoza.kill("web", signal.SIGKILL)
    written |= write_all(other, executions, "b")
    end(gyoza, other, *executions)
    following.assert_heard(written)
    assert all(client.connections > 1 for client in following.clients)
    gyoza.start_web()


def test_a_web_process_that_ends_says_so_and_nothing_is_missed(gyoza: System):
    other = gyoza.url_of("other")
    execution = run(gyoza)
    following = Following([Client([gyoza.url, other], execution)])
    written = write_all(other, [execution], "a")
    gyoza.kill("web", signal.SIGTERM)
    written |= write_all(other, [execution], "b")
    end(gyoza, other, execution)
    following.assert_heard(written)
    gyoza.start_web()


def test_redis_restarted_in_the_middle_of_a_stream_costs_no_event(gyoza: System, valkey: OwnValkey):
    """Written by one process, told by the other: what tells them is away for a while."""
    other = gyoza.url_of("other")
    execution = run(gyoza)
    following = Following([Client([gyoza.url], execution) for _ in range(CLIENTS)])
    written = write_all(other, [execution], "a")
    valkey.stop()
    try:
        written |= write_all(other, [execution], "b")
        answer = gyoza.http.get(EVENTS, params={"execution_id": execution})
        assert (answer.status_code, answer.json()["detail"]) == (
            503,
            "Storage event streamer not available",
        )
    finally:
        valkey.start()
    written |= write_all(other, [execution], "c")
    end(gyoza, other, execution)
    following.assert_heard(written)
    assert {client.connections for client in following.clients} == {1}


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_page_does_what_it_says(gyoza: System, tmp_path: Any):
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    script = "\n".join(["set -e", *blocks]).replace("http://127.0.0.1:5555", gyoza.url)
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    told = (tmp_path / "told.txt").read_text()
    assert re.findall('"path":"([^"]*)"', told) == ["out/summary.md", "out/numbers.json"]
    assert told.endswith(": end reason=all_terminal\n\n")
    assert re.findall('^data: .*"path":"([^"]*)"', done.stdout, re.MULTILINE) == [
        "out/summary.md", "out/numbers.json",  # the whole of told.txt
        "out/summary.md",  # by extension
        "out/numbers.json",  # after the first
    ]  # fmt: skip
