"""docs/howto/topics.md, literally: a shell and curl against real processes; and how the web process ends."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.system import ROOT, system

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.system import System

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl"),
]
PAGE = ROOT / "docs" / "howto" / "topics.md"


@pytest.fixture
def gyoza(tmp_path: Path) -> Iterator[System]:
    with system(tmp_path) as opened:
        opened.start_web()
        yield opened


def answers_in(text: str) -> list[Any]:
    """Return the JSON objects in a text, in which other lines may stand."""
    found, decoder, at = [], json.JSONDecoder(), text.find("{")
    while at >= 0:
        try:
            value, at = decoder.raw_decode(text, at)
        except ValueError:
            at += 1
        else:
            found.append(value)
        at = text.find("{", at)
    return found


def test_the_page_does_what_it_says(gyoza: System):
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    script = "\n".join(["set -e", *blocks]).replace("http://127.0.0.1:5555", gyoza.url)
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answers = answers_in(done.stdout)

    def the(**members: Any) -> Any:
        """Return the answer that has these members."""
        [one] = [a for a in answers if members.items() <= a.items()]
        return one

    first, woken = [a for a in answers if a.get("topic") == "parcels:north" and "records" in a][:2]
    assert [record["$seq"] for record in first["records"]] == [1, 2]
    assert (first["next_from_seq"], first["caught_up"]) == (2, False)
    assert first["records"][1]["meta"] == {"scanner": 4}
    assert woken["records"][0]["data"] == "late"
    once = [a for a in answers if a.get("first_seq") == 5 and a["topic"] == "parcels:north"]
    assert [a["deduped"] for a in once] == [False, True]
    gap = next(a["tombstone"] for a in answers if a.get("tombstone"))
    assert (gap["gap_from"], gap["gap_to"], gap["reason"]) == (2, 2, "cap")
    assert (the(next_seq=6)["count"], the(next_seq=6)["config"]["durable"]) == (3, True)
    assert the(deleted=2)["earliest_seq"] == 3
    assert the(routers_removed=[])["deleted"] is True
    [copied] = the(topic="alarms", caught_up=True)["records"]
    assert (copied["data"], copied["$tag"]) == (48.0, "hot/bed-3")
    assert [job["$seq"] for job in the(topic="label-printing", count=2, ready=0)["claimed"]] == [
        1,
        2,
    ]
    assert (the(acked=1)["skipped"], the(nacked=1)["skipped"]) == ([], [])
    codes = [a["error"]["code"] for a in answers if "error" in a]
    assert codes == ["topic_not_empty", "topic_not_found", "unsupported_media_type"]
    assert "event: caught-up" in done.stdout
    assert 'topics_topic_head_seq{topic="label-printing"} 2' in done.stdout


def test_a_terminal_follows_a_topic(gyoza: System):
    gyoza.manage("topics", "publish", "t", "1", '{"a": 2}', "--tag", "x")
    command = [sys.executable, "manage.py", "topics", "tail", "t", "--follow", "--json"]
    with subprocess.Popen(command, cwd=ROOT, env=gyoza.env, stdout=subprocess.PIPE) as tail:
        try:
            assert tail.stdout is not None
            assert [json.loads(tail.stdout.readline())["data"] for _ in range(2)] == [1, {"a": 2}]
            gyoza.post("/v0/topics/t", {"records": [{"data": "over HTTP"}]})
            assert json.loads(tail.stdout.readline())["data"] == "over HTTP"
        finally:
            tail.send_signal(signal.SIGINT)
        assert tail.wait(30) == 0


def test_a_process_that_is_told_to_end_answers_who_waits(gyoza: System):
    """topics v0 §21: long polls get their answer, what is acknowledged is there for the next process."""
    gyoza.post("/v0/topics/t", {"records": [{"data": 1}]})
    answers: list[httpx.Response] = []

    def wait() -> None:
        body = {"from_seq": 1, "wait_ms": 30_000}
        answers.append(gyoza.http.post("/v0/topics/t/diff", json=body))

    waiting = threading.Thread(target=wait)
    waiting.start()
    # It is under way when it has been noted as a read.
    gyoza.wait_for(
        lambda: gyoza.get("/v0/topics/t", touch="false")["last_read_ts"], "the poll waits"
    )
    gyoza.kill("web", signal.SIGTERM)
    waiting.join(30)
    assert (answers[0].status_code, answers[0].json()["records"]) == (200, [])
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{gyoza.url}/v0/ready")
    gyoza.start_web()
    state = gyoza.get("/v0/topics/t", touch="false")
    assert (state["head_seq"], state["last_read_ts"] is not None) == (1, True)


def test_what_survives_a_restart(gyoza: System):
    """§21, ★7: also when the process is killed."""
    gyoza.http.put("/v0/topics/t", json={"cap_records": 3, "durability": "fsync", "priority": 5})
    write = {"records": [{"data": n, "tag": f"n/{n}"} for n in range(5)], "idempotency_key": "k"}
    first = gyoza.post("/v0/topics/t", write)
    gyoza.post("/v0/topics/t/delete", {"match": "n/3"})
    gyoza.http.put("/v0/topics/t", json={"durability": "fsync", "priority": 5})
    before = gyoza.get("/v0/topics/t", touch="false")
    gyoza.kill("web", signal.SIGKILL)
    gyoza.start_web()
    after = gyoza.get("/v0/topics/t", touch="false")
    for changing in ("performance", "last_read_ts", "effective_priority"):
        before.pop(changing)
        after.pop(changing)
    assert after == before
    again = gyoza.post("/v0/topics/t", write)
    assert (again["deduped"], again["seqs"]) == (True, first["seqs"])
    page = gyoza.post("/v0/topics/t/diff", {})
    assert [record["$seq"] for record in page["records"]] == [3, 5]
    assert page["tombstone"]["gap_to"] == 2
