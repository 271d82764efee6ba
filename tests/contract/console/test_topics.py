"""Topics in the console: which there are, and what was written to them last."""

from __future__ import annotations

import re
from datetime import timedelta
from urllib.parse import unquote

import pytest
import time_machine

from apps.console.topics import lists
from apps.core import clock
from apps.topics import services
from apps.topics.config import TopicConfig
from apps.topics.services import NewEvent, append_events

pytestmark = pytest.mark.django_db

LIST = "/console/topics"


def write(topic: str, *data: str) -> None:
    append_events([NewEvent(topic=topic, data=one) for one in data])


def listed(answer) -> list[str]:
    assert answer.status_code == 200, answer.content
    found = re.findall(rf'href="{LIST}/([^"]+)"', answer.content.decode())
    return [unquote(one) for one in found]


def test_topics_are_listed_by_name_and_narrowed(operator, monkeypatch):
    monkeypatch.setattr(lists, "PAGE", 2)
    for name in ("b.2", "a:x", "b.1", "b.3"):
        write(name, "1")
    assert listed(operator.get(LIST)) == ["a:x", "b.1"]
    assert listed(operator.get(f"{LIST}?after=b.1")) == ["b.2", "b.3"]
    assert listed(operator.get(f"{LIST}?prefix=b.")) == ["b.1", "b.2"]
    assert listed(operator.get(f"{LIST}?prefix=c")) == []


@pytest.mark.parametrize("query", ["prefix=%00", "after=%00"])
def test_a_bad_query_is_a_page(operator, query):
    assert operator.get(f"{LIST}?{query}").status_code == 400


@pytest.mark.parametrize("path", ["nobody", "%00", "a/b"])
def test_a_topic_that_is_not_there_is_a_page(operator, path):
    answer = operator.get(f"{LIST}/{path}")
    assert answer.status_code == 404
    assert answer["Content-Type"].startswith("text/html")


def test_a_topic_shows_its_last_records_newest_first(operator):
    write("team.x", *(f'{{"n":"<b>{n}"}}' for n in range(25)))
    said = operator.get(f"{LIST}/team.x").content.decode()
    seqs = [int(seq) for seq in re.findall(r"<td data-name=\"seq\">(\d+)</td>", said)]
    assert seqs == list(range(25, 5, -1))
    assert "&lt;b&gt;24" in said
    assert "<b>" not in said


def test_a_queue_shows_its_jobs(operator):
    services.configure_topic(topic="jobs", wanted=TopicConfig(kind="queue"), caller="test")
    write("jobs", "1", "2", "3")
    said = operator.get(f"{LIST}/jobs").content.decode()
    assert "<dt>jobs ready</dt><dd>3</dd>" in said
    assert "<dt>being worked on</dt><dd>0</dd>" in said
    write("team.x", "1")
    assert "jobs ready" not in operator.get(f"{LIST}/team.x").content.decode()


def test_a_topic_shows_how_much_was_written_in_the_last_minutes(operator):
    # While the session lasts.
    began = clock.now().replace(second=0, microsecond=0) + timedelta(minutes=1)
    with time_machine.travel(began, tick=False) as moved:
        write("team.x", *(["1"] * 50))
        moved.shift(timedelta(seconds=10))
        said = operator.get(f"{LIST}/team.x").content.decode()
    label = "Records per second, in parts of ten seconds: 5.0 now, 0.2 on average, 5.0 at most."
    assert f'role="img" aria-label="{label}' in said
    assert said.count("<rect") == 60
    row = f'<tr><th scope="row">{began:%H:%M:%S}</th><td>5.0</td><td>5 bytes</td></tr>'
    assert row in said.replace("\xa0", " ")


def test_pages_take_few_queries(operator, django_assert_max_num_queries):
    for n in range(10):
        write(f"team.{n}", "1")
    # The session, who it belongs to, the topics.
    with django_assert_max_num_queries(3):
        operator.get(LIST)
    # The topic before and after its records are read, and what was written in the last minutes.
    with django_assert_max_num_queries(6):
        operator.get(f"{LIST}/team.1")
