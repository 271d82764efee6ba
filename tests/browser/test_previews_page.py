"""The admin's pages of objects in a real browser: an image is shown, and nothing of what was stored runs."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import httpx
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.system import system

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from selenium.webdriver import Chrome

    from tests.system import System

pytestmark = pytest.mark.browser

API = "/api/v1"
# One pixel.
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
SCRIPT = "<script>document.title = 'OWNED'</script>"
SVG = f'<svg xmlns="http://www.w3.org/2000/svg">{SCRIPT}</svg>'
MARKDOWN = f"# Report\n\n{SCRIPT}\n\n<b x-data x-init=\"document.title = 'OWNED'\">b</b>\n"


@pytest.fixture
def gyoza(tmp_path: Path) -> Iterator[System]:
    home = tmp_path / "gyoza"
    home.mkdir()
    with system(home, DJANGO_SUPERUSER_PASSWORD="pw-Pw-1234") as opened:
        opened.start_web()
        yield opened


@pytest.fixture
def execution(gyoza: System) -> str:
    """Return an execution that waits, and has stored what is dangerous and what is not."""
    step = {"name": "ask", "adapter": "approve", "inputs": {"message": "?"}}
    with httpx.Client(base_url=gyoza.url, timeout=60) as api:
        api.post(f"{API}/pipelines/", json={"id": "p", "name": "p", "steps": [step]})
        made: str = api.post(f"{API}/pipelines/p/run", json={}).json()["id"]
        for name, type_, content in (
            ("chart.png", "image/png", PNG),
            ("page.html", "text/html", SCRIPT.encode()),
            ("drawing.svg", "image/svg+xml", SVG.encode()),
            ("report.md", "text/markdown", MARKDOWN.encode()),
        ):
            answer = api.put(
                f"{API}/storage/objects/{made}/out/{name}",
                content=content,
                headers={"Content-Type": type_},
            )
            assert answer.status_code == 201, answer.text
    return made


def test_an_image_is_shown_and_nothing_runs(browser: Chrome, gyoza: System, execution: str):
    gyoza.manage("createsuperuser", "--noinput", "--username=a", "--email=a@example.com")
    browser.get(f"{gyoza.url}/admin/login/?next=/admin/storage/space/{execution}/change/")
    browser.find_element(By.NAME, "username").send_keys("a")
    browser.find_element(By.NAME, "password").send_keys("pw-Pw-1234")
    browser.find_element(By.CSS_SELECTOR, "form button[type=submit]").click()
    WebDriverWait(browser, 30).until(lambda _: browser.find_elements(By.LINK_TEXT, "out/"))
    browser.find_element(By.LINK_TEXT, "out/").click()
    names = ["chart.png", "drawing.svg", "page.html", "report.md"]
    rows = browser.find_elements(By.CSS_SELECTOR, ".gz-table tbody a")
    assert [row.text for row in rows] == names
    level = browser.current_url
    said = {}
    for name in names:
        browser.get(level)
        browser.find_element(By.LINK_TEXT, name).click()
        assert "OWNED" not in browser.title
        said[name] = browser.find_element(By.TAG_NAME, "body").text
        if name == "chart.png":
            image = browser.find_element(By.CSS_SELECTOR, "img.gz-image")
            assert image.get_property("naturalWidth") == 1
    assert SCRIPT in said["page.html"]
    assert SVG in said["drawing.svg"]
    assert "Report\n" in said["report.md"]
    # The file itself, opened as a page: it is saved and not shown.
    browser.get(f"{gyoza.url}{API}/storage/objects/{execution}/out/page.html")
    assert "OWNED" not in browser.title
    logged = browser.get_log("browser")  # type: ignore[no-untyped-call]
    errors = [line["message"] for line in logged if line["level"] == "SEVERE"]
    assert [line for line in errors if "favicon" not in line] == []
