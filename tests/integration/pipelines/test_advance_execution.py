"""The engine, driven by hand (pipelines-storage.md §3)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.access.auth import ANONYMOUS
from apps.core import ids
from apps.pipelines import services
from apps.pipelines.execution import advancing, settling
from apps.pipelines.models import Execution
from apps.runs.models import Run
from apps.topics import queries as topics
from tests.factories import make_definition

pytestmark = pytest.mark.django_db

CMD = {"command": ["true"]}


def count_of(queries: CaptureQueriesContext) -> int:
    # The savepoints are the test's; without it there is a transaction.
    return sum("SAVEPOINT" not in str(one["sql"]) for one in queries)


def ref(expression: str) -> dict[str, str]:
    return {"$ref": expression}


def test_a_pipeline_without_steps_is_complete_at_once(driver):
    execution = driver.advance(driver.start([]))
    assert (execution.status, execution.outputs) == ("completed", {})


def test_steps_follow_each_other_with_what_they_read(driver):
    execution = driver.start(
        [
            {"name": "a", **CMD, "inputs": {"x": ref("inputs.x")}},
            {"name": "b", **CMD, "inputs": {"y": ref("steps.a.outputs.n"), "k": "literal"}},
        ],
        inputs={"x": 7},
    )
    execution = driver.advance(execution)
    [first] = driver.runs(execution)
    assert (first.step, first.inputs, first.execution_id) == ("a", {"x": 7}, execution.id)
    assert driver.statuses(execution) == {"a": "initiated", "b": "pending"}
    driver.end(first.id, {"n": 42})
    driver.advance(execution)
    [second] = driver.runs(execution, "b")
    assert second.inputs == {"y": 42, "k": "literal"}
    driver.end(second.id, {"rows": 3})
    execution = driver.advance(execution)
    assert execution.status == "completed"
    assert execution.outputs == {"b": {"rows": 3}}
    assert execution.completed_at is not None


def test_advancing_again_changes_nothing(driver):
    execution = driver.start([{"name": "a", **CMD}])
    for _ in range(3):
        driver.advance(execution)
    assert len(driver.runs(execution)) == 1


def test_a_false_condition_skips_the_step_and_what_needs_only_it(driver):
    execution = driver.start(
        [
            {"name": "a", **CMD, "when": "inputs.go"},
            {"name": "b", **CMD, "needs": ["a"]},
            {"name": "c", **CMD},
            {"name": "d", **CMD, "needs": ["b", "c"]},
        ],
        inputs={"go": False},
    )
    execution = driver.end_all(execution, lambda run: {})
    assert execution.status == "completed"
    assert driver.statuses(execution) == {
        "a": "skipped",
        "b": "skipped",
        "c": "completed",
        "d": "completed",
    }


def test_a_failed_run_fails_its_stage_and_the_execution(driver):
    execution = driver.start([{"name": "a", **CMD}, {"name": "b", **CMD, "needs": ["a"]}])
    driver.advance(execution)
    driver.end(driver.runs(execution)[0].id, error="disk full")
    execution = driver.advance(execution)
    assert execution.status == "failed"
    assert execution.error_info == {
        "message": "a: disk full",
        "stages": [{"name": "a", "error": "disk full"}],
    }
    assert driver.statuses(execution) == {"a": "failed", "b": "cancelled"}


def test_on_failure_continue_lets_other_branches_end(driver):
    execution = driver.start(
        [{"name": "a", **CMD}, {"name": "b", **CMD}, {"name": "c", **CMD, "needs": ["b"]}],
        options={"on_failure": "continue"},
    )
    driver.advance(execution)
    a, b = driver.runs(execution)
    driver.end(a.id, error="no")
    driver.end(b.id)
    execution = driver.end_all(execution, lambda run: {})
    assert execution.status == "failed"
    assert driver.statuses(execution) == {"a": "failed", "b": "completed", "c": "completed"}


def test_retry_does_the_failed_steps_again_and_keeps_the_others(driver):
    execution = driver.start([{"name": "a", **CMD}, {"name": "b", **CMD, "needs": ["a"]}])
    driver.advance(execution)
    driver.end(driver.runs(execution)[0].id, {"n": 1})
    driver.advance(execution)
    driver.end(driver.runs(execution, "b")[0].id, error="no")
    driver.advance(execution)
    services.retry_execution(named=str(execution.id), caller=ANONYMOUS)
    execution = driver.advance(execution)
    assert (execution.status, execution.attempt) == ("running", 2)
    assert driver.statuses(execution) == {"a": "completed", "b": "initiated"}
    [again] = driver.runs(execution, "b")
    assert (again.state, again.current_attempt) == ("PENDING", 2)
    driver.end(again.id, {"ok": True})
    execution = driver.advance(execution)
    assert (execution.status, execution.outputs) == ("completed", {"b": {"ok": True}})
    assert driver.stage(execution, "b").attempts == 2


def test_for_each_makes_a_run_per_item_a_few_at_a_time(driver):
    execution = driver.start(
        [
            {
                "name": "each",
                **CMD,
                "for_each": "inputs.files",
                "max_parallel": 2,
                "inputs": {"file": ref("item"), "all": ref("length(inputs.files)")},
            },
            {"name": "sum", **CMD, "inputs": {"sizes": ref("steps.each.outputs[].size")}},
        ],
        inputs={"files": ["x", "y", "z"]},
    )
    driver.advance(execution)
    assert [run.inputs["file"] for run in driver.runs(execution)] == ["x", "y"]
    driver.end(driver.runs(execution)[1].id, {"size": 2})
    driver.advance(execution)
    assert [run.inputs["file"] for run in driver.runs(execution)] == ["x", "y", "z"]
    for run, size in zip(driver.runs(execution, "each"), (1, 2, 3), strict=True):
        if not run.is_final:
            driver.end(run.id, {"size": size})
    driver.advance(execution)
    assert driver.runs(execution, "sum")[0].inputs == {"sizes": [1, 2, 3]}


def test_for_each_over_nothing_is_complete(driver):
    execution = driver.start(
        [{"name": "a", **CMD, "for_each": "inputs.files"}], inputs={"files": []}
    )
    assert driver.advance(execution).outputs == {"a": []}


def test_for_each_over_what_is_no_array_fails_and_says_so(driver):
    execution = driver.start([{"name": "a", **CMD, "for_each": "inputs"}], inputs={"files": 1})
    execution = driver.advance(execution)
    assert execution.error_info["message"] == (
        "a: for_each 'inputs' must give an array, gave {files: number}"
    )


def test_an_expression_that_fails_fails_its_step_with_the_data_s_shape(driver):
    execution = driver.start(
        [{"name": "a", **CMD, "inputs": {"n": ref("abs(inputs.name)")}}], inputs={"name": "x"}
    )
    message = driver.advance(execution).error_info["message"]
    assert "'abs(inputs.name)' failed" in message
    assert "inputs: {name: string}" in message


def test_a_publish_step_writes_its_message_once_and_gives_its_seq(driver):
    execution = driver.start(
        [
            {
                "name": "tell",
                "adapter": "publish",
                "inputs": {"topic": "out", "data": {"n": ref("inputs.n")}, "tag": "t"},
            },
            {"name": "after", **CMD, "inputs": {"seq": ref("steps.tell.outputs.seq")}},
        ],
        inputs={"n": 5},
    )
    driver.advance(execution)
    driver.advance(execution)
    assert driver.runs(execution, "after")[0].inputs == {"seq": 1}
    page = topics.read_after("out", 0, 10)
    assert page is not None
    [record] = page.records
    assert (msgspec.json.decode(record.data), record.tag) == ({"n": 5}, "t")
    assert record.node == f"execution/{execution.id}"
    assert msgspec.json.decode(record.meta or "") == {"gyoza_hops": 1}


def test_a_step_that_is_done_in_one_go_has_begun_and_was_tried_once(driver):
    steps = [
        {"name": "a", "adapter": "transform", "inputs": {"expr": "@", "data": 1}},
        {"name": "b", "adapter": "publish", "inputs": {"topic": "no topic", "data": 1}},
    ]
    execution = driver.advance(driver.start(steps, options={"on_failure": "continue"}))
    for name, status in (("a", "completed"), ("b", "failed")):
        stage = driver.stage(execution, name)
        assert (stage.status, stage.attempts) == (status, 1)
        assert stage.started_at == stage.completed_at


def test_a_last_publish_step_ends_the_execution_with_its_seq(driver):
    execution = driver.start(
        [{"name": "tell", "adapter": "publish", "inputs": {"topic": "out", "data": 1}}]
    )
    execution = driver.advance(execution)
    assert (execution.status, execution.outputs) == ("completed", {"tell": {"seq": 1}})


def test_transform_gives_what_its_expression_says(driver):
    execution = driver.start(
        [
            {
                "name": "t",
                "adapter": "transform",
                "inputs": {"expr": "rows[?ok].id", "data": ref("inputs")},
            }
        ],
        inputs={"rows": [{"ok": True, "id": 1}, {"ok": False, "id": 2}]},
    )
    assert driver.advance(execution).outputs == {"t": {"result": [1]}}


def test_sleep_waits_without_a_run(driver, time_machine):
    time_machine.move_to("2030-01-01T00:00:00Z", tick=False)
    execution = driver.start([{"name": "s", "adapter": "sleep", "inputs": {"seconds": 60}}])
    execution = driver.advance(execution)
    assert (execution.status, driver.statuses(execution)) == ("running", {"s": "processing"})
    assert execution.wake_at.isoformat() == "2030-01-01T00:01:00+00:00"
    time_machine.move_to("2030-01-01T00:01:00Z", tick=False)
    assert driver.advance(execution).status == "completed"


def test_approve_waits_for_the_answer(driver):
    execution = driver.start([{"name": "ok", "adapter": "approve", "inputs": {"message": "go?"}}])
    execution = driver.advance(execution)
    assert driver.statuses(execution) == {"ok": "processing"}
    services.approve_stage(
        named=str(execution.id), stage_name="ok", approved=True, comment="fine", caller=ANONYMOUS
    )
    execution = driver.advance(execution)
    assert execution.outputs == {"ok": {"approved": True, "by": ANONYMOUS.name, "comment": "fine"}}


@pytest.mark.parametrize(
    ("adapter", "inputs"), [("sleep", {"seconds": 600}), ("approve", {"message": "go?"})]
)
def test_a_step_that_waits_longer_than_its_timeout_fails(driver, time_machine, adapter, inputs):
    step = {"name": "a", "adapter": adapter, "inputs": inputs, "timeout_s": 60}
    time_machine.move_to("2030-01-01T00:00:00Z", tick=False)
    execution = driver.advance(driver.start([step]))
    assert execution.wake_at is not None
    assert execution.wake_at.isoformat() == "2030-01-01T00:01:00+00:00"
    time_machine.move_to("2030-01-01T00:00:59Z", tick=False)
    assert driver.advance(execution).status == "running"
    time_machine.move_to("2030-01-01T00:01:00Z", tick=False)
    execution = driver.advance(execution)
    assert execution.status == "failed"
    assert driver.stage(execution, "a").error == "timed out after 60 s"


def test_an_answer_in_time_counts_although_it_is_looked_at_later(driver, time_machine):
    step = {"name": "a", "adapter": "approve", "inputs": {"message": "go?"}, "timeout_s": 60}
    time_machine.move_to("2030-01-01T00:00:00Z", tick=False)
    execution = driver.advance(driver.start([step]))
    services.approve_stage(
        named=str(execution.id), stage_name="a", approved=True, comment="", caller=ANONYMOUS
    )
    time_machine.move_to("2030-01-01T00:02:00Z", tick=False)
    assert driver.advance(execution).status == "completed"


def test_a_pipeline_step_waits_for_its_child(driver):
    child, _ = services.create_pipeline(
        body={"name": "child", "steps": [{"name": "c", **CMD, "inputs": {"x": ref("inputs.x")}}]},
        caller=ANONYMOUS,
    )
    execution = driver.start(
        [
            {
                "name": "sub",
                "adapter": "pipeline",
                "inputs": {"pipeline_id": child.id, "inputs": {"x": 3}},
            }
        ]
    )
    driver.advance(execution)
    inner = Execution.objects.get(parent_id=execution.id)
    driver.end_all(inner, lambda run: run.inputs)
    execution = driver.advance(execution)
    assert execution.outputs == {
        "sub": {"execution_id": str(inner.id), "status": "completed", "outputs": {"c": {"x": 3}}}
    }


def test_cancel_stops_runs_first_and_ends_when_they_have(driver):
    execution = driver.start([{"name": "a", **CMD}, {"name": "b", **CMD, "needs": ["a"]}])
    driver.advance(execution)
    services.cancel_execution(named=str(execution.id), caller=ANONYMOUS)
    [run] = driver.runs(execution)
    assert run.state == "CANCELLED"
    execution = driver.advance(execution)
    assert execution.status == "cancelled"
    assert driver.statuses(execution) == {"a": "cancelled", "b": "cancelled"}
    assert (
        services.cancel_execution(named=str(execution.id), caller=ANONYMOUS).status == "cancelled"
    )


def waiting_for_a_child(
    driver: Any, *, wait: bool = True, **document: Any
) -> tuple[Execution, Execution]:
    child, _ = services.create_pipeline(
        body={"name": "child", "steps": [{"name": "c", **CMD}]}, caller=ANONYMOUS
    )
    inputs = {"pipeline_id": child.id, "wait": wait}
    steps = [
        {"name": "sub", "adapter": "pipeline", "inputs": inputs},
        {"name": "ask", "adapter": "approve", "inputs": {"message": "go?"}},
    ]
    execution = driver.advance(driver.start(steps, **document))
    inner = Execution.objects.get(parent_id=execution.id)
    driver.advance(inner)
    return execution, inner


def test_cancel_stops_what_a_step_waits_for(driver):
    execution, inner = waiting_for_a_child(driver)
    [run] = driver.runs(inner)
    driver.begin(run.id)
    services.cancel_execution(named=str(execution.id), caller=ANONYMOUS)
    inner.refresh_from_db()
    assert inner.status == "running"
    assert str(execution.id) in inner.cancel_reason
    run.refresh_from_db()
    assert run.cancel_requested_at is not None
    # While something runs for it, it runs; and it looks again by itself.
    execution.refresh_from_db()
    assert execution.status == "running"
    assert execution.wake_at is not None
    driver.end(run.id, error="stopped")
    assert driver.advance(inner).status == "cancelled"
    assert driver.advance(execution).status == "cancelled"
    assert driver.statuses(execution) == {"sub": "cancelled", "ask": "cancelled"}


def test_cancel_leaves_alone_what_no_step_waits_for(driver):
    execution, inner = waiting_for_a_child(driver, wait=False)
    services.cancel_execution(named=str(execution.id), caller=ANONYMOUS)
    execution.refresh_from_db()
    inner.refresh_from_db()
    assert (execution.status, inner.status) == ("cancelled", "running")
    assert inner.cancel_requested_at is None


def test_a_timeout_stops_what_a_step_waits_for(driver, time_machine):
    time_machine.move_to("2030-01-01T00:00:00Z", tick=False)
    execution, inner = waiting_for_a_child(driver, options={"timeout_s": 30})
    time_machine.move_to("2030-01-01T00:00:31Z", tick=False)
    assert driver.advance(execution).status == "running"
    assert driver.advance(inner).status == "cancelled"
    assert driver.advance(execution).status == "failed"


def test_a_timeout_fails_the_execution(driver, time_machine):
    time_machine.move_to("2030-01-01T00:00:00Z", tick=False)
    execution = driver.start([{"name": "a", **CMD}], options={"timeout_s": 30})
    execution = driver.advance(execution)
    assert execution.wake_at.isoformat() == "2030-01-01T00:00:30+00:00"
    time_machine.move_to("2030-01-01T00:00:30Z", tick=False)
    driver.advance(execution)
    execution = driver.advance(execution)
    assert (execution.status, execution.error_info["message"]) == ("failed", "timed out after 30 s")


def test_more_executions_than_may_run_wait_for_their_turn(driver):
    first = driver.start([{"name": "a", **CMD}], options={"max_concurrent_executions": 1})
    second = services.run_pipeline(pipeline_id=first.pipeline_id, caller=ANONYMOUS)
    assert (first.is_queued, second.is_queued) == (False, True)
    first = driver.end_all(first, lambda run: {})
    assert first.status == "completed"
    assert Execution.objects.get(pk=second.id).is_queued
    settling.settle_ended()
    assert not Execution.objects.get(pk=second.id).is_queued


def test_a_replay_takes_over_what_does_not_depend_on_the_step(driver):
    execution = driver.start(
        [
            {"name": "a", **CMD},
            {"name": "b", **CMD, "inputs": {"n": ref("steps.a.outputs.n")}},
            {"name": "c", **CMD, "inputs": {"n": ref("steps.b.outputs.n")}},
        ]
    )
    execution = driver.end_all(execution, lambda run: {"n": (run.inputs.get("n") or 0) + 1})
    child = services.replay_execution(named=str(execution.id), from_stage="b", caller=ANONYMOUS)
    driver.advance(child)
    assert driver.statuses(child) == {"a": "completed", "b": "initiated", "c": "pending"}
    assert driver.runs(child)[0].inputs == {"n": 1}
    assert Execution.objects.get(pk=child.id).parent_id == execution.id


def test_its_story_is_in_the_log(driver):
    execution = driver.end_all(driver.start([{"name": "a", **CMD}]), lambda run: {})
    page = topics.read_after("system.executions.events", 0, 100)
    assert page is not None
    told = [msgspec.json.decode(record.data)["type"] for record in page.records]
    assert told == ["stage.initiated", "stage.processing", "stage.completed", "execution.completed"]
    assert {record.tag for record in page.records} == {f"execution/{execution.id}"}


def test_a_node_of_a_big_graph_costs_at_most_five_queries(driver):
    steps = [{"name": "s0", **CMD}]
    steps += [{"name": f"s{n}", **CMD, "needs": [f"s{(n - 1) // 2}"]} for n in range(1, 200)]
    driver.end_all(
        driver.start([{"name": "a", **CMD}]), lambda run: {}
    )  # makes the topic of events
    execution = driver.advance(driver.start(steps))
    counts = []
    while execution.status == "running":
        for run in driver.runs(execution):
            if run.is_final:
                continue
            driver.end(run.id)
            with CaptureQueriesContext(connection) as queries:
                assert advancing.advance_all([execution.id], due=0).count == 1
            counts.append(count_of(queries))
        execution.refresh_from_db()
    assert len(counts) == 200
    # Lock, read, make runs, write, tell; the last one closes the execution's storage, too.
    assert max(counts[:-1]) == 5
    assert sum(counts) <= 5 * 200


def test_ops_of_all_items_and_executions_are_looked_up_once(driver):
    driver.end_all(
        driver.start([{"name": "a", **CMD}]), lambda run: {}
    )  # makes the topic of events
    for name in ("one", "two"):
        make_definition(name=name, command=["true"])
    steps = [
        {"name": "a", "op": "one", "for_each": "inputs.items", "max_parallel": 20},
        {"name": "b", "op": "two"},
    ]
    executions = [driver.start(steps, inputs={"items": list(range(20))}) for _ in range(3)]
    with CaptureQueriesContext(connection) as queries:
        assert advancing.advance_all((), due=10).count == 3
    assert count_of(queries) == 6
    assert [len(driver.runs(execution)) for execution in executions] == [21, 21, 21]


def test_many_executions_cost_no_more_queries_than_one(driver):
    driver.end_all(
        driver.start([{"name": "a", **CMD}]), lambda run: {}
    )  # makes the topic of events
    executions = [driver.start([{"name": "a", **CMD}, {"name": "b", **CMD}]) for _ in range(20)]
    with CaptureQueriesContext(connection) as queries:
        assert advancing.advance_all((), due=100).count == 20
    assert count_of(queries) == 5
    assert all(len(driver.runs(execution)) == 2 for execution in executions)


def test_one_that_stumbles_does_not_keep_back_the_others(driver):
    sound, broken = (driver.start([{"name": "a", **CMD}]) for _ in range(2))
    Execution.objects.filter(pk=broken.id).update(document="{")
    assert advancing.advance_all((), due=10).count == 2
    broken.refresh_from_db()
    assert (broken.status, driver.runs(broken)) == ("interrupted", [])
    assert len(driver.runs(sound)) == 1


def test_an_execution_that_is_gone_keeps_nobody_back(driver):
    execution = driver.start([{"name": "a", **CMD}])
    assert advancing.advance_all([ids.uuid7(), execution.id], due=0).count == 1
    assert len(driver.runs(execution)) == 1


def test_run_inputs_hold_what_postgres_can_store(driver):
    execution = driver.start(
        [{"name": "a", **CMD, "inputs": {"x": ref("inputs.x")}}], inputs={"x": "ok"}
    )
    Execution.objects.filter(pk=execution.id).update(trigger='{"data": "a\\u0000b"}')
    driver.advance(execution)
    assert Run.objects.filter(execution_id=execution.id).exists()
