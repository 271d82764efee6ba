"""docs/howto/fan-out.md, literally; and routers while the processes that forward, and Postgres, are killed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import servers
from tests.system import System, durable_system, system

pytestmark = pytest.mark.acceptance

PAGE = Path(__file__).resolve().parents[2] / "docs" / "howto" / "fan-out.md"
DESTS = {
    "copy.plain": {},
    "copy.stamped": {"guarantee": "exactly_once"},
    "copy.even": {"filter": "even"},
}
WRITERS, WRITES = 6, 60


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_page_does_what_it_says(tmp_path):
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    with system(tmp_path) as gyoza:
        gyoza.start_web()
        # Each answer on a line of its own.
        script = "\n".join(["set -e", *blocks]).replace("http://127.0.0.1:5555", gyoza.url)
        script = script.replace("curl -fsS", r"curl -w '\n' -fsS")
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        answers = [json.loads(line) for line in done.stdout.splitlines() if line]
    search, billing, claimed, router, listed, deleted = answers[-6:]
    assert [record["data"]["order"] for record in search["records"]] == [1, 2, 3]
    assert [record["$tag"] for record in search["records"]] == ["paid/de", "open/de", "paid/fr"]
    assert [record["data"]["order"] for record in billing["records"]] == [1, 3]
    stamps = [record["meta"]["_topics_router"] for record in billing["records"]]
    assert [stamp["source_seq"] for stamp in stamps] == [1, 3]
    assert [job["data"]["order"] for job in claimed["claimed"]] == [1, 3]
    assert router["forwarded_total"] == 2
    assert [row["router"] for row in listed["routers"]] == [
        "orders-to-billing", "orders-to-parcels", "orders-to-search",
    ]  # fmt: skip
    assert deleted["deleted"] is True


class Writers:
    """Clients that write numbered records through either web process, and know what was acknowledged."""

    def __init__(self, urls: list[str]) -> None:
        self.urls = urls
        self.told: list[int] = []
        self._grown = threading.Condition()
        self._threads = [
            threading.Thread(target=self._write, args=[number]) for number in range(WRITERS)
        ]
        for thread in self._threads:
            thread.start()

    def wait_for(self, number: int) -> None:
        with self._grown:
            assert self._grown.wait_for(lambda: len(self.told) >= number, timeout=60)

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _write(self, writer: int) -> None:
        with httpx.Client(timeout=30) as http:
            for number in range(writer * WRITES, (writer + 1) * WRITES):
                record = {"data": number, "tag": "even" if number % 2 == 0 else "odd"}
                body = {"records": [record], "idempotency_key": f"n{number}"}
                while not self._send(http, body):
                    pass
                with self._grown:
                    self.told.append(number)
                    self._grown.notify_all()

    def _send(self, http: httpx.Client, body: dict[str, Any]) -> bool:
        for url in self.urls:
            try:
                answer = http.post(f"{url}/v0/topics/source", json=body)
            except httpx.TransportError:
                continue
            if answer.status_code < 300:
                return True
        return False


def read_all(gyoza: System, topic: str) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    after, caught_up = 0, False
    while not caught_up:
        page = gyoza.post(f"/v0/topics/{topic}/diff", {"from_seq": after, "limit": 1000})
        assert page["tombstone"] is None
        records += page["records"]
        after, caught_up = page["next_from_seq"], page["caught_up"]
    return records


def test_every_copy_is_made_once_whoever_is_killed(tmp_path):
    with durable_system(tmp_path) as gyoza:
        gyoza.start_web()
        gyoza.start_web("other")
        gyoza.start_worker()
        gyoza.start_beat()
        for topic in ("source", *DESTS, "copy.last"):
            answer = gyoza.http.put(f"/v0/topics/{topic}", json={"durability": "fsync"})
            assert answer.status_code == 201
        for dest, over in DESTS.items():
            body = {"source": "source", "dest": dest, **over}
            assert gyoza.http.put(f"/v0/routers/{dest}", json=body).status_code == 201
        body = {"source": "copy.plain", "dest": "copy.last"}
        assert gyoza.http.put("/v0/routers/chain", json=body).status_code == 201
        writers = Writers([gyoza.url, gyoza.url_of("other")])
        for done, name in ((60, "other"), (120, "worker"), (180, "other"), (240, "web")):
            writers.wait_for(done)
            gyoza.kill(name)
            servers.crash(tmp_path / "durable/data")
            gyoza.wait_for_postgres()
            if name == "worker":
                gyoza.start_worker()
            else:
                gyoza.start_web(name)
        writers.join()
        source = [record["data"] for record in read_all(gyoza, "source")]
        assert sorted(source) == list(range(WRITERS * WRITES))
        for dest in DESTS:
            found = [record["data"] for record in read_all(gyoza, dest)]
            wanted = [n for n in source if dest != "copy.even" or n % 2 == 0]
            assert found == wanted, dest
        # Nobody reads the end of the chain until it is there.
        gyoza.wait_for(
            lambda: gyoza.manage("routers", "lag", "--json") == "", "nothing is owed any more"
        )
        assert [record["data"] for record in read_all(gyoza, "copy.last")] == source
