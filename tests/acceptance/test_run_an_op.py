"""docs/howto/run-an-op.md, literally: a shell and curl against real processes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.system import system

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl"),
]
PAGE = Path(__file__).resolve().parents[2] / "docs" / "howto" / "run-an-op.md"


def test_the_page_does_what_it_says(tmp_path):
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    with system(tmp_path) as gyoza:
        gyoza.start_web()
        gyoza.start_worker()
        script = "\n".join(["set -e", *blocks]).replace("http://127.0.0.1:5555", gyoza.url)
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

        def all_done():
            page = gyoza.get("/runs", topic="classify-batch", state="COMPLETED")
            return page["data"] if len(page["data"]) == 4 else None

        runs = gyoza.wait_for(all_done, "four runs are COMPLETED")
        assert sorted(len(run["outputs"]["labels"]) for run in runs) == [0, 3, 5, 5]
        first = next(run for run in runs if run["priority"] == 7)
        assert gyoza.http.get(f"/runs/{first['id']}/logs").text == "looking at /data/cat.png\n"
        events, after = [], "0"
        while (
            after
            != (page := gyoza.get("/events", topic="classify-batch", after=after, limit=5))[
                "next_cursor"
            ]
        ):
            events += page["events"]
            after = page["next_cursor"]
        of_first = [event["type"] for event in events if event["run_id"] == first["id"]]
        assert of_first == ["ASSIGNED", "STARTED", "COMPLETED"]
        assert [int(event["cursor"]) for event in events] == list(range(1, len(events) + 1))
        with gyoza.http.stream("GET", f"/runs/{first['id']}/stream") as stream:
            data = [line[6:] for line in stream.iter_lines() if line.startswith("data: ")]
        assert json.loads(data[-1])["type"] == "COMPLETED"
