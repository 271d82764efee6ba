"""Several writes of a web process in one transaction: each is judged alone, and none is lost, halved or told twice."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from django.db import DataError, connection, transaction

from apps.access.auth import ANONYMOUS
from apps.core.errors import PreconditionFailed, Unavailable
from apps.storage import blobs, services
from apps.storage.errors import ExecutionEnded, QuotaExceeded
from apps.storage.keys import Key
from apps.storage.models import Leftover, Object, Space
from apps.storage.services import Condition, NewObject
from apps.storage.writes import desk, uploads
from apps.storage.writes.uploads import InMemory
from apps.storage.writes.wanted import Attached, Attachment
from apps.topics import services as topics
from apps.topics.config import TopicConfig
from apps.topics.models import Event
from tests import aio
from tests.integration.storage.test_races import assert_consistent, told
from tests.integration.storage.test_sweeps import kept, store
from tests.object_client import OBJECTS, send

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from tests.object_client import Answer

pytestmark = pytest.mark.django_db(transaction=True)


def at_once(*requests: Coroutine[Any, Any, Answer]) -> list[Answer]:
    """Send requests in one event loop, all before any is answered."""

    async def scene() -> list[Answer]:
        return await asyncio.gather(*requests)

    return aio.run(scene())


def put(of: str, content: bytes = b"x", **options: Any) -> Coroutine[Any, Any, Answer]:
    return send("PUT", f"{OBJECTS}/{of}", content, **options)


def brought(execution: str, name: str = "s/a", content: bytes = b"x", **more: Any) -> Attachment:
    """Return content that is in the backend and wants to be an object."""
    new = NewObject(name=name, stage="s", content_type="text/plain", **more)
    return Attachment(UUID(execution), new, uploads.upload(InMemory(content)))


def attached(*wanted: Attachment) -> list[Any]:
    """Attach in one transaction, and discard what is refused as `desk.write` does."""
    found = list(aio.run(desk.attach_together(wanted)))
    for one, outcome in zip(wanted, found, strict=True):
        if isinstance(outcome, Attached):
            if outcome.replaced is not None:
                services.discard(outcome.replaced)
        else:
            services.discard(one.uploaded.blob)
    return found


def test_none_of_many_is_lost_and_ids_rise_with_the_log(opened, place):
    executions = [opened() for _ in range(8)]

    async def write(execution: str) -> list[int]:
        return [(await put(f"{execution}/s/{number}")).status for number in range(12)]

    async def scene() -> list[list[int]]:
        return await asyncio.gather(*map(write, executions))

    assert aio.run(scene()) == [[201] * 12] * 8
    ids = [event["id"] for event in told()]
    assert len(ids) == 96
    assert ids == sorted(set(ids))
    for execution in executions:
        ours = [event["path"] for event in told() if event["execution_id"] == execution]
        # Each writer's events are in the order of its writes.
        assert ours == [str(number) for number in range(12)]
    assert_consistent(place)


def test_web_processes_and_workers_write_to_one_execution(opened, place):
    execution = opened()
    failed: list[BaseException] = []

    def work() -> None:
        try:
            for number in range(15):
                store(execution, f"worker/{number}")
        except BaseException as exc:
            failed.append(exc)
        finally:
            connection.close()

    def serve(name: str) -> None:
        try:
            answers = at_once(*(put(f"{execution}/{name}/{number}") for number in range(15)))
            assert {answer.status for answer in answers} == {201}
        except BaseException as exc:
            failed.append(exc)
        finally:
            connection.close()

    threads = [threading.Thread(target=work)]
    threads += [threading.Thread(target=serve, args=[name]) for name in ("web1", "web2")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    ids = [event["id"] for event in told()]
    assert len(ids) == 45
    assert ids == sorted(set(ids))
    assert_consistent(place)


def test_who_is_refused_is_refused_alone(opened, place, settings):
    settings.GYOZA_STORAGE_QUOTA_BYTES = 100
    good, ended, full = opened(), opened(), opened()
    first = store(good, "s/old", b"old")
    store(full, "s/old", b"x" * 95)
    services.close_spaces([UUID(ended)])
    found = attached(
        brought(good, "s/new"),
        brought(good, "s/old", only_if=Condition(is_absent=True)),
        brought(good, "s/other", only_if=Condition(etags=frozenset({"unknown"}))),
        brought(ended),
        brought(full, "s/new", b"123456"),
        brought(full, "s/old", b"123"),
        brought(str(uuid4())),
        brought(good, "s/last"),
    )
    assert [None if one is None else type(one) for one in found] == [
        Attached,
        PreconditionFailed,
        PreconditionFailed,
        ExecutionEnded,
        QuotaExceeded,
        Attached,
        None,
        Attached,
    ]
    assert Object.objects.get(name="s/old", space=good).etag == first.etag
    assert [event["path"] for event in told()] == ["old", "old", "new", "old", "last"]
    assert_consistent(place)


def test_each_client_hears_its_own_answer(opened, place, settings, owner, stranger, reader):
    settings.GYOZA_STORAGE_QUOTA_OBJECTS = 2
    execution, ended = opened(), opened()
    services.close_spaces([UUID(ended)])
    answers = at_once(
        put(f"{execution}/s/a", key=owner),
        put(f"{execution}/s/b", key=stranger),
        put(f"{execution}/s/c", key=reader),
        put(f"{ended}/s/d", key=owner),
        put(f"{uuid4()}/s/e", key=owner),
        put("nobody/s/f", key=owner),
        put(f"{execution}/s/g", key=owner, if_match='"unknown"'),
        put(f"{execution}/s/h", key=owner),
    )
    assert [answer.status for answer in answers] == [201, 404, 403, 409, 404, 404, 412, 201]
    full = at_once(put(f"{execution}/s/i", key=owner), put(f"{execution}/s/a", key=owner))
    assert [answer.status for answer in full] == [507, 200]
    assert_consistent(place)


def test_a_quota_is_exact_among_those_who_come_together(execution, place, settings):
    settings.GYOZA_STORAGE_QUOTA_OBJECTS = 3
    found = attached(*(brought(execution, f"s/{number}") for number in range(8)))
    assert [type(one) for one in found] == [Attached] * 3 + [QuotaExceeded] * 5
    settings.GYOZA_STORAGE_QUOTA_OBJECTS = 5
    statuses = [one.status for one in at_once(*(put(f"{execution}/s/{n}") for n in range(3, 11)))]
    assert sorted(statuses) == [201] * 2 + [507] * 6
    settings.GYOZA_STORAGE_QUOTA_BYTES = 5
    # What it gives back while others write counts, too.
    grown = attached(brought(execution, "s/0", b""), brought(execution, "s/1", b"12"))
    assert [type(one) for one in grown] == [Attached] * 2
    assert_consistent(place)


def test_writes_to_one_name_follow_each_other(execution, place):
    bodies = [b"x" * length for length in range(1, 9)]
    answers = at_once(*(put(f"{execution}/s/a", body) for body in bodies))
    assert sorted(answer.status for answer in answers) == [200] * 7 + [201]
    lengths = [event["content_length"] for event in told()]
    assert sorted(lengths) == list(range(1, 9))
    assert Object.objects.get().content_length == lengths[-1]
    assert_consistent(place)


def test_one_of_many_that_want_to_be_the_first_is(execution, place):
    answers = at_once(*(put(f"{execution}/s/a", if_none_match="*") for _ in range(8)))
    assert sorted(answer.status for answer in answers) == [201] + [412] * 7
    assert_consistent(place)


@contextmanager
def held(execution: str) -> Iterator[threading.Event]:
    """Let somebody else hold the space of an execution, until the event is set or this ends."""
    is_held, may_go = threading.Event(), threading.Event()

    def hold() -> None:
        try:
            with transaction.atomic():
                Space.objects.select_for_update(no_key=True).get(pk=execution)
                is_held.set()
                may_go.wait(30)
        finally:
            connection.close()

    holder = threading.Thread(target=hold)
    holder.start()
    is_held.wait(30)
    try:
        yield may_go
    finally:
        may_go.set()
        holder.join()


def test_nobody_waits_for_a_space_of_others(opened, place):
    """Somebody holds the space of more writers than there are threads; the others are answered meanwhile, and then they."""
    locked, free = opened(), opened()

    async def scene(may_go: threading.Event) -> list[int]:
        waiting = [asyncio.create_task(put(f"{locked}/s/{number}")) for number in range(40)]
        for number in range(20):
            assert (await put(f"{free}/s/{number}")).status == 201
        assert not any(one.done() for one in waiting)
        may_go.set()
        return [(await one).status for one in waiting]

    with held(locked) as may_go:
        assert aio.run(scene(may_go)) == [201] * 40
    assert_consistent(place)


def test_a_space_that_is_held_for_long_is_told(execution, place, monkeypatch):
    monkeypatch.setattr(desk, "_HELD_SECONDS", 0)
    with held(execution):
        [answer] = at_once(put(f"{execution}/s/a"))
    assert (answer.status, answer.json()["error_code"]) == (503, "unavailable")
    assert not told()
    assert_consistent(place)


def test_what_postgres_refuses_of_one_does_not_fail_the_others(execution, place):
    found = attached(
        brought(execution, "s/a"),
        brought(execution, "s/b", metadata={"a": "\0"}),
        brought(execution, "s/c"),
    )
    assert isinstance(found[0], Attached)
    assert not isinstance(found[1], Attached | None | DataError)
    assert isinstance(found[2], Attached)
    assert [event["path"] for event in told()] == ["a", "c"]
    assert_consistent(place)


def test_content_that_a_sweep_has_taken_fails_alone(execution, place):
    late, good = brought(execution, "s/a"), brought(execution, "s/b")
    services.discard(late.uploaded.blob)
    found = attached(late, good)
    assert [type(one) for one in found] == [Unavailable, Attached]
    assert [event["path"] for event in told()] == ["b"]
    assert_consistent(place)


def test_a_transaction_that_is_cut_off_leaves_nothing(execution, place):
    """Postgres ends the group's connection while it waits for the log."""
    store(execution, "s/old", b"old")
    is_held, may_go = threading.Event(), threading.Event()

    def hold() -> None:
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("SELECT FROM topics_topic FOR UPDATE")
                is_held.set()
                may_go.wait(30)
        finally:
            connection.close()

    def cut() -> None:
        try:
            with connection.cursor() as cursor:
                while True:
                    cursor.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_locks"
                        " WHERE NOT granted AND locktype IN ('transactionid', 'tuple')"
                    )
                    if cursor.fetchall():
                        return
        finally:
            connection.close()
            may_go.set()

    threads = [threading.Thread(target=hold), threading.Thread(target=cut)]
    threads[0].start()
    is_held.wait(30)
    threads[1].start()
    answers = at_once(put(f"{execution}/s/old", b"newer"), put(f"{execution}/s/a"))
    for thread in threads:
        thread.join()
    assert all(answer.status in {201, 200, 503} for answer in answers)
    assert 503 in {answer.status for answer in answers}
    # Whoever was told that it is stored has it, whoever wasn't has not.
    kept = {event["path"]: event["content_length"] for event in told()}
    assert kept["old"] == (5 if answers[0].status == 200 else 3)
    assert ("a" in kept) == (answers[1].status == 201)
    assert_consistent(place)


def test_a_client_that_gives_up_leaves_all_or_nothing(execution, place):
    async def scene() -> None:
        for turns in range(40):
            writing = asyncio.create_task(put(f"{execution}/s/{turns}"))
            beside = asyncio.create_task(put(f"{execution}/t/{turns}"))
            for _ in range(turns):
                await asyncio.sleep(0)
            writing.cancel()
            assert (await beside).status == 201
            await asyncio.gather(writing, return_exceptions=True)

    aio.run(scene())
    Leftover.objects.update(due_at=Object.objects.earliest("created_at").created_at)
    assert len([event for event in told() if event["stage"] == "t"]) == 40
    assert_consistent(place)


def test_what_is_replaced_together_is_removed_at_once(opened, place):
    executions = [opened() for _ in range(3)]
    for content in (b"one", b"two", b"three"):
        puts = [put(f"{one}/s/{n}", content) for one in executions for n in range(3)]
        assert {answer.status for answer in at_once(*puts)} <= {200, 201}
        assert not Leftover.objects.exists()
        assert len(kept(place)) == 9
    assert_consistent(place)


def test_what_can_not_be_removed_now_is_left_to_a_sweep(execution, place, monkeypatch):
    at_once(put(f"{execution}/s/a", b"old"), put(f"{execution}/s/b", b"old"))

    def refuse(_: str) -> None:
        raise Unavailable

    with monkeypatch.context() as patched:
        patched.setattr(blobs, "remove", refuse)
        answers = at_once(put(f"{execution}/s/a", b"new"), put(f"{execution}/s/b", b"new"))
    assert [answer.status for answer in answers] == [200, 200]
    assert Leftover.objects.count() == 2
    assert len(kept(place)) == 4
    assert_consistent(place)


def test_the_log_may_have_a_cap(execution, place):
    store(execution, "s/first")
    topics.configure_topic(
        topic="system.storage.events", wanted=TopicConfig(cap_records=5), caller=ANONYMOUS
    )
    assert {one.status for one in at_once(*(put(f"{execution}/s/{n}") for n in range(8)))} == {201}
    assert Object.objects.count() == 9
    assert Event.objects.count() >= 5
    assert Space.objects.get().count == 9


def test_the_correlation_id_is_each_ones_own(execution):
    at_once(*(put(f"{execution}/s/{n}", x_correlation_id=f"corr-{n}") for n in range(6)))
    assert {event["path"]: event["correlation_id"] for event in told()} == {
        str(n): f"corr-{n}" for n in range(6)
    }


def test_content_must_not_be_longer_than_an_object_may_be(execution, place, settings):
    settings.GYOZA_STORAGE_MAX_OBJECT_BYTES = 3

    async def scene() -> list[Any]:
        writes = [
            desk.write(
                key=Key(execution, f"s/{len(content)}"),
                caller=ANONYMOUS,
                new=NewObject(name=f"s/{len(content)}", stage="s", content_type="text/plain"),
                length=len(content),
                content=partial(InMemory, content),
            )
            for content in (b"123", b"1234")
        ]
        return await asyncio.gather(*writes, return_exceptions=True)

    stored, refused = aio.run(scene())
    assert stored[1] is True
    assert refused.code == "payload_too_large"
    assert_consistent(place)
