"""Several objects of one writer in one transaction: each is judged alone, and none is lost, halved or told twice."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from django.core.files.storage import storages

from apps.core.errors import Invalid, OutOfRoom, PreconditionFailed, Unavailable
from apps.storage import blobs, services
from apps.storage.errors import ExecutionEnded, ExecutionNotFound, QuotaExceeded
from apps.storage.models import Leftover, Object
from apps.storage.services import Condition, NewObject
from apps.storage.writes.uploads import InMemory
from apps.storage.writes.wanted import Attached
from apps.topics.models import Event
from tests.integration.storage.test_races import assert_consistent, told
from tests.integration.storage.test_sweeps import kept, later, store

pytestmark = pytest.mark.django_db(transaction=True)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def new(name: str, *, is_first: bool = False) -> NewObject:
    return NewObject(name=name, stage="s", content_type="text/plain", only_if=Condition(is_first))


def put(execution: str, *wanted: NewObject, first: Callable[[], None] | None = None) -> list[Any]:
    """Store each with its own name as its content, and return what it came to: an object's key, or what it is refused for."""
    outcomes = services.put_objects(
        execution_id=UUID(execution),
        wanted=[(one, InMemory(one.name.encode("utf-8", "replace"))) for one in wanted],
        first=first,
    )
    return [one.stored.name if isinstance(one, Attached) else type(one) for one in outcomes]


def fail_at(number: int, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the backend's disk refuse from the n-th file on."""
    backend: Any = storages[blobs.ALIAS]
    save, calls = backend._save, iter(range(1, 100))

    def refusing(*args: Any) -> Any:
        if next(calls) >= number:
            raise OSError(code, os.strerror(code))
        return save(*args)

    monkeypatch.setattr(backend, "_save", refusing)


def test_they_are_there_at_once_in_their_order(execution, place):
    names = [f"s/{number}" for number in (3, 1, 2)]
    assert put(execution, *map(new, names)) == names
    assert [event["key"][37:] for event in told()] == names
    # One transaction.
    assert Object.objects.extra(select={"by": "xmin::text"}).values("by").distinct().count() == 1
    assert_consistent(place)


def test_what_they_replace_goes(execution, place):
    store(execution, "s/a", b"old")
    store(execution, "s/b", b"old")
    put(execution, new("s/a"), new("s/b"), new("s/c"))
    assert not Leftover.objects.exists()
    assert len(kept(place)) == 3
    assert_consistent(place)


def test_each_is_refused_alone(execution, place, settings):
    store(execution, "s/a", b"old")
    settings.GYOZA_STORAGE_QUOTA_OBJECTS = 2
    wanted = [
        new("s/metadata"),
        new("s/a", is_first=True),
        new("s/b"),
        new("s/\udcff"),
        new("s/c"),
    ]
    assert put(execution, *wanted) == [
        Invalid,
        PreconditionFailed,
        "s/b",
        Invalid,
        QuotaExceeded,
    ]
    assert not Leftover.objects.exists()
    assert len(kept(place)) == 2
    assert_consistent(place)


def test_a_full_disk_keeps_those_before_it(execution, place, monkeypatch):
    with monkeypatch.context() as patched:
        fail_at(3, errno.ENOSPC, patched)
        outcomes = put(execution, *(new(f"s/{number}") for number in range(5)))
    assert outcomes == ["s/0", "s/1", OutOfRoom, OutOfRoom, OutOfRoom]
    assert not Leftover.objects.exists()
    assert len(kept(place)) == 2
    assert_consistent(place)


def test_a_backend_that_goes_away_is_asked_once_and_swept_later(execution, place, monkeypatch):
    with monkeypatch.context() as patched:
        fail_at(2, errno.EIO, patched)
        outcomes = put(execution, *(new(f"s/{number}") for number in range(4)))
    assert outcomes == ["s/0", Unavailable, Unavailable, Unavailable]
    assert Leftover.objects.count() == 1
    with later(minutes=11):
        assert_consistent(place)


def test_a_space_that_is_closed_refuses_all(execution, place):
    services.close_spaces([UUID(execution)])
    assert put(execution, new("s/a"), new("s/b")) == [ExecutionEnded, ExecutionEnded]
    assert_nothing_was_written(place)


def test_an_execution_that_is_not_there_is_told(place):
    with pytest.raises(ExecutionNotFound):
        put(str(UUID(int=1)), new("s/a"), new("s/b"))
    assert_nothing_was_written(place)


def test_who_may_not_begin_writes_nothing(execution, place):
    class NotYours(Exception):
        pass

    def forbid() -> None:
        raise NotYours

    with pytest.raises(NotYours):
        put(execution, new("s/a"), new("s/b"), first=forbid)
    assert_nothing_was_written(place)


def assert_nothing_was_written(place: Path) -> None:
    for model in (Object, Leftover, Event):
        assert not model.objects.exists()
    assert not kept(place)
