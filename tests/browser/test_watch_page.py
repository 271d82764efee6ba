"""docs/howto/follow-topics-in-a-browser.md in a real browser: a page of another origin follows two topics, whatever dies."""

from __future__ import annotations

import json
import re
from itertools import count
from typing import TYPE_CHECKING

import httpx
import psycopg
import pytest
from selenium.webdriver.common.by import By

from tests.system import ROOT, system

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from selenium.webdriver import Chrome

    from tests.system import System

pytestmark = pytest.mark.browser
PAGE = ROOT / "docs" / "howto" / "follow-topics-in-a-browser.md"


@pytest.fixture
def gyoza(tmp_path: Path, site: tuple[str, Path]) -> Iterator[System]:
    home = tmp_path / "gyoza"
    home.mkdir()
    with system(home, GYOZA_CORS_ORIGINS=site[0]) as opened:
        yield opened


def page_for(url: str, key: str) -> str:
    """Return the page as the how-to has it, with its two settings."""
    [page] = re.findall(r"^```html\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    for told, meant in (("http://127.0.0.1:5555", url), ('key = ""', f'key = "{key}"')):
        assert told in page
        page = page.replace(told, meant)
    return str(page)


def shown(browser: Chrome) -> dict[str, list[int]]:
    """Return the data of the records on the page, by topic."""
    found: dict[str, list[int]] = {"shop.orders": [], "shop.parcels": []}
    for line in browser.find_element(By.ID, "records").text.splitlines():
        topic, seq, data = line.split(" ")
        assert json.loads(data) == int(seq)
        found[topic].append(int(seq))
    return found


def test_a_page_of_another_origin_misses_and_doubles_nothing(
    browser: Chrome, gyoza: System, site: tuple[str, Path]
):
    gyoza.start_web()
    gyoza.start_web("other")
    key = json.loads(
        gyoza.manage("keys", "create", "page", "--scopes", "read", "--prefixes", "shop.", "--json")
    )["secret"]
    writer = json.loads(gyoza.manage("keys", "create", "writer", "--json"))["secret"]
    numbers = {"shop.orders": count(1), "shop.parcels": count(1)}
    written = dict.fromkeys(numbers, 0)
    through = httpx.Client(
        base_url=gyoza.url_of("other"), headers={"Authorization": f"Bearer {writer}"}, timeout=60
    )

    def write(times: int) -> None:
        for _ in range(times):
            for topic, following in numbers.items():
                written[topic] = next(following)
                body = {"records": [{"data": written[topic]}]}
                through.post(f"/v0/topics/{topic}", json=body).raise_for_status()

    def everything() -> dict[str, list[int]]:
        return {topic: list(range(1, last + 1)) for topic, last in written.items()}

    def has_all() -> bool:
        return {topic: len(seqs) for topic, seqs in shown(browser).items()} == written

    with through:
        write(3)
        origin, root = site
        (root / "page.html").write_text(page_for(gyoza.url, key), "utf-8")
        browser.get(f"{origin}/page.html")
        gyoza.wait_for(has_all, "the page shows what was there")
        write(3)
        gyoza.wait_for(has_all, "the page shows what came since")
        first = sessions(browser)

        gyoza.kill("web")
        write(3)
        state = browser.find_element(By.ID, "state")
        gyoza.wait_for(lambda: state.text == "connecting", "the page has noticed")
        assert not has_all()
        gyoza.start_web()
        gyoza.wait_for(has_all, "the page shows what it had missed")
        write(3)
        gyoza.wait_for(has_all, "the page goes on")

    assert shown(browser) == everything()
    assert sessions(browser) == first == 1, "the browser came back by itself, with the last id"


def sessions(browser: Chrome) -> int:
    """Return how many watch sessions the page has made."""
    script = "return performance.getEntriesByType('resource').filter(e => e.name.includes('/v0/watch?')).length"
    return int(browser.execute_script(script))


def test_a_page_whose_session_is_gone_makes_another_and_goes_on(
    browser: Chrome, gyoza: System, site: tuple[str, Path]
):
    """Without any key, as on a developer's machine."""
    gyoza.start_web()

    def write(*data: int) -> None:
        for topic in ("shop.orders", "shop.parcels"):
            gyoza.post(f"/v0/topics/{topic}", {"records": [{"data": one} for one in data]})

    write(1, 2)
    origin, root = site
    (root / "page.html").write_text(page_for(gyoza.url, ""), "utf-8")
    browser.get(f"{origin}/page.html")
    gyoza.wait_for(lambda: shown(browser)["shop.parcels"] == [1, 2], "the page shows all")
    gyoza.kill("web")
    forget_sessions(gyoza)
    gyoza.start_web()
    write(3)
    gyoza.wait_for(
        lambda: list(shown(browser).values()) == [[1, 2, 3], [1, 2, 3]], "the page goes on"
    )


def forget_sessions(gyoza: System) -> None:
    """Delete what the server knows of watch sessions, as time would."""
    with psycopg.connect(gyoza.env["DATABASE_URL"], autocommit=True) as link:
        link.execute("DELETE FROM topics_watchsession")
