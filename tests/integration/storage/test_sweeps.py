"""What is left behind is removed when its time has come, and not before."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
import time_machine

from apps.core import clock
from apps.storage import blobs, incoming, services, sweeps
from apps.storage.incoming import Incoming
from apps.storage.models import Leftover, Object, Space
from apps.storage.services import NewObject
from apps.topics import queries as topics

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.django_db(transaction=True)


def store(execution: str, name: str = "s/a", content: bytes = b"x") -> Object:
    new = NewObject(name=name, stage="s", content_type="text/plain")
    with Incoming() as arriving:
        arriving.add(content)
        stored, _ = services.put_object(execution_id=UUID(execution), new=new, content=arriving)
    return stored


def kept(place: Path) -> list[str]:
    return sorted(path.name for path in (place / "objects").rglob("*") if path.is_file())


def later(**span: int) -> Any:
    return time_machine.travel(clock.now() + timedelta(**span), tick=False)


def test_what_nobody_attached_goes_when_it_is_due(execution, place):
    with Incoming() as arriving:
        arriving.add(b"half")
        lost = services.upload(arriving)
    stored = store(execution)
    assert sweeps.sweep() == 0
    assert len(kept(place)) == 2
    with later(minutes=11):
        assert sweeps.sweep() == 1
    assert kept(place) == [stored.etag]
    assert not Leftover.objects.filter(blob=lost.blob).exists()


def test_a_blob_whose_write_died_before_it_was_there_is_forgotten(execution, place):
    Leftover.objects.create(blob=blobs.new_name(), due_at=clock.now())
    assert sweeps.sweep() == 1
    assert not Leftover.objects.exists()


def test_what_a_sweep_has_taken_is_not_attached(execution):
    with Incoming() as arriving:
        arriving.add(b"slow")
        uploaded = services.upload(arriving)
    with later(minutes=11):
        sweeps.sweep()
    new = NewObject(name="s/a", stage="s", content_type="text/plain")
    with pytest.raises(Exception, match="took too long"):
        services.attach(execution_id=UUID(execution), new=new, uploaded=uploaded)
    assert not Object.objects.exists()


def test_nobody_discards_what_an_object_has(execution, place):
    """A commit whose outcome nobody heard may have been one."""
    stored = store(execution)
    assert services.discard(stored.blob)
    assert kept(place) == [stored.etag]


def test_content_that_a_dead_process_was_receiving_goes(execution, place):
    arriving = Incoming()
    arriving.add(b"half")
    path = arriving.temporary_file_path()
    assert incoming.sweep() == 0
    os.utime(path, (0, 0))
    assert incoming.sweep() == 1
    arriving.close()


def test_objects_are_kept_for_as_long_as_is_set(opened, place, settings):
    old, young, open_still = opened(), opened(), opened()
    for execution in (old, young, open_still):
        for number in range(3):
            store(execution, f"s/{number}")
    with later(days=-31):
        services.close_spaces([UUID(old)])
    services.close_spaces([UUID(young)])
    assert sweeps.sweep() == 0
    settings.GYOZA_STORAGE_KEEP_DAYS = 30
    assert sweeps.sweep() == 3
    assert not Object.objects.filter(space=old).exists()
    assert Object.objects.count() == len(kept(place)) == 6
    assert (Space.objects.get(pk=old).count, Space.objects.get(pk=old).bytes) == (0, 0)
    page = topics.read_after("system.storage.events", 9, 100)
    assert page is not None
    assert ['"storage.object.deleted"' in record.data for record in page.records] == [True] * 3


def test_a_sweep_goes_on_in_batches(execution, place, settings, monkeypatch):
    monkeypatch.setattr(sweeps, "_OBJECTS", 2)
    settings.GYOZA_STORAGE_KEEP_DAYS = 1
    for number in range(5):
        store(execution, f"s/{number}")
    services.close_spaces([UUID(execution)])
    with later(days=2):
        assert sweeps.sweep() == 5
    assert kept(place) == []
