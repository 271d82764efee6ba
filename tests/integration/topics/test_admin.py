from __future__ import annotations

from datetime import UTC, datetime

import pytest
import time_machine
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apps.access.models import AuditEntry
from apps.topics import services
from apps.topics.config import TopicConfig
from apps.topics.models import Topic
from apps.topics.services import NewEvent

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator(admin_user) -> Client:
    client = Client()
    client.force_login(admin_user)
    return client


def queries_of(client: Client, path: str) -> int:
    client.get(path)
    with CaptureQueriesContext(connection) as captured:
        assert client.get(path).status_code == 200
    return len(captured)


def test_a_topic_shows_its_last_records_escaped(operator):
    services.append_events([NewEvent("t", f'{{"n":{n},"x":"<b>"}}', tag="a") for n in range(30)])
    topic = Topic.objects.get(name="t")
    page = operator.get(f"/admin/topics/topic/{topic.pk}/change/").content.decode()
    assert "&quot;n&quot;:29" in page
    assert "&quot;n&quot;:10," in page
    assert "&quot;n&quot;:9," not in page
    assert "&lt;b&gt;" in page
    assert queries_of(operator, f"/admin/topics/topic/{topic.pk}/change/") <= 8


def test_the_list_costs_the_same_whatever_its_length(operator):
    counts = []
    for round_ in range(2):
        services.append_events([NewEvent(f"t{round_}.{n}", "1") for n in range(5)])
        counts.append(queries_of(operator, "/admin/topics/topic/"))
    assert counts[0] == counts[1] <= 6


def test_nobody_changes_a_topic_here(operator):
    services.append_events([NewEvent("t", "1")])
    topic = Topic.objects.get(name="t")
    assert operator.post(f"/admin/topics/topic/{topic.pk}/change/", {"head": 0}).status_code == 403
    assert operator.post(f"/admin/topics/topic/{topic.pk}/delete/").status_code == 403


# --- what an operator does -------------------------------------------------------------------------


@pytest.fixture
def looker(django_user_model) -> Client:
    client = Client()
    client.force_login(django_user_model.objects.create_user("looker", is_staff=True))
    return client


def path_of(name: str, verb: str = "change") -> str:
    return f"/admin/topics/topic/{Topic.objects.get(name=name).pk}/{verb}/"


@pytest.mark.django_db(transaction=True)
def test_a_page_shows_what_retention_has_left(operator):
    with time_machine.travel(datetime.now(UTC), tick=False) as clock:  # the login must be valid
        services.configure_topic(topic="t", wanted=TopicConfig(ttl_ms=1_000), caller="test")
        services.append_events([NewEvent("t", "1")])
        clock.shift(2)
        page = operator.get(path_of("t")).content.decode()
    assert "No records." in page
    assert Topic.objects.get().count == 0


@pytest.mark.django_db(transaction=True)
def test_an_operator_deletes_records(operator):
    services.append_events([NewEvent("t", str(n), tag="ab"[n % 2]) for n in range(10)])
    assert "records are gone" in operator.get(path_of("t", "trim")).content.decode()
    answer = operator.post(path_of("t", "trim"), {"before_seq": "7", "match": "a*"}, follow=True)
    assert "t: 3 records deleted." in answer.content.decode()
    assert Topic.objects.get().count == 7
    entry = AuditEntry.objects.get(action="topic.delete_records")
    assert (entry.actor_name, entry.target) == ("admin", "topic:t")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "given", [{}, {"before_seq": "-1"}, {"before_seq": str(2**64)}, {"before_seq": "x"}]
)
def test_a_form_that_makes_no_sense_is_shown_again(operator, given: dict[str, str]):
    services.append_events([NewEvent("t", "1")])
    answer = operator.post(path_of("t", "trim"), {**given, "apply": "1"})
    assert (answer.status_code, b"errorlist" in answer.content) == (200, True)
    assert Topic.objects.get().count == 1


@pytest.mark.django_db(transaction=True)
def test_an_operator_changes_the_retention_and_nothing_else(operator):
    services.configure_topic(topic="t", wanted=TopicConfig(priority=7), caller="test")
    services.append_events([NewEvent("t", "1"), NewEvent("t", "2")])
    given = {
        "ttl_ms": str(2**64 - 1), "cap_records": "1", "cap_bytes": "0", "discard": "old", "durability": "fsync",
    }  # fmt: skip
    assert operator.post(path_of("t", "retention"), given).status_code == 302
    topic = Topic.objects.get()
    assert (topic.ttl_ms, topic.cap_records, topic.durability) == (2**64 - 1, 1, "fsync")
    assert (topic.priority, topic.count) == (7, 1)
    entry = AuditEntry.objects.get(action="topic.configure")
    assert entry.detail == {"ttl_ms": 2**64 - 1, "cap_records": 1, "durability": "fsync"}


@pytest.mark.django_db(transaction=True)
def test_an_operator_deletes_a_topic(operator):
    services.append_events([NewEvent("t", "1")])
    path = path_of("t", "remove")
    assert operator.get(path).status_code == 200
    assert Topic.objects.exists()
    answer = operator.post(path, {"apply": "1"}, follow=True)
    assert "t deleted." in answer.content.decode()
    assert not Topic.objects.exists()
    assert operator.get(path).status_code == 302


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("verb", ["trim", "retention", "remove"])
def test_who_may_only_look_changes_nothing(looker, verb: str):
    services.append_events([NewEvent("t", "1")])
    assert looker.get(path_of("t")).status_code == 200
    assert path_of("t", verb) not in looker.get(path_of("t")).content.decode()
    assert looker.post(path_of("t", verb), {"before_seq": "9", "apply": "1"}).status_code == 403
    assert Topic.objects.get().count == 1
