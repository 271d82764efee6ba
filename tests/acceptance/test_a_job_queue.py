"""docs/howto/a-job-queue.md, literally: a shell and curl against real processes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.system import ROOT, system

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl"),
]
PAGE = ROOT / "docs" / "howto" / "a-job-queue.md"


def test_the_page_does_what_it_says(tmp_path: Path):
    text = PAGE.read_text("utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    with system(tmp_path) as gyoza:
        gyoza.start_web()
        script = "\n".join(["set -e", *blocks]).replace("http://127.0.0.1:5555", gyoza.url)
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        said = done.stdout
        claims = [json.loads(line) for line in said.splitlines() if '"claimed":' in line]
        seqs = [[job["$seq"] for job in claim["claimed"]] for claim in claims]
        assert seqs == [[1, 2], [2], [2], [3]]
        assert '"acked":1' in said
        assert '"extended":1' in said
        assert '"src_seq":2,"deliveries":3,"data":{"order": 5512, "copies": 3}' in said
        assert '"redriven":1,"seqs":[4]' in said
        # Job 3 is leased by printer-b; the stream is sent the one that came back, and gives it back at its end.
        assert re.search(r'id: 4\nevent: job\ndata: {"topic":"labels","\$seq":4,', said)
        assert 'topics_topic_queue_dead_lettered{topic="labels"} 1' in said
        assert re.search(r'"queue":{"ready":[01],"in_flight":[12],"dead_lettered":1}', said)
        for command in ("list", "peek labels", "pause labels", "resume labels"):
            assert gyoza.manage("queues", *command.split())
        assert gyoza.manage("queues", "dead", "labels") == ""
        released = gyoza.manage("queues", "release", "labels", "--node", "printer-b")
        assert released == "Gave back 1 jobs.\n"
        assert gyoza.manage("queues", "redrive", "labels") == "Moved 0 jobs back into labels.\n"
