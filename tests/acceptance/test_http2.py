"""HTTP/2 by prior knowledge on a real web process (topics v0 §2.1): all that HTTP/1.1 does there."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import threading
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.system import system

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.system import System

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def gyoza(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with system(tmp_path_factory.mktemp("gyoza"), TOPICS_MAX_BODY_BYTES="4000000") as opened:
        opened.start_web()
        yield opened


@pytest.fixture
def http(gyoza: System) -> Iterator[httpx.Client]:
    with httpx.Client(http1=False, http2=True, base_url=gyoza.url, timeout=30) as client:
        yield client


def test_the_log_is_written_and_read(http: httpx.Client):
    answer = http.post("/v0/topics/written", json={"records": [{"data": 1}]})
    assert (answer.http_version, answer.status_code) == ("HTTP/2", 201)
    page = http.post("/v0/topics/written/diff", json={})
    assert [record["data"] for record in page.json()["records"]] == [1]
    assert http.put("/v0/topics/p%C3%A9").json()["error"]["code"] == "invalid_request"
    assert http.delete("/v0/topics/written").json()["deleted"] is True


def test_pages_and_the_control_plane_are_served_too(http: httpx.Client):
    assert http.get("/runs").status_code == 200
    assert http.get("/admin/login/").headers["content-type"].startswith("text/html")
    assert http.get("/nowhere").status_code == 404


def test_correlation_ids_and_refusals_are_those_of_http_1(http: httpx.Client):
    answer = http.get("/v0/topics", headers={"X-Correlation-ID": "mine-2"})
    assert answer.headers["x-correlation-id"] == "mine-2"
    answer = http.get("/v0/topics", headers={"Origin": "https://elsewhere.example"})
    assert answer.json()["error"]["code"] == "forbidden"
    assert http.get("/v0/ws").status_code == 426


def test_a_body_over_the_limit_is_refused(http: httpx.Client):
    answer = http.post(
        "/v0/topics/t", content=b"x" * 5_000_000, headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "payload_too_large")
    answer = http.post("/v0/topics/t", json={"records": [{"data": "x" * 1_000_000}] * 3})
    assert answer.status_code == 201


def test_a_watch_and_a_long_poll_share_a_connection_with_writes(http: httpx.Client):
    http.put("/v0/topics/w")
    path = http.post("/v0/watch", json={"topics": {"w": {}}}).json()["stream_url"]
    polled: list[httpx.Response] = []
    body = {"wait_ms": 30_000}
    polling = threading.Thread(
        target=lambda: polled.append(http.post("/v0/topics/w/diff", json=body))
    )
    with http.stream("GET", path) as stream:
        lines = stream.iter_lines()
        while next(lines) != "event: caught-up":
            pass
        polling.start()
        http.post("/v0/topics/w", json={"records": [{"data": "new"}]})
        while next(lines) != "event: record":
            pass
        assert json.loads(next(lines).removeprefix("data: "))["records"][0]["data"] == "new"
    polling.join(30)
    assert [record["data"] for record in polled[0].json()["records"]] == ["new"]


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_curl_is_a_client(gyoza: System, tmp_path: Path):
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"records": [{"data": "x" * 500_000}] * 4}))
    done = subprocess.run(
        [
            "curl", "-sS", "--http2-prior-knowledge", "-w", "%{http_version} %{http_code}", "-H", "Content-Type: application/json",
            "--data-binary", f"@{body}", f"{gyoza.url}/v0/topics/curled",
        ],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.endswith("2 201")


def test_a_stopping_process_says_goodbye_on_streams(gyoza: System):
    """§21."""
    said: list[str] = []
    begun = threading.Event()

    def listen() -> None:
        with httpx.Client(http1=False, http2=True, base_url=gyoza.url, timeout=30) as client:
            client.put("/v0/topics/s")
            path = client.post("/v0/watch", json={"topics": {"s": {}}}).json()["stream_url"]
            with client.stream("GET", path) as stream:
                for line in stream.iter_lines():
                    said.append(line)
                    if line == "event: caught-up":
                        begun.set()

    listening = threading.Thread(target=listen)
    listening.start()
    assert begun.wait(30)
    gyoza.kill("web", signal.SIGTERM)
    listening.join(30)
    gyoza.start_web()
    assert not listening.is_alive()
    assert '"code":"server_shutting_down"' in said[-2]
