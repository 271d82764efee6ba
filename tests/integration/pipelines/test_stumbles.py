"""A message that the dispatcher itself stumbles over holds back those behind it for a while, and not for ever."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from django.db import ProgrammingError

from apps.access.auth import ANONYMOUS
from apps.pipelines import services, triggers
from apps.pipelines.execution import starting
from apps.pipelines.models import DeadLetter, Execution, Trigger
from apps.pipelines.triggering import dispatching, stumbles
from apps.topics import queries as topics
from apps.topics.services import NewEvent, append_events

pytestmark = pytest.mark.django_db


def listen(**trigger: Any) -> None:
    services.create_pipeline(
        body={
            "id": "p",
            "name": "p",
            "options": {"event": "orders", "trigger": {"max_concurrency": 1000, **trigger}},
            "steps": [{"name": "a", "command": ["true"]}],
        },
        caller=ANONYMOUS,
    )
    triggers.start_trigger(pipeline_id="p", version=None, caller=ANONYMOUS)


def publish(*data: Any) -> None:
    append_events(
        [NewEvent(topic="orders", data=msgspec.json.encode(one).decode()) for one in data]
    )


def dispatch() -> None:
    """Give the trigger turns for as long as it says that there is more."""
    while dispatching.dispatch_due().more:
        pass


@pytest.fixture
def later(time_machine: Any) -> Any:
    time_machine.move_to("2030-01-01T00:00:00Z", tick=False)
    return lambda: time_machine.shift(stumbles.PAUSE + timedelta(seconds=1))


@pytest.fixture(autouse=True)
def tries(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the dispatcher stumble over poison; list how many it took each time."""
    found: list[int] = []
    prepare = starting.prepare

    def stumble(requests: Any, **others: Any) -> Any:
        if any("poison" in (request.trigger or "") for request in requests):
            found.append(len(requests))
            raise ValueError("it is poison")
        return prepare(requests, **others)

    monkeypatch.setattr(starting, "prepare", stumble)
    return found


def started() -> list[Any]:
    rows = Execution.objects.order_by("source_seq").values_list("trigger", flat=True)
    return [msgspec.json.decode(text or "")["data"] for text in rows]


def test_it_is_found_tried_alone_and_becomes_a_dead_letter(later, tries):
    listen(dead_letter="dead")
    publish(*range(20), "poison", *range(20, 40))
    dispatch()
    assert started() == list(range(20))
    for _ in range(stumbles.ATTEMPTS):
        assert not DeadLetter.objects.exists()
        later()
        dispatch()
    assert started() == list(range(40))
    # Each turn is tried without first steps, too.
    assert tries.count(1) == 2 * stumbles.ATTEMPTS
    letter = DeadLetter.objects.get()
    assert (letter.seq, letter.reason, letter.attempts) == (21, "ValueError: it is poison", 5)
    page = topics.read_after("dead", 0, 10)
    assert page is not None
    assert [record.data for record in page.records] == ['"poison"']
    trigger = Trigger.objects.get()
    assert (trigger.received, trigger.started, trigger.dead_lettered) == (41, 40, 1)
    assert (trigger.stumbles, trigger.wake_at) == (0, None)


def test_a_letter_that_is_still_poison_stays_when_it_is_redriven(later, tries, monkeypatch):
    listen()
    publish("poison")
    for _ in range(stumbles.ATTEMPTS + 1):
        dispatch()
        later()
    assert triggers.redrive(pipeline_id="p", seqs=None, caller=ANONYMOUS) == 0
    assert DeadLetter.objects.count() == 1
    monkeypatch.undo()
    assert triggers.redrive(pipeline_id="p", seqs=None, caller=ANONYMOUS) == 1
    assert started() == ["poison"]


def test_batches_go_on_without_it(later, tries):
    listen(batch={"max": 10, "wait_ms": 60_000})
    publish(*range(12), "poison", *range(12, 20))
    for _ in range(stumbles.ATTEMPTS + 1):
        dispatch()
        later()
    assert DeadLetter.objects.get().seq == 13
    for _ in range(60):
        later()
    dispatch()
    texts = Execution.objects.values_list("trigger", flat=True)
    inside = [one["data"] for text in texts for one in msgspec.json.decode(text or "")["messages"]]
    assert sorted(inside) == list(range(20))


def test_a_fault_that_passes_costs_no_message(later, tries, monkeypatch):
    listen()
    publish("poison")
    dispatch()
    monkeypatch.undo()
    dispatch()
    assert started() == []  # it is left alone for a while
    later()
    dispatch()
    assert started() == ["poison"]
    assert not DeadLetter.objects.exists()


def test_what_is_no_message_s_fault_is_tried_for_ever(later, monkeypatch):
    """A column that the database has not yet: another release is about to be installed."""
    listen()
    publish("a")

    def stumble(*_: Any, **__: Any) -> Any:
        raise ProgrammingError("no such column")

    monkeypatch.setattr(starting, "prepare", stumble)
    for _ in range(3 * stumbles.HALVINGS):
        dispatch()
        later()
    monkeypatch.undo()
    dispatch()
    assert started() == ["a"]


def test_a_trigger_that_is_started_anew_begins_with_a_clean_slate(later, tries):
    listen()
    publish("poison")
    dispatch()
    assert Trigger.objects.get().stumbles > 0
    triggers.start_trigger(pipeline_id="p", version=None, caller=ANONYMOUS)
    assert Trigger.objects.get().stumbles == 0
