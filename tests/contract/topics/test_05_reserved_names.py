"""Topics called `system.…` tell what the service has done: clients read them, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.db import transaction

from apps.topics import services
from apps.topics.models import Topic
from apps.topics.services import NewEvent
from tests.cast import make_key
from tests.contract.topics.conftest import refused

if TYPE_CHECKING:
    from tests.contract.topics.conftest import Api

NAME = "system.some.events"
URL = f"/v0/topics/{NAME}"


@pytest.fixture(autouse=True)
def _made(api: Api) -> None:
    with transaction.atomic():
        services.append_events([NewEvent(topic=NAME, data="1")])


def test_they_are_read_like_any_other(api: Api):
    page = api.post(f"{URL}/diff", {"from_seq": 0}).json()
    assert [record["data"] for record in page["records"]] == [1]


def test_nobody_writes_to_them_or_takes_from_them(api: Api):
    refused(api.post(URL, {"records": [{"data": 2}]}), 403, "forbidden")
    refused(api.post("/v0/topics/system.x", {"records": [{"data": 2}]}), 403, "forbidden")
    refused(api.post(f"{URL}/delete", {"before_seq": 5}), 403, "forbidden")
    refused(api.delete(URL), 403, "forbidden")
    topic = Topic.objects.get(name=NAME)
    assert (topic.count, topic.head) == (1, 1)


def test_nothing_leads_to_them(api: Api):
    refused(api.put("/v0/routers/r", {"source": "a", "dest": NAME}), 403, "forbidden")
    refused(api.put("/v0/topics/q", {"type": "queue", "dead_letter": NAME}), 403, "forbidden")
    op = {"name": "op", "command": ["true"], "event_delivery": {"topic": NAME}}
    assert api.post("/definitions", op).status_code == 400
    trigger = {"event": "t", "trigger": {"dead_letter": NAME}}
    pipeline = {"name": "p", "options": trigger}
    assert api.post("/api/v1/pipelines/", pipeline).status_code == 422


def test_operators_say_how_long_they_are_kept(api: Api):
    writer, operator = make_key("writer", "read+write"), make_key("operator")
    refused(api.put(URL, {"ttl_ms": 1}, key=writer), 403, "forbidden")
    assert api.put(URL, {"ttl_ms": 1000_000}, key=operator).status_code == 200
