"""Steps that write and read objects: `storage.write` and `storage.read`."""

from __future__ import annotations

import base64
import threading
from typing import Any

import pytest

from apps.access.auth import ANONYMOUS, Caller
from apps.access.services import issue_run_token
from apps.core.errors import Invalid, Unavailable
from apps.pipelines import services
from apps.pipelines.execution import advancing, errands
from apps.pipelines.models import Execution
from apps.storage import blobs, events
from apps.storage import queries as storage
from apps.storage import services as storage_services
from apps.storage.models import Leftover, Object, Space
from apps.topics import queries as topics
from tests.cast import make_key
from tests.object_client import OBJECTS, call

pytestmark = pytest.mark.django_db

WRITE = {"name": "note", "adapter": "storage.write"}


def writing(path: str = "a/b.md", **inputs: Any) -> dict[str, Any]:
    return {**WRITE, "inputs": {"path": path, **inputs}}


def reading(key: Any, **step: Any) -> dict[str, Any]:
    return {"name": "look", "adapter": "storage.read", "inputs": {"key": key}, **step}


def finish(driver: Any, execution: Execution) -> Execution:
    for _ in range(20):
        execution = driver.advance(execution)
        if execution.status != "running":
            return execution
    raise AssertionError("it does not end")


def stored(execution: Execution, name: str) -> tuple[Object, bytes]:
    key = storage.key_of(f"{execution.id}/{name}")
    return storage.read_object(key=key, caller=ANONYMOUS, most=10**6)


def heads() -> int:
    head = topics.find_head(events.EVENTS_TOPIC)
    return head.seq if head else 0


def test_a_step_writes_an_object_to_its_stage(driver):
    execution = finish(driver, driver.start([writing(content="# né")]))
    assert execution.status == "completed"
    assert execution.outputs == {"note": {"key": f"{execution.id}/note/a/b.md"}}
    one, content = stored(execution, "note/a/b.md")
    assert (one.stage, one.path, one.content_type) == ("note", "a/b.md", "text/markdown")
    assert content == "# né".encode()
    assert heads() == 1


def test_the_stage_that_a_step_names_is_where_it_writes(driver):
    step = {**writing(content="x", content_type="text/x-note"), "stage": "boost/routines"}
    execution = finish(driver, driver.start([step]))
    one, _ = stored(execution, "boost/routines/a/b.md")
    assert (one.stage, one.content_type) == ("boost/routines", "text/x-note")


@pytest.mark.parametrize(
    "said", ["note", "text/plain\nX-Other: 1", "text/plain;\r\na=b", "text/" + "x" * 251]
)
def test_a_step_can_say_no_type_that_a_header_cannot(driver, said):
    execution = finish(driver, driver.start([writing(content="x", content_type=said)]))
    assert execution.status == "failed"
    assert driver.stage(execution, "note").error.startswith("content_type must be a media type")
    assert not Object.objects.exists()


def test_bytes_are_given_as_base64(driver):
    encoded = base64.b64encode(b"\xff\x00").decode()
    steps = [
        writing("a.bin", content_base64=encoded),
        reading({"$ref": "steps.note.outputs.key"}),
    ]
    execution = finish(driver, driver.start(steps))
    assert stored(execution, "note/a.bin")[1] == b"\xff\x00"
    assert execution.outputs["look"] == {
        "content_base64": encoded,
        "content_type": "application/octet-stream",
    }


def test_a_later_step_reads_what_an_earlier_one_wrote(driver):
    steps = [writing(content="héllo"), reading({"$ref": "steps.note.outputs.key"})]
    execution = finish(driver, driver.start(steps))
    assert execution.outputs["look"] == {"content": "héllo", "content_type": "text/markdown"}


def test_another_execution_s_object_is_read_by_its_tag(driver):
    finish(driver, driver.start([writing(content="once")], tag="nightly"))
    execution = finish(driver, driver.start([reading("nightly/note/a/b.md")]))
    assert execution.outputs["look"]["content"] == "once"


def test_one_that_the_pipeline_s_key_may_not_see_is_not_there(driver):
    hidden = finish(driver, driver.start([writing(content="secret")], id="other.p"))
    mine = Caller(name="k", scopes=frozenset({"write"}), prefixes=("team.",))
    key = f"{hidden.id}/note/a/b.md"
    pipeline, _ = services.create_pipeline(
        body={"name": "n", "id": "team.p", "steps": [reading(key)]}, caller=mine
    )
    execution = finish(driver, services.run_pipeline(pipeline_id=pipeline.id, caller=mine))
    assert execution.status == "failed"
    assert driver.stage(execution, "look").error == f"Execution {hidden.id} not found"


@pytest.mark.parametrize(
    ("step", "why"),
    [
        (writing(), "one of content and content_base64 must be given"),
        (
            writing(content="a", content_base64="YQ=="),
            "one of content and content_base64 must be given",
        ),
        (writing(content_base64="a?"), "content_base64 is not base64"),
        (writing("../a", content="a"), 'has a segment "." or ".."'),
        (writing("a/metadata", content="a"), 'must not end in "metadata"'),
        (writing("x" * 1025, content="a"), "is longer than 1024 bytes"),
        (reading("nowhere/a"), "must be <execution>/<stage>/<path>"),
        (reading("nobody/a/b"), "Execution nobody not found"),
    ],
)
def test_what_can_t_be_fails_the_step_and_says_why(driver, place, step, why):
    execution = finish(driver, driver.start([step]))
    assert execution.status == "failed"
    assert why in driver.stage(execution, step["name"]).error
    assert not Object.objects.exists()
    assert not [one for one in (place / "objects").rglob("*") if one.is_file()]


def test_more_than_a_mebibyte_is_not_read(driver):
    execution = finish(driver, driver.start([writing(content="x" * (2**20 + 1))], tag="t"))
    reader = finish(driver, driver.start([reading("t/note/a/b.md")]))
    assert driver.stage(reader, "look").error == (
        f"{execution.id}/note/a/b.md has 1048577 bytes; storage.read gives at most 1048576"
    )


def test_an_object_too_many_fails_the_step(driver, settings, place):
    settings.GYOZA_STORAGE_QUOTA_OBJECTS = 1
    steps = [writing(content="a"), {**writing(content="b"), "name": "more", "needs": ["note"]}]
    execution = finish(driver, driver.start(steps))
    assert driver.stage(execution, "more").error == "an execution may have 1 objects"
    assert Object.objects.count() == 1
    assert len([one for one in (place / "objects").rglob("*") if one.is_file()]) == 1
    assert not Leftover.objects.exists()


def test_a_backend_that_is_away_fails_the_step(driver, monkeypatch):
    def refuse(*_: Any) -> None:
        raise Unavailable("the storage backend is not available")

    execution = driver.start([writing(content="a")])
    monkeypatch.setattr(blobs, "write", refuse)
    execution = finish(driver, execution)
    assert driver.stage(execution, "note").error == "the storage backend is not available"
    monkeypatch.undo()
    services.retry_execution(named=str(execution.id), caller=ANONYMOUS)
    assert finish(driver, execution).status == "completed"


@pytest.mark.parametrize(
    ("module", "function"),
    [(storage_services, "upload_bytes"), (storage_services, "attach")],
)
def test_who_dies_on_the_way_leaves_it_to_the_next(driver, monkeypatch, module, function):
    class Died(BaseException):
        pass

    def die(*_: Any, **__: Any) -> None:
        raise Died

    execution = driver.start([writing(content="a")])
    with monkeypatch.context() as patched:
        patched.setattr(module, function, die)
        with pytest.raises(Died):
            advancing.advance_execution(execution.id)
    assert driver.statuses(execution) == {"note": "processing"}
    # Whoever looks meanwhile leaves it alone, until whoever has it has had time enough.
    assert driver.advance(execution).wake_at is not None
    assert not Object.objects.exists()
    _make_overdue(driver, execution)
    assert finish(driver, execution).status == "completed"
    assert (Object.objects.count(), heads()) == (1, 1)


def _make_overdue(driver: Any, execution: Execution) -> None:
    stage = driver.stage(execution, "note")
    stage.wake_at = execution.created_at
    stage.save(update_fields=["wake_at"])


def test_of_two_who_write_it_one_counts(driver, monkeypatch, place):
    execution = driver.start([writing(content="a")])
    upload = storage_services.upload_bytes
    others = [True]

    def slow(content: bytes, *, name: str) -> Any:
        if others:
            others.pop()
            _make_overdue(driver, execution)
            advancing.advance_execution(execution.id)
        return upload(content, name=name)

    monkeypatch.setattr(storage_services, "upload_bytes", slow)
    assert finish(driver, execution).status == "completed"
    assert (Object.objects.count(), heads()) == (1, 1)
    assert driver.stage(execution, "note").attempts == 1
    assert len([one for one in (place / "objects").rglob("*") if one.is_file()]) == 1


def test_what_was_cancelled_meanwhile_is_not_written(driver, monkeypatch, place):
    execution = driver.start([writing(content="a")])
    upload = storage_services.upload_bytes

    def slow(content: bytes, *, name: str) -> Any:
        services.cancel_execution(named=str(execution.id), caller=ANONYMOUS)
        return upload(content, name=name)

    monkeypatch.setattr(storage_services, "upload_bytes", slow)
    assert finish(driver, execution).status == "cancelled"
    assert not Object.objects.exists()
    assert not [one for one in (place / "objects").rglob("*") if one.is_file()]
    assert Space.objects.get(pk=execution.id).count == 0


@pytest.mark.parametrize(
    ("step", "place_of"),
    [
        ({**WRITE, "inputs": {"content": "a"}}, "steps.0.inputs.path"),
        ({**WRITE, "inputs": {"path": 1, "content": "a"}}, "steps.0.inputs.path"),
        ({**WRITE, "inputs": {"path": "a", "text": "a"}}, "steps.0.inputs.text"),
        (reading(5), "steps.0.inputs.key"),
    ],
)
def test_a_document_that_can_t_work_is_refused(step, place_of):
    with pytest.raises(Invalid) as refused:
        services.create_pipeline(body={"name": "n", "steps": [step]}, caller=ANONYMOUS)
    assert [one["field"] for one in refused.value.detail["errors"]] == [place_of]


# --- replays --------------------------------------------------------------------------------------


CHAIN = [
    writing("a.txt", content="first"),
    {"name": "gate", "adapter": "transform", "inputs": {"expr": "`1`"}, "needs": ["note"]},
    reading({"$ref": "join('/', [execution.id, 'note', 'a.txt'])"}, needs=["gate"]),
]


def replay(driver: Any, parent: Execution) -> Execution:
    child = services.replay_execution(named=str(parent.id), from_stage="gate", caller=ANONYMOUS)
    return finish(driver, child)


def test_a_replay_reads_what_the_steps_wrote_that_it_does_not_do_again(driver):
    parent = finish(driver, driver.start(CHAIN))
    child = replay(driver, parent)
    assert driver.stage(child, "note").outputs == {"key": f"{parent.id}/note/a.txt"}
    assert child.outputs["look"]["content"] == "first"
    assert not Object.objects.filter(space_id=child.id).exists()


def test_a_replay_of_a_replay_reads_them_too(driver):
    parent = finish(driver, driver.start(CHAIN))
    child = replay(driver, parent)
    assert replay(driver, child).outputs["look"]["content"] == "first"


def test_a_step_that_is_done_again_does_not_read_what_it_wrote_before(driver):
    first = finish(driver, driver.start([writing("a.txt", content="first")]))
    look = reading({"$ref": "join('/', [execution.id, 'note', 'b.txt'])"}, needs=["note"])
    services.replace_pipeline(
        pipeline_id=first.pipeline_id,
        body={"name": "n", "steps": [writing("a.txt", content="second"), look]},
        caller=ANONYMOUS,
    )
    child = services.replay_execution(
        named=str(first.id), from_stage="note", version=2, caller=ANONYMOUS
    )
    child = finish(driver, child)
    assert stored(child, "note/a.txt")[1] == b"second"
    assert driver.stage(child, "look").error == f"Object {child.id}/note/b.txt not found"


@pytest.mark.django_db(transaction=True)
def test_an_op_of_a_replay_reads_what_the_parent_stored_and_changes_nothing_there(driver):
    op = {"name": "op", "command": ["true"], "needs": ["gate"]}
    parent = driver.advance(driver.start([*CHAIN[:2], op]))
    parent = driver.end_all(parent, lambda _: {})
    other = finish(driver, driver.start([writing("a.txt", content="other")]))
    child = services.replay_execution(named=str(parent.id), from_stage="op", caller=ANONYMOUS)
    driver.advance(child)
    make_key("somebody")
    token = issue_run_token(driver.begin(driver.runs(child)[0].id), 1)

    def ask(method: str, target: str, content: bytes = b"") -> int:
        bearer = f"Bearer {token}"
        return call(method, f"{OBJECTS}{target}", content, authorization=bearer).status

    assert ask("GET", f"/{parent.id}/note/a.txt") == 200
    assert ask("GET", f"?execution_id={parent.id}") == 200
    assert ask("GET", f"/{other.id}/note/a.txt") == 404
    assert ask("PUT", f"/{parent.id}/note/a.txt", b"new") == 403
    assert ask("DELETE", f"/{parent.id}/note/a.txt") == 403
    assert ask("PUT", f"/{child.id}/op/b.txt", b"new") == 201
    assert stored(parent, "note/a.txt")[1] == b"first"


# --- beside the engine ----------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_backend_that_hangs_holds_up_no_other_execution(driver, monkeypatch):
    hanging, goes_on = threading.Event(), threading.Event()
    upload = storage_services.upload_bytes

    def slow(content: bytes, *, name: str) -> Any:
        hanging.set()
        assert goes_on.wait(60)
        return upload(content, name=name)

    monkeypatch.setattr(storage_services, "upload_bytes", slow)
    runner = errands.Runner()
    try:
        writes = driver.start([writing(content="a")])
        other = driver.start([{"name": "a", "adapter": "transform", "inputs": {"expr": "`1`"}}])
        advancing.advance_all([writes.id, other.id], due=0, send=runner.send)
        assert hanging.wait(60)
        assert Execution.objects.get(pk=other.id).status == "completed"
        assert driver.statuses(writes) == {"note": "processing"}
    finally:
        goes_on.set()
        runner.stop()
    assert driver.advance(writes).status == "completed"


def test_errands_that_there_is_no_room_for_are_due_again(driver, monkeypatch):
    monkeypatch.setattr(errands, "MOST", 0)
    runner = errands.Runner()
    execution = driver.start([writing(content="a")])
    advancing.advance_all([execution.id], due=0, send=runner.send)
    runner.stop()
    assert driver.statuses(execution) == {"note": "processing"}
    _make_overdue(driver, execution)
    assert finish(driver, execution).status == "completed"
