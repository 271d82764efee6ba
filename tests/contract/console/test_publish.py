"""A record that somebody writes on a topic's page: it is in the log and in the trail, or its fields say what is wrong."""

from __future__ import annotations

import html
import re

import pytest

from apps.access.models import AuditEntry
from apps.topics import services
from apps.topics.config import TopicConfig
from apps.topics.queries import read_after
from apps.topics.services import NewEvent, append_events
from tests.contract.console.conftest import browser_of

pytestmark = pytest.mark.django_db

PAGE = "/console/topics/team.x"


@pytest.fixture(autouse=True)
def _topic() -> None:
    append_events([NewEvent(topic="team.x", data="1")])


def written(topic: str = "team.x") -> list[tuple[str | None, ...]]:
    page = read_after(topic, 0, 100)
    assert page
    return [(one.data, one.tag, one.node, one.meta) for one in page.records[1:]]


def errors(answer) -> dict[str, str]:
    """Return what the fields of the form say is wrong, by field."""
    said = answer.content.decode()
    found = re.findall(r'class="wrong" id="publish-(\w+)-error">([^<]*)', said)
    for name, _ in found:
        assert re.search(rf'id="publish-{name}"[^>]*aria-invalid="true"', said)
    return {name: html.unescape(text) for name, text in found}


def test_it_is_written_as_it_was_typed_and_leaves_an_entry(operator):
    record = {"data": ' {"n": 1.50} ', "tag": "a b", "node": "me", "meta": '{"k": 1}'}
    answer = operator.post(PAGE, record)
    assert (answer.status_code, answer["Location"]) == (302, PAGE)
    assert written() == [('{"n": 1.50}', "a b", "me", '{"k": 1}')]
    assert "Written as seq 2." in operator.get(PAGE).content.decode()
    entry = AuditEntry.objects.get(action="topic.publish")
    assert (entry.actor_name, entry.target, entry.detail["seq"]) == ("admin", "topic:team.x", 2)


def test_what_is_left_empty_is_not_there(operator):
    for meta in ("", "null"):
        operator.post(PAGE, {"data": "null", "tag": "", "node": "", "meta": meta})
    assert written() == [("null", None, None, None)] * 2


@pytest.mark.parametrize(
    ("typed", "field", "said"),
    [
        ({"data": '{"a": 1,\n "b": }'}, "data", "at line 2, column 7"),
        ({"data": "hello"}, "data", "no JSON"),
        ({"data": ""}, "data", "ends too soon"),
        ({"data": "[" * 600 + "]" * 600}, "data", "nested deeper than 500"),
        ({"data": "1", "meta": "{"}, "meta", "ends too soon"),
        ({"data": "1", "tag": "é" * 200}, "tag", "longer than 256 bytes"),
        ({"data": "1", "node": "n" * 129}, "node", "longer than 128 bytes"),
        ({"data": "1", "tag": "a\0"}, "tag", "must not contain NUL"),
        ({"data": "1", "meta": '"' + "m" * 17_000 + '"'}, "meta", "at most 16384"),
        ({"data": '"' + "x" * 2**20 + '"'}, "data", "at most 1048576"),
    ],
)
def test_what_is_wrong_stands_beside_its_field_with_all_that_was_typed(
    operator, typed, field, said
):
    answer = operator.post(PAGE, {"node": "kept", **typed})
    assert answer.status_code == 400
    found = errors(answer)
    assert list(found) == [field]
    assert said in found[field]
    assert html.escape(typed.get("node", "kept")) in answer.content.decode()
    assert written() == []
    assert not AuditEntry.objects.filter(action="topic.publish").exists()


def test_what_the_log_has_no_room_for_is_said(operator):
    full = TopicConfig(cap_records=1, discard="reject")
    services.configure_topic(topic="team.x", wanted=full, caller="test")
    answer = operator.post(PAGE, {"data": "2"})
    assert answer.status_code == 422
    assert errors(answer) == {"data": "team.x has no room left"}
    assert written() == []


def test_what_all_of_the_log_has_no_room_for_is_said(operator, settings):
    settings.GYOZA_MAX_TOTAL_BYTES = 3
    answer = operator.post(PAGE, {"data": "12345"})
    assert answer.status_code == 429
    assert errors(answer) == {"data": "the log is full"}
    assert written() == []


@pytest.mark.parametrize(
    ("path", "status"), [("/console/topics/nobody", 404), ("/console/topics/%00", 404)]
)
def test_a_topic_that_is_not_there_is_not_made(operator, path, status):
    assert operator.post(path, {"data": "1"}).status_code == status


def test_topics_of_the_service_are_not_written_to(operator):
    append_events([NewEvent(topic="system.x", data="1")])
    assert 'id="publish"' not in operator.get("/console/topics/system.x").content.decode()
    assert operator.post("/console/topics/system.x", {"data": "1"}).status_code == 403
    assert written("system.x") == []


def test_who_may_only_look_has_no_form_and_writes_nothing(looker):
    assert 'id="publish"' not in looker.get(PAGE).content.decode()
    assert looker.post(PAGE, {"data": "1"}).status_code == 403
    assert written() == []


def test_pages_of_other_sites_write_nothing(admin_user):
    browser = browser_of(admin_user)
    browser.handler.enforce_csrf_checks = True
    assert browser.post(PAGE, {"data": "1"}).status_code == 403
    assert written() == []
