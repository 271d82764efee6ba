from __future__ import annotations

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apps.topics import services
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
