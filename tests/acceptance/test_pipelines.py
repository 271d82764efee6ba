"""docs/howto/pipelines.md, literally: a shell and curl against real processes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

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
PAGE = ROOT / "docs" / "howto" / "pipelines.md"


@pytest.fixture
def gyoza(tmp_path: Path) -> Iterator[System]:
    with system(tmp_path) as opened:
        opened.start_web()
        opened.start_worker()
        opened.start_beat()
        yield opened


def test_the_page_does_what_it_says(gyoza: System, tmp_path: Path):
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    script = "\n".join(["set -e", *blocks]).replace("http://127.0.0.1:5555", gyoza.url)
    script = script.replace("/tmp/gyoza-howto", str(tmp_path / "gyoza-howto"))
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    first = gyoza.get("/api/v1/executions/first")
    assert first["status"] == "completed"
    assert [len(stage["run_ids"]) for stage in first["stages"]] == [0, 2, 0]
    assert first["outputs"]["tell"]["seq"] == 1
    assert "event: completed" in done.stdout
    assert ": end reason=all_terminal" in done.stdout
    assert '{"message":"Event started successfully"}' in done.stdout
    assert '"matched":false' in done.stdout
    assert '{"redriven":1}' in done.stdout
    state = gyoza.get("/api/v1/events/invoices/status")
    assert (state["filtered"], state["started"], state["dead_lettered"]) == (1, 3, 1)
    assert gyoza.get("/api/v1/pipelines/nightly/schedule")["next_at"] is not None
    assert (
        json.loads((tmp_path / "nightly.json").read_text())["options"]["timezone"]
        == "Europe/Berlin"
    )
