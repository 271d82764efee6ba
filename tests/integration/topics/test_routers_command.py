"""manage.py routers, the admin page and the metrics of routers."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apps.access.models import AuditEntry
from apps.core import threads
from apps.topics import queries
from apps.topics.models import Router, Topic
from apps.topics.routers import forwarder
from apps.topics.services import NewEvent, append_events
from apps.topics.vitals import metrics

pytestmark = pytest.mark.django_db(transaction=True)


def routers(*arguments: str) -> str:
    out = StringIO()
    call_command("routers", *arguments, stdout=out)
    return out.getvalue()


def printed(*arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in routers(*arguments, "--json").splitlines()]


def test_it_makes_a_router() -> None:
    said = routers("create", "a->b", "a", "b", "--filter", "x*", "--exactly-once", "--drop-node")
    assert said == "Made a->b: a → b.\n"
    router = Router.objects.get(name="a->b")
    assert (router.filter_text, router.filter_is_prefix, router.guarantee) == (
        "x", True, "exactly_once",
    )  # fmt: skip
    assert (router.preserve_node, router.preserve_tag) == (False, True)
    assert routers("create", "a->b", "a", "b") == "Changed a->b: a → b.\n"
    assert AuditEntry.objects.filter(target="router:a->b").count() == 2


def test_it_says_why_not() -> None:
    routers("create", "ab", "a", "b")
    with pytest.raises(CommandError, match="would close a circle: b → a → b"):
        routers("create", "ba", "b", "a")
    routers("create", "ba", "b", "a", "--allow-cycle")


def test_it_shows_who_is_behind_and_why() -> None:
    Topic.objects.create(name="full", cap_records=1, discard="reject")
    routers("create", "ab", "a", "b")
    routers("create", "af", "a", "full")
    routers("create", "other", "x", "y")
    append_events([NewEvent("a", "1"), NewEvent("a", "2"), NewEvent("a", "3")])
    assert [row["lag"] for row in printed("list")] == [3, 3, 0]
    forwarder.sweep()
    [behind] = printed("lag")
    assert (behind["name"], behind["lag"], behind["is_full"]) == ("af", 2, True)
    assert behind["waiting_since"] is not None
    said = routers("lag")
    assert said.startswith("af  a → full, 1 forwarded, 2 behind since ")
    assert said.endswith("full IS FULL\n")
    assert [row["name"] for row in printed("list", "a")] == ["ab", "af"]
    assert printed("list", "\0") == []


def test_it_deletes_a_router() -> None:
    routers("create", "ab", "a", "b")
    assert routers("delete", "ab") == "Deleted ab.\n"
    assert printed("delete", "ab") == [{"router": "ab", "deleted": False}]


def test_a_paused_router_copies_nothing_and_nobody_waits_for_it(
    enqueued: list[tuple[str, dict[str, Any]]], redis: Any
) -> None:
    routers("create", "ab", "a", "b")
    append_events([NewEvent("a", "1")])
    forwarder.sweep()
    assert routers("pause", "ab") == "Paused ab.\n"
    routers("pause", "ab")
    append_events([NewEvent("a", "2")])
    forwarder.sweep()
    page = queries.read_after("b", 0, 10)
    assert page is not None
    assert [record.data for record in page.records] == ["1"]
    [row] = printed("lag")
    assert (row["lag"], row["is_paused"], row["is_full"]) == (1, True, False)
    assert routers("lag").endswith("  PAUSED\n")
    redis.flushall()
    enqueued.clear()
    assert routers("resume", "ab") == "Resumed ab.\n"
    # Not at the next sweep, but now.
    assert ("topics.sweep_routers", {}) in enqueued
    page = queries.read_after("b", 0, 10)
    assert page is not None
    assert [record.data for record in page.records] == ["1", "2"]
    with pytest.raises(CommandError, match="no router named"):
        routers("pause", "none")
    entries = AuditEntry.objects.filter(target="router:ab").order_by("id")
    assert [entry.action for entry in entries] == [
        "router.create", "router.pause", "router.resume",
    ]  # fmt: skip


# --- Metrics ----------------------------------------------------------------------------------------------------------


def test_metrics_tell_of_routers_and_their_lag() -> None:
    routers("create", "ab", "a", "b")
    append_events([NewEvent("a", "1"), NewEvent("a", "2")])
    found = threads.run_here(metrics.gather(by_topic=True))
    assert found is not None
    assert found.routers == 1
    series = {one.name: one for one in metrics.as_series(found)}
    assert series["topics_routers"].samples[0].value == 1
    [sample] = series["topics_router_lag"].samples
    assert (sample.labels, sample.value) == ({"router": "ab"}, 2)
    assert metrics.as_json(found)["routers"] == 1


# --- Admin ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def operator(admin_user: Any) -> Client:
    client = Client()
    client.force_login(admin_user)
    return client


@pytest.fixture
def looker(django_user_model: Any) -> Client:
    client = Client()
    client.force_login(django_user_model.objects.create_user("looker", is_staff=True))
    return client


def test_a_page_shows_a_router(operator: Client) -> None:
    routers("create", "ab", "a", "b", "--filter", "<b>*")
    append_events([NewEvent("a", "1", tag="<b>")])
    router = Router.objects.get()
    page = operator.get(f"/admin/topics/router/{router.pk}/change/").content.decode()
    assert "tag Glob &lt;b&gt;*" in page
    assert operator.post(f"/admin/topics/router/{router.pk}/change/", {}).status_code == 403


def test_the_list_costs_the_same_whatever_its_length(operator: Client) -> None:
    counts = []
    for number in range(6):
        routers("create", f"r{number}", f"a{number}", f"b{number}")
        if number in {1, 5}:
            operator.get("/admin/topics/router/")
            with CaptureQueriesContext(connection) as captured:
                assert operator.get("/admin/topics/router/").status_code == 200
            counts.append(len(captured))
    assert counts[0] == counts[1]


def test_an_operator_deletes_routers(operator: Client, looker: Client) -> None:
    routers("create", "ab", "a", "b")
    router = Router.objects.get()
    for action, is_paused in (("pause", True), ("resume", False)):
        operator.post("/admin/topics/router/", {"action": action, "_selected_action": [router.pk]})
        router.refresh_from_db()
        assert router.is_paused is is_paused
    form = {"action": "delete_routers", "_selected_action": [router.pk]}
    looker.post("/admin/topics/router/", form)
    assert Router.objects.exists()
    page = operator.post("/admin/topics/router/", form, follow=True)
    assert "Deleted: ab" in page.content.decode()
    assert not Router.objects.exists()
    assert not Topic.objects.get(name="a").has_listeners
