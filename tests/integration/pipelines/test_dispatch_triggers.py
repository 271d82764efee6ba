"""Event triggers: what messages start, driven turn by turn (pipelines-storage.md §2)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from apps.access.auth import ANONYMOUS
from apps.core import clock, sql
from apps.pipelines import errors, services, transitions, triggers
from apps.pipelines.execution import advancing, engine, liveexecutions
from apps.pipelines.models import DeadLetter, Ending, Execution, Trigger, Version
from apps.pipelines.triggering import dispatching, statuses
from apps.topics import queries as topics
from apps.topics.appending.writes import MAX_RECORD_BYTES
from apps.topics.models import Topic
from apps.topics.services import NewEvent, append_events, delete_topic
from tests.factories import make_worker

pytestmark = pytest.mark.django_db

CMD = {"command": ["true"]}


def publish(*data: Any, topic: str = "orders", **record: Any) -> None:
    append_events(
        [NewEvent(topic=topic, data=msgspec.json.encode(one).decode(), **record) for one in data]
    )


def listen(**trigger: Any) -> Trigger:
    services.create_pipeline(
        body={
            "id": "p",
            "name": "p",
            "options": {"event": "orders", "trigger": trigger},
            "steps": [{"name": "a", **CMD, "inputs": {"data": {"$ref": "trigger.data"}}}],
        },
        caller=ANONYMOUS,
    )
    triggers.start_trigger(pipeline_id="p", version=None, caller=ANONYMOUS)
    return trigger_now()


def trigger_now() -> Trigger:
    return Trigger.objects.filter(pk="p").first() or Trigger()


def dispatch() -> list[dict[str, Any]]:
    """Give the trigger turns until there is nothing to do; return the new executions' messages."""
    before = set(Execution.objects.values_list("id", flat=True))
    while dispatching.dispatch_due().more:
        pass
    new = Execution.objects.exclude(pk__in=before).order_by("source_seq", "id")
    return [msgspec.json.decode(one.trigger or "null") for one in new]


def end(status: str, driver: Any, *executions: Execution) -> None:
    """Let every run of these executions end, and what follows be done."""
    for execution in executions or Execution.objects.filter(status="running", is_queued=False):
        driver.advance(execution)
        for run in driver.runs(execution):
            if not run.is_final:
                driver.end(run.id, {}, error="" if status == "completed" else "boom")
        driver.advance(execution)
    engine.run_once(dispatches=False)


def test_each_message_starts_one_execution_that_sees_it():
    listen()
    publish({"n": 1}, tag="t", node="me", meta='{"k": 1}')
    [message] = dispatch()
    assert {name: message[name] for name in ("type", "topic", "seq", "tag", "node")} == {
        "type": "event",
        "topic": "orders",
        "seq": 1,
        "tag": "t",
        "node": "me",
    }
    assert (message["data"], message["meta"], message["attempt"]) == ({"n": 1}, {"k": 1}, 1)
    assert dispatch() == []
    assert (trigger_now().received, trigger_now().started, trigger_now().position) == (1, 1, 1)


def test_latest_takes_only_what_comes_after_the_start():
    publish("old")
    listen()
    publish("new")
    assert [one["data"] for one in dispatch()] == ["new"]


@pytest.mark.parametrize(
    ("start", "taken"), [("earliest", ["a", "b", "c"]), (1, ["b", "c"]), (99, [])]
)
def test_it_starts_where_it_is_told(start, taken):
    publish("a", "b", "c")
    listen(start=start)
    assert [one["data"] for one in dispatch()] == taken


def test_a_topic_that_appears_later_is_read_from_its_beginning():
    listen()
    assert dispatch() == []
    assert trigger_now().conditions["TopicResolved"]["status"] is False
    publish("first")
    assert [one["data"] for one in dispatch()] == ["first"]
    assert Topic.objects.get(name="orders").has_listeners


def test_a_topic_made_anew_restarts_the_cursor_and_says_so(driver):
    listen()
    publish("a", "b")
    dispatch()
    end("completed", driver)
    delete_topic(topic="orders", caller="test")
    publish("c")
    assert [one["data"] for one in dispatch()] == ["c"]
    assert trigger_now().conditions["CursorPinned"]["reason"] == "TopicRecreated"


def test_what_the_filters_refuse_moves_the_cursor():
    listen(filter=[{"field": "data.kind", "op": "eq", "value": "x"}])
    publish({"kind": "y"}, "no object", {"kind": "x"}, {})
    assert [one["seq"] for one in dispatch()] == [3]
    found = trigger_now()
    assert (found.received, found.filtered, found.position) == (4, 3, 4)


def test_no_more_than_may_run_at_once_are_started(driver):
    listen(max_concurrency=2)
    publish(*range(5))
    assert [one["seq"] for one in dispatch()] == [1, 2]
    assert dispatch() == []
    end("completed", driver)
    assert [one["seq"] for one in dispatch()] == [3, 4]


def test_messages_of_one_key_follow_each_other(driver):
    listen(ordering="by_key", key="data.k", max_concurrency=10)
    publish({"k": "a", "n": 1}, {"k": "a", "n": 2}, {"k": "b", "n": 3})
    dispatch()
    begun = Execution.objects.filter(is_queued=False)
    assert {one.source_seq for one in begun} == {1, 3}
    first = Execution.objects.get(source_seq=1)
    end("failed", driver, first)
    assert not Execution.objects.get(source_seq=2).is_queued


def test_a_rate_limit_holds_back_what_is_too_much(time_machine):
    time_machine.move_to("2030-01-01T00:00:00Z", tick=False)
    listen(rate_limit="2/m", max_concurrency=100)
    publish(*range(5))
    assert len(dispatch()) == 2
    assert str(trigger_now().wake_at) == "2030-01-01 00:01:00+00:00"
    assert dispatch() == []
    time_machine.move_to("2030-01-01T00:01:00Z", tick=False)
    assert [one["seq"] for one in dispatch()] == [3, 4]


def test_a_batch_starts_when_it_is_full_or_has_waited(time_machine):
    time_machine.move_to("2030-01-01T00:00:00Z", tick=False)
    listen(batch={"max": 2, "wait_ms": 5000}, max_concurrency=100)
    publish("a", "b", "c")
    [full] = dispatch()
    assert [one["data"] for one in full["messages"]] == ["a", "b"]
    assert dispatch() == []
    assert trigger_now().position == 2
    time_machine.move_to("2030-01-01T00:00:05Z", tick=False)
    [waited] = dispatch()
    assert [one["data"] for one in waited["messages"]] == ["c"]
    assert (trigger_now().received, trigger_now().position) == (3, 3)


def test_replacing_a_trigger_keeps_its_cursor():
    listen()
    publish("a")
    triggers.start_trigger(pipeline_id="p", version=None, caller=ANONYMOUS)
    publish("b")
    assert [one["data"] for one in dispatch()] == ["a", "b"]


def test_a_later_version_runs_only_once_it_is_started():
    listen()
    services.replace_pipeline(
        pipeline_id="p",
        body={"name": "p", "options": {"event": "orders"}, "steps": []},
        caller=ANONYMOUS,
    )
    publish("a")
    dispatch()
    triggers.start_trigger(pipeline_id="p", version=None, caller=ANONYMOUS)
    publish("b")
    dispatch()
    versions = Execution.objects.order_by("source_seq").values_list("pipeline_version", flat=True)
    assert list(versions) == [1, 2]


def test_a_failed_check_leaves_the_old_one_running():
    listen()
    services.replace_pipeline(pipeline_id="p", body={"name": "p"}, caller=ANONYMOUS)
    with pytest.raises(errors.NoEventOption):
        triggers.start_trigger(pipeline_id="p", version=None, caller=ANONYMOUS)
    publish("a")
    assert [one["data"] for one in dispatch()] == ["a"]


def test_a_stopped_trigger_takes_nothing_and_forgets_where_it_was():
    listen()
    triggers.stop_trigger(pipeline_id="p", caller=ANONYMOUS)
    publish("a")
    assert dispatch() == []
    assert not Topic.objects.get(name="orders").has_listeners
    triggers.start_trigger(pipeline_id="p", version=None, caller=ANONYMOUS)
    assert dispatch() == []


def test_a_paused_trigger_goes_on_from_where_it_was():
    listen()
    publish("a")
    triggers.pause_trigger(pipeline_id="p", caller=ANONYMOUS)
    assert dispatch() == []
    triggers.resume_trigger(pipeline_id="p", caller=ANONYMOUS)
    assert [one["data"] for one in dispatch()] == ["a"]


def test_a_failed_message_is_tried_again_and_is_no_failure_meanwhile(driver, time_machine):
    time_machine.move_to("2030-01-01T00:00:00Z", tick=False)
    listen(retry={"max_attempts": 2, "delay_s": 10, "jitter": 0}, dead_letter="dead")
    publish({"n": 1})
    dispatch()
    execution = Execution.objects.get()
    end("failed", driver, execution)
    execution.refresh_from_db()
    assert (execution.status, execution.attempt) == ("running", 1)
    assert str(execution.wake_at) == "2030-01-01 00:00:10+00:00"
    time_machine.move_to("2030-01-01T00:00:10Z", tick=False)
    engine.run_once(dispatches=False)
    [run] = driver.runs(execution)
    assert (run.state, run.current_attempt) == ("PENDING", 2)
    driver.end(run.id, {"ok": True})
    execution = driver.advance(execution)
    assert (execution.status, execution.attempt) == ("completed", 2)
    engine.run_once(dispatches=False)
    found = trigger_now()
    assert (found.succeeded, found.failed, found.retried) == (1, 0, 1)
    assert topics.read_after("dead", 0, 10) is None


def test_a_message_that_finally_failed_becomes_a_dead_letter(driver):
    listen(dead_letter="dead")
    publish({"n": 1}, tag="t", meta='{"mine": true}')
    dispatch()
    execution = Execution.objects.get()
    end("failed", driver, execution)
    page = topics.read_after("dead", 0, 10)
    assert page is not None
    [record] = page.records
    assert (msgspec.json.decode(record.data), record.tag) == ({"n": 1}, "t")
    assert msgspec.json.decode(record.meta or "") == {
        "mine": True,
        "$reason": "a: boom",
        "$attempts": 1,
        "$source_topic": "orders",
        "$source_seq": 1,
        "$execution_id": str(execution.id),
    }
    assert (trigger_now().failed, trigger_now().dead_lettered) == (1, 1)


def test_redriving_goes_on_from_the_failed_steps(driver):
    listen()
    publish("a", "b")
    dispatch()
    end("failed", driver)
    assert DeadLetter.objects.count() == 2
    assert triggers.redrive(pipeline_id="p", seqs=[2], caller=ANONYMOUS) == 1
    execution = Execution.objects.get(source_seq=2)
    assert (execution.status, execution.attempt) == ("running", 2)
    assert triggers.redrive(pipeline_id="p", seqs=None, caller=ANONYMOUS) == 1
    assert triggers.redrive(pipeline_id="p", seqs=None, caller=ANONYMOUS) == 0


def test_a_letter_is_there_until_its_execution_goes_on(driver, monkeypatch):
    listen()
    publish("a")
    dispatch()
    end("failed", driver)

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(transitions, "reopen", die)
        with pytest.raises(KeyboardInterrupt):
            triggers.redrive(pipeline_id="p", seqs=None, caller=ANONYMOUS)
    assert DeadLetter.objects.count() == 1
    assert triggers.redrive(pipeline_id="p", seqs=None, caller=ANONYMOUS) == 1
    assert Execution.objects.get().status == "running"


def test_a_letter_goes_with_the_next_redrive_if_somebody_else_has_retried(driver):
    listen()
    publish("a")
    dispatch()
    end("failed", driver)
    services.retry_execution(named=str(Execution.objects.get().pk), caller=ANONYMOUS)
    assert triggers.redrive(pipeline_id="p", seqs=None, caller=ANONYMOUS) == 1
    assert not DeadLetter.objects.exists()
    assert Execution.objects.get().attempt == 2


def test_what_has_started_something_starts_nothing_again():
    publish("a", "b")
    listen(start="earliest", max_concurrency=10)
    assert [one["data"] for one in dispatch()] == ["a", "b"]
    triggers.stop_trigger(pipeline_id="p", caller=ANONYMOUS)
    publish("c")
    triggers.start_trigger(pipeline_id="p", version=None, caller=ANONYMOUS)
    assert [one["data"] for one in dispatch()] == ["c"]
    now = trigger_now()
    assert (now.position, now.stumbles, now.last_error) == (3, 0, "")
    assert not DeadLetter.objects.exists()


def test_a_loop_ends_after_sixteen_hops():
    listen(dead_letter="dead")
    publish("near", meta='{"gyoza_hops": 15}')
    publish("far", meta='{"gyoza_hops": 16}')
    assert [one["data"] for one in dispatch()] == ["near"]
    assert Execution.objects.get().hops == 15
    [letter] = DeadLetter.objects.all()
    assert (letter.seq, letter.reason) == (2, "loop")
    assert triggers.redrive(pipeline_id="p", seqs=None, caller=ANONYMOUS) == 1
    assert Execution.objects.filter(hops=0).count() == 1


def test_a_pipeline_that_feeds_itself_is_stopped(driver):
    services.create_pipeline(
        body={
            "id": "p",
            "name": "p",
            "options": {"event": "orders"},
            "steps": [
                {"name": "t", "adapter": "publish", "inputs": {"topic": "orders", "data": 1}}
            ],
        },
        caller=ANONYMOUS,
    )
    publish("before")
    triggers.start_trigger(pipeline_id="p", version=None, caller=ANONYMOUS)
    publish("go")
    for _ in range(100):
        if not engine.run_once().was_busy:
            break
    assert Execution.objects.count() == 16
    assert DeadLetter.objects.get().reason == "loop"


@pytest.mark.parametrize("data", ["x" * 900_000, None, [1, 2], {"deep": [[[[]]]]}, "a\u0000b"])
def test_any_message_is_passed_on_as_it_is(data, driver):
    listen()
    publish(data)
    [message] = dispatch()
    assert message["data"] == data
    driver.advance(Execution.objects.get())
    assert driver.runs(Execution.objects.get())


def test_a_message_as_big_as_they_come_reaches_its_run(driver):
    listen()
    publish("x" * (MAX_RECORD_BYTES - 2))
    dispatch()
    execution = Execution.objects.get()
    [run] = driver.runs(execution)
    assert len(run.inputs["data"]) == MAX_RECORD_BYTES - 2
    driver.end(run.id)
    assert advancing.advance_all([execution.id], due=10).count == 1
    execution.refresh_from_db()
    assert execution.status == "completed"


def test_ten_thousand_waiting_messages_are_taken_in_bounded_turns():
    for first in range(0, 10_000, 2_500):
        publish(*[{"n": n} for n in range(first, first + 2_500)])
    listen(start="earliest", filter=[{"field": "data.n", "op": "gte", "value": 9_999}])
    turn = dispatching.dispatch("p")
    assert (turn.more, trigger_now().position) == (True, 2_000)
    assert [one["seq"] for one in dispatch()] == [10_000]
    assert (trigger_now().received, trigger_now().filtered) == (10_000, 9_999)


def test_a_turn_starts_only_so_many():
    listen(max_concurrency=1_000)
    publish(*range(dispatching.MOST_STARTED + 1))
    turn = dispatching.dispatch("p")
    assert (len(turn.started), turn.more) == (dispatching.MOST_STARTED, True)
    turn = dispatching.dispatch("p")
    assert (len(turn.started), turn.more) == (1, False)


def test_a_turn_holds_only_so_many_bytes(monkeypatch):
    monkeypatch.setattr(dispatching, "MOST_BYTES", 10_000)
    listen(max_concurrency=1_000)
    publish(*["x" * 3_000] * 5)
    turn = dispatching.dispatch("p")
    assert (len(turn.started), turn.more) == (4, True)
    assert len(dispatch()) == 1


def test_a_batch_is_full_with_so_many_bytes(monkeypatch):
    monkeypatch.setattr(dispatching, "MOST_BYTES", 10_000)
    listen(batch={"max": 100, "wait_ms": 60_000}, max_concurrency=10)
    publish(*["x" * 3_000] * 3)
    [batch] = dispatch()
    assert len(batch["messages"]) == 2
    assert trigger_now().position == 2


def test_long_messages_are_not_held_beside_each_other(driver, monkeypatch):
    monkeypatch.setattr(liveexecutions, "LONG_TRIGGER_BYTES", 100)
    listen(max_concurrency=10)
    publish("short", "x" * 100, "y" * 100)
    dispatch()
    for execution in Execution.objects.all():
        driver.end(driver.runs(execution)[0].id)
    told = list(Execution.objects.values_list("id", flat=True))
    assert advancing.advance_all(told, due=10).count == 3
    assert {one.status for one in Execution.objects.all()} == {"completed"}


def test_a_trigger_whose_topic_is_gone_says_so_and_goes_on_with_the_next(driver):
    listen()
    publish("a")
    dispatch()
    end("completed", driver)
    delete_topic(topic="orders", caller="test")
    assert dispatch() == []
    assert trigger_now().conditions["TopicResolved"]["reason"] == "TopicMissing"
    assert sql.run("pipelines/triggers_due", now=clock.now()).rows == []
    status = statuses.trigger_status(pipeline_id="p", caller=ANONYMOUS)
    assert status.state == "degraded"
    publish("b")
    assert [one["data"] for one in dispatch()] == ["b"]
    assert trigger_now().conditions["TopicResolved"]["status"] is True


def test_a_trigger_is_not_ready_once_its_topic_is_gone():
    make_worker()
    publish("a")
    listen()
    assert triggers.is_ready(pipeline_id="p", caller=ANONYMOUS)
    delete_topic(topic="orders", caller="test")
    assert not triggers.is_ready(pipeline_id="p", caller=ANONYMOUS)
    status = statuses.trigger_status(pipeline_id="p", caller=ANONYMOUS)
    assert status.state == "degraded"
    assert status.trigger.conditions["TopicResolved"]["reason"] == "TopicMissing"


def test_a_pipeline_deleted_under_its_trigger_stops_what_runs_and_starts_nothing_more(driver):
    listen()
    publish("a")
    dispatch()
    execution = Execution.objects.get()
    with pytest.raises(errors.PipelineInUse):
        services.delete_pipeline(pipeline_id="p", force=False, caller=ANONYMOUS)
    services.delete_pipeline(pipeline_id="p", force=True, caller=ANONYMOUS)
    assert not Topic.objects.get(name="orders").has_listeners
    publish("b")
    assert dispatch() == []
    engine.run_once()
    [run] = driver.runs(execution)
    assert run.state == "CANCELLED"
    engine.run_once([execution.id])
    execution.refresh_from_db()
    assert (execution.status, execution.source_id) == ("cancelled", None)
    assert not Ending.objects.exists()


def test_one_trigger_s_trouble_is_not_all_triggers():
    publish("before")
    listen()
    body = {"id": "q", "name": "q", "options": {"event": "orders"}, "steps": [{"name": "a", **CMD}]}
    services.create_pipeline(body=body, caller=ANONYMOUS)
    triggers.start_trigger(pipeline_id="q", version=None, caller=ANONYMOUS)
    Version.objects.filter(pipeline_id="p").update(document="{")
    publish("a")
    dispatch()
    assert [one.pipeline_id for one in Execution.objects.all()] == ["q"]
    found = trigger_now()
    assert "DecodeError" in found.last_error
    assert found.wake_at is not None
    assert (found.received, found.position) == (0, 1)
