"""docs/howto/follow-files.md in a real browser: a page shows the files of a pipeline as they appear, each once, whatever dies."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import httpx
import pytest
from selenium.webdriver.common.by import By

from tests.system import ROOT, system

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from selenium.webdriver import Chrome

    from tests.system import System

pytestmark = pytest.mark.browser
PAGE = ROOT / "docs" / "howto" / "follow-files.md"


@pytest.fixture
def gyoza(tmp_path: Path, site: tuple[str, Path]) -> Iterator[System]:
    home = tmp_path / "gyoza"
    home.mkdir()
    with system(home, GYOZA_CORS_ORIGINS=site[0]) as opened:
        opened.start_web()
        opened.start_web("other")
        yield opened


def test_a_page_shows_each_file_once_though_its_web_process_dies(
    browser: Chrome, gyoza: System, site: tuple[str, Path]
):
    steps = [{"name": "wait", "adapter": "approve", "inputs": {"message": "?"}}]
    gyoza.post("/api/v1/pipelines/", {"id": "p", "name": "p", "steps": steps})
    gyoza.post("/api/v1/pipelines/p/run", {"tag": "report-1"})
    written: list[str] = []

    def write(through: httpx.Client) -> None:
        for _ in range(3):
            written.append(f"draft/out/{len(written)}.md")
            through.put(
                f"/api/v1/storage/objects/report-1/{written[-1]}", content=b"#"
            ).raise_for_status()

    def shows_all() -> bool:
        return len(browser.find_element(By.ID, "files").text.split()) == len(written)

    [page] = re.findall(r"^```html\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert "http://127.0.0.1:5555" in page
    origin, root = site
    (root / "files.html").write_text(page.replace("http://127.0.0.1:5555", gyoza.url), "utf-8")
    with httpx.Client(base_url=gyoza.url_of("other"), timeout=60) as through:
        write(through)
        browser.get(f"{origin}/files.html")
        gyoza.wait_for(shows_all, "the page shows what was there")
        write(through)
        gyoza.wait_for(shows_all, "the page shows what came since")
        gyoza.kill("web")
        write(through)
        state = browser.find_element(By.ID, "state")
        gyoza.wait_for(lambda: state.text == "connecting", "the page has noticed")
        gyoza.start_web()
        gyoza.wait_for(shows_all, "the page shows what it had missed")
        write(through)
        gyoza.wait_for(shows_all, "the page goes on")
    assert browser.find_element(By.ID, "files").text.split() == written
    assert state.text == "following"
