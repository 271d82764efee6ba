"""The console in a real browser: a person follows a pipeline's files and a run's log as they are written, each once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.expected_conditions import element_to_be_clickable
from selenium.webdriver.support.ui import WebDriverWait

from tests.system import system

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from selenium.webdriver import Chrome

    from tests.system import System

pytestmark = pytest.mark.browser

API = "/api/v1"
PASSWORD = "pw-Pw-1234"


@pytest.fixture
def gyoza(tmp_path: Path) -> Iterator[System]:
    home = tmp_path / "gyoza"
    home.mkdir()
    with system(home, DJANGO_SUPERUSER_PASSWORD=PASSWORD) as opened:
        opened.start_web()
        opened.start_web("other")
        opened.start_worker()
        yield opened


@pytest.fixture
def api(gyoza: System) -> Iterator[httpx.Client]:
    """Return a client with a key, by way of the other web process: from now on nobody gets in without one."""
    secret = json.loads(gyoza.manage("keys", "create", "boss", "--json"))["secret"]
    headers = {"Authorization": f"Bearer {secret}"}
    with httpx.Client(base_url=gyoza.url_of("other"), headers=headers, timeout=60) as opened:
        yield opened


def log_in(browser: Chrome, gyoza: System, page: str) -> None:
    """Log in as a superuser on the way to a page."""
    gyoza.manage("createsuperuser", "--noinput", "--username=a", "--email=a@example.com")
    browser.get(f"{gyoza.url}{page}")
    browser.find_element(By.NAME, "username").send_keys("a")
    browser.find_element(By.NAME, "password").send_keys(PASSWORD)
    browser.find_element(By.CSS_SELECTOR, "form button[type=submit]").click()
    WebDriverWait(browser, 30).until(lambda _: browser.current_url == f"{gyoza.url}{page}")


def op(go_on: Path) -> list[str]:
    """Return a command that writes three files, and three more each time it is told to go on."""
    write = 'for n in "$@"; do echo "# Report $n" > out/$n.md; done'
    script = f"""
        cd "$GYOZA_STORAGE_DIR" && mkdir out
        write() {{ {write}; }}
        write 0 1 2
        for round in 1 2; do
            until [ -e {go_on}-$round ]; do sleep 0.05; done
            write $((round * 3)) $((round * 3 + 1)) $((round * 3 + 2))
        done
        until [ -e {go_on}-3 ]; do sleep 0.05; done
    """
    return ["sh", "-c", script]


def shown(browser: Chrome) -> list[str]:
    """Return the names of the objects in the tree, in its order."""
    script = (
        "return [...document.querySelectorAll('#tree a[data-object]')].map(a => a.dataset.object)"
    )
    return list(browser.execute_script(script))


def text_of(browser: Chrome, selector: str) -> str:
    """Return a part's text at one moment: parts are replaced while somebody looks."""
    return str(browser.execute_script(f"return document.querySelector({selector!r}).innerText"))


def test_files_appear_as_they_are_written(
    browser: Chrome, gyoza: System, api: httpx.Client, tmp_path: Path
):
    go_on = tmp_path / "go-on"
    steps = [{"name": "write", "command": op(go_on)}]
    api.post(f"{API}/pipelines/", json={"id": "p", "name": "p", "steps": steps}).raise_for_status()
    execution = api.post(f"{API}/pipelines/p/run", json={}).json()["id"]

    def stored() -> int:
        query: dict[str, Any] = {"execution_id": execution}
        return int(api.get(f"{API}/storage/objects", params=query).json()["total"])

    def names(count: int) -> list[str]:
        return [f"write/out/{n}.md" for n in range(count)]

    log_in(browser, gyoza, f"/console/executions/{execution}")
    for folder in ("write/", "out/"):
        find = (By.XPATH, f"//div[@id='tree']//summary[text()='{folder}']")
        WebDriverWait(browser, 60).until(element_to_be_clickable(find)).click()
    gyoza.wait_for(lambda: shown(browser) == names(3), "the tree has what was there")
    gyoza.wait_for(lambda: "running" in text_of(browser, "#stages"), "its run is under way")
    gyoza.wait_for(lambda: text_of(browser, "#following") == "following", "the page follows")

    browser.execute_script("document.getElementById('deeds').isFirst = true")
    browser.find_element(By.LINK_TEXT, "1.md").click()
    gyoza.wait_for(lambda: "Report 1" in text_of(browser, "#pane"), "the preview is there")

    gyoza.kill("web")
    gyoza.wait_for(lambda: text_of(browser, "#following") == "connecting", "the page has noticed")
    browser.find_element(By.LINK_TEXT, "2.md").click()
    gyoza.wait_for(lambda: "no answer" in text_of(browser, "#pane"), "the pane says so, too")
    go_on.with_name("go-on-1").touch()
    gyoza.wait_for(lambda: stored() == 6, "three more are stored")
    assert shown(browser) == names(3)
    gyoza.start_web()
    gyoza.wait_for(lambda: shown(browser) == names(6), "the tree has what was missed")

    go_on.with_name("go-on-2").touch()
    gyoza.wait_for(lambda: shown(browser) == names(9), "the tree goes on")
    gyoza.wait_for(lambda: "9 objects" in text_of(browser, "#facts"), "the page was read again")
    assert browser.execute_script("return document.getElementById('deeds').isFirst")
    api.delete(f"{API}/storage/objects/{execution}/write/out/4.md").raise_for_status()
    kept = [name for name in names(9) if "4.md" not in name]
    gyoza.wait_for(lambda: shown(browser) == kept, "what is deleted goes")
    for name in kept:
        api.delete(f"{API}/storage/objects/{execution}/{name}").raise_for_status()
    gyoza.wait_for(lambda: "Nothing is stored yet" in text_of(browser, "#tree"), "folders go, too")
    assert shown(browser) == []
    go_on.with_name("go-on-3").touch()
    gyoza.wait_for(lambda: "completed" in text_of(browser, "#facts"), "the page tells the end")
    gyoza.wait_for(
        lambda: text_of(browser, "#said") == "The execution is completed.", "and says it aloud"
    )
    assert browser.find_elements(By.XPATH, "//summary[text()='Replay']")
    assert not browser.find_elements(By.XPATH, "//summary[text()='Cancel']")
    assert browser.execute_script("return performance.getEntriesByType('navigation').length") == 1
    logged = browser.get_log("browser")  # type: ignore[no-untyped-call]
    refused = [line["message"] for line in logged if "Content Security Policy" in line["message"]]
    assert refused == []


def test_a_button_is_pressed(browser: Chrome, gyoza: System, api: httpx.Client):
    steps = [{"name": "ask", "adapter": "approve", "inputs": {"message": "Shall it?"}}]
    api.post(f"{API}/pipelines/", json={"id": "q", "name": "q", "steps": steps}).raise_for_status()
    execution = api.post(f"{API}/pipelines/q/run", json={"tag": "one"}).json()["id"]
    log_in(browser, gyoza, f"/console/executions/{execution}")

    menu = "document.querySelector('#deeds details')"
    browser.execute_script(f"{menu}.querySelector('summary').focus()")
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    assert browser.execute_script(f"return {menu}.open")
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not browser.execute_script(f"return {menu}.open")
    assert browser.switch_to.active_element.tag_name == "summary"
    browser.execute_script("document.activeElement.blur()")

    def is_approved(_: object) -> bool:
        told = browser.find_elements(By.CSS_SELECTOR, "[role=status].told")
        if any("ask: approved." in one.text for one in told):
            return True
        browser.find_element(By.NAME, "comment").send_keys("it may")
        browser.find_element(By.XPATH, "//button[text()='Approve']").click()
        return False

    # Until somebody types, the part with the form is replaced when it is read again: under our hands, too.
    WebDriverWait(browser, 60, ignored_exceptions=[WebDriverException]).until(is_approved)
    gyoza.wait_for(lambda: "completed" in text_of(browser, "#facts"), "it is completed")


def test_a_log_grows_as_it_is_written(
    browser: Chrome, gyoza: System, api: httpx.Client, tmp_path: Path
):
    go_on = tmp_path / "go-on"
    script = f"""
        for round in 1 2 3; do
            echo "line $round"
            until [ -e {go_on}-$round ]; do sleep 0.05; done
        done
        echo "the end"
    """
    run = api.post("/runs", json={"command": ["sh", "-c", script]}).json()["id"]

    def logged() -> str:
        return str(api.get(f"/runs/{run}/logs").text)

    def shows(*lines: str) -> bool:
        shown = browser.execute_script("return document.getElementById('log').textContent")
        return bool(shown == "".join(f"{line}\n" for line in lines))

    log_in(browser, gyoza, f"/console/runs/{run}")
    gyoza.wait_for(lambda: shows("line 1"), "the log has begun")
    gyoza.wait_for(lambda: text_of(browser, "#following") == "following", "the page follows")
    go_on.with_name("go-on-1").touch()
    gyoza.wait_for(lambda: shows("line 1", "line 2"), "the log goes on")
    gyoza.kill("web")
    gyoza.wait_for(lambda: text_of(browser, "#following") == "connecting", "the page has noticed")
    go_on.with_name("go-on-2").touch()
    gyoza.wait_for(lambda: "line 3" in logged(), "it is written")
    gyoza.start_web()
    gyoza.wait_for(lambda: shows("line 1", "line 2", "line 3"), "the page has what it missed")
    go_on.with_name("go-on-3").touch()
    gyoza.wait_for(lambda: "completed" in text_of(browser, "#facts"), "the page tells the end")
    gyoza.wait_for(
        lambda: shows("line 1", "line 2", "line 3", "the end"), "and has all of it, once"
    )


def seqs(browser: Chrome) -> list[str]:
    """Return the first cells of the rows of a topic's records, newest first."""
    script = (
        "return [...document.querySelectorAll('#tail tbody tr')].map(row => row.cells[0].innerText)"
    )
    return list(browser.execute_script(script))


def test_records_appear_as_they_are_written(browser: Chrome, gyoza: System, api: httpx.Client):
    def write(count: int) -> None:
        records = [{"data": {"n": 12345678901234567890, "text": "<b>"}}] * count
        api.post("/v0/topics/t", json={"records": records}).raise_for_status()

    def numbers(newest: int, count: int) -> list[str]:
        return [str(seq) for seq in range(newest, newest - count, -1)]

    write(3)
    log_in(browser, gyoza, "/console/topics/t")
    assert seqs(browser) == numbers(3, 3)
    gyoza.wait_for(lambda: text_of(browser, "#following") == "following", "the page follows")
    write(2)
    gyoza.wait_for(lambda: seqs(browser) == numbers(5, 5), "what is written appears")
    data = '{"n":12345678901234567890,"text":"<b>"}'
    assert text_of(browser, "#tail tbody tr:first-child td:last-child") == data

    for _ in range(5):
        write(1000)
    gyoza.wait_for(lambda: seqs(browser) == numbers(5005, 200), "of much the newest stays")

    browser.execute_script("document.getElementById('tail').scrollTop = 300")
    write(500)
    gyoza.wait_for(
        lambda: text_of(browser, "#following") == "paused, 500 new", "who reads is told of news"
    )
    assert seqs(browser) == numbers(5005, 200)
    gyoza.kill("web")
    gyoza.wait_for(lambda: text_of(browser, "#following") == "connecting", "the page has noticed")
    write(1)
    gyoza.start_web()
    gyoza.wait_for(
        lambda: text_of(browser, "#following") == "paused, 501 new", "it goes on where it was"
    )
    browser.execute_script("document.getElementById('tail').scrollTop = 0")
    gyoza.wait_for(lambda: seqs(browser) == numbers(5506, 200), "who is back sees the newest")

    browser.find_element(By.CSS_SELECTOR, "#publish > summary").click()
    field = browser.find_element(By.ID, "publish-data")
    field.send_keys("{")
    browser.find_element(By.XPATH, "//button[text()='Publish']").click()
    gyoza.wait_for(lambda: "ends too soon" in text_of(browser, "#publish"), "what is wrong is said")
    focused = browser.switch_to.active_element
    assert (focused.get_attribute("id"), focused.get_attribute("value")) == ("publish-data", "{")
    focused.send_keys(Keys.END, '"mine": 1}')
    browser.find_element(By.XPATH, "//button[text()='Publish']").click()
    gyoza.wait_for(
        lambda: browser.find_elements(By.XPATH, "//li[text()='Written as seq 5507.']"),
        "it is written",
    )
    gyoza.wait_for(lambda: "mine" in text_of(browser, "#tail tbody tr"), "and shown")
    logged = browser.get_log("browser")  # type: ignore[no-untyped-call]
    assert [line for line in logged if "Content Security Policy" in line["message"]] == []
