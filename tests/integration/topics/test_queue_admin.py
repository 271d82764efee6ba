"""Queues in the admin."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apps.topics import services
from apps.topics.config import TopicConfig
from apps.topics.models import Queue, Topic
from apps.topics.queues import passes
from apps.topics.queues.orders import Claim, Nack
from apps.topics.services import NewEvent, append_events
from tests import aio

pytestmark = pytest.mark.django_db(transaction=True)
LIST = "/admin/topics/queuetopic/"


@pytest.fixture
def operator(admin_user: User) -> Client:
    client = Client()
    client.force_login(admin_user)
    return client


def make_queue(name: str, jobs: int = 2, **config: Any) -> Topic:
    wanted = TopicConfig(kind="queue", **config)
    services.configure_topic(topic=name, wanted=wanted, caller="test")
    append_events([NewEvent(name, '{"x":"<b>"}') for _ in range(jobs)])
    return Topic.objects.get(name=name)


def carry_out(name: str, *orders: Any) -> Any:
    return aio.run(passes.carry_out(name, orders))[0]


def act(client: Client, action: str, *topics: Topic) -> str:
    chosen = {"action": action, "_selected_action": [topic.pk for topic in topics]}
    answer = client.post(LIST, chosen, follow=True)
    assert answer.status_code == 200
    return answer.content.decode()


def test_the_list_shows_queues_with_their_depth(operator: Client):
    make_queue("jobs", 3)
    carry_out("jobs", Claim(b"w", 1))
    append_events([NewEvent("a-log", "1")])
    page = operator.get(LIST).content.decode()
    assert ">jobs<" in page
    assert "a-log" not in page


def test_the_list_costs_the_same_whatever_its_length(operator: Client):
    counts = []
    for number in range(2):
        for n in range(4):
            make_queue(f"q{number}.{n}")
        operator.get(LIST)
        with CaptureQueriesContext(connection) as captured:
            assert operator.get(LIST).status_code == 200
        counts.append(len(captured))
    assert counts[0] == counts[1] <= 7


def test_a_queue_shows_its_oldest_jobs_and_dead_letters_escaped(operator: Client):
    topic = make_queue("jobs", 2, max_deliveries=1, dead_letter="dead")
    carry_out("jobs", Claim(b"<i>", 1))
    carry_out("jobs", Nack(b"<i>", [1], [0]), Claim(b"<i>", 1))
    page = operator.get(f"{LIST}{topic.pk}/change/").content.decode()
    assert "&lt;b&gt;" in page
    assert "&lt;i&gt;" in page
    assert "Oldest dead letters" in page


def test_a_queue_without_dead_letters_has_a_page(operator: Client):
    topic = make_queue("jobs", 0)
    page = operator.get(f"{LIST}{topic.pk}/change/").content.decode()
    assert "No jobs." in page
    assert "No dead letters." in page


def test_actions_call_the_services_and_tell_what_became_of_them(operator: Client):
    one, other = make_queue("one", max_deliveries=1, dead_letter="dead"), make_queue("other")
    carry_out("one", Claim(b"w", 2))
    assert "Leases given back: one, other" in act(operator, "release", one, other)
    assert Queue.objects.get(topic=one).leased == 0
    carry_out("one", Claim(b"w", 2))
    page = act(operator, "redrive", one, other)
    assert "Dead letters redriven: one" in page
    assert "names no dead-letter topic" in page
    assert Topic.objects.get(name="one").count == 2
    act(operator, "pause", one)
    assert Queue.objects.get(topic=one).is_paused
    act(operator, "resume", one)
    assert not Queue.objects.get(topic=one).is_paused


def test_who_may_only_look_has_no_actions():
    user = User.objects.create_user("looker", password="x", is_staff=True)
    client = Client()
    client.force_login(user)
    topic = make_queue("jobs")
    act(client, "pause", topic)
    assert not Queue.objects.filter(is_paused=True).exists()
    assert client.post(f"{LIST}{topic.pk}/delete/").status_code == 403
