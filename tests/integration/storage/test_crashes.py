"""Wherever a writer dies: the old object or the new one, whole, with its event; and nothing left behind for long."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import time_machine
from django.db import connection

from apps.core import clock
from apps.storage import sweeps
from apps.storage.models import Leftover, Object, Space, StageTotal
from apps.topics.models import Event
from tests.contract.storage.conftest import refused
from tests.integration.storage.test_sweeps import store
from tests.object_client import get

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.django_db(transaction=True)

POINTS = {
    "while it arrives": False,
    "before the blob": False,
    "within the blob": False,
    "after the blob": False,
    "before the event": False,
    "before commit": False,
    "after commit": True,
    "after the old blob": True,
}


def write_and_die(place: Path, execution: str, content: str, point: str) -> None:
    known: dict[str, Any] = connection.settings_dict
    where = f"?host={known['HOST']}" if known["HOST"].startswith("/") else ""
    host = "" if where else known["HOST"]
    port = f":{known['PORT']}" if known["PORT"] and not where else ""
    url = f"postgresql://{known['USER']}@{host}{port}/{known['NAME']}{where}"
    if where and known["PORT"]:
        url += f"&port={known['PORT']}"
    env = {
        **os.environ,
        "DATABASE_URL": url,
        "GYOZA_STORAGE_PATH": str(place),
        "DJANGO_SETTINGS_MODULE": "gyoza_site.settings",
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.dying_writer", execution, "s/a", content, point],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize("point", POINTS)
def test_a_writer_dies(execution, place, point):
    store(execution, content=b"old content")
    write_and_die(place, execution, "new", point)
    expected = b"new" if POINTS[point] else b"old content"

    found = Object.objects.get()
    assert get(f"{execution}/s/a").content == expected
    assert found.sha256 == hashlib.sha256(expected).hexdigest()
    told = [json.loads(event.data) for event in Event.objects.order_by("seq")]
    assert [event["content_length"] for event in told] == ([11, 3] if POINTS[point] else [11])
    assert told[-1]["etag"] == found.etag
    space = Space.objects.get()
    assert (space.count, space.bytes) == (1, len(expected))
    assert StageTotal.objects.get().bytes == len(expected)

    with time_machine.travel(clock.now() + timedelta(hours=1), tick=False):
        sweeps.sweep()
    assert not Leftover.objects.exists()
    files = [path for path in place.rglob("*") if path.is_file()]
    assert [path.name for path in files] == [found.etag]
    assert get(f"{execution}/s/a").content == expected


@pytest.mark.parametrize(
    ("point", "is_told"),
    [
        ("within the group", False),
        ("before the group's commit", False),
        ("after the group's commit", True),
    ],
)
def test_a_web_process_dies_with_a_group(execution, place, point, is_told):
    store(execution, content=b"old content")
    write_and_die(place, execution, "new", point)
    told = [json.loads(event.data) for event in Event.objects.order_by("seq")]
    # A group may have been one of them or all: what is told is there, and nothing else.
    standing = {event["key"]: event["etag"] for event in told}
    assert len(told) > 1 if is_told else len(told) == 1
    assert {one.key: one.etag for one in Object.objects.all()} == standing
    space = Space.objects.get()
    sizes = list(Object.objects.values_list("content_length", flat=True))
    assert (space.count, space.bytes) == (len(sizes), sum(sizes))
    with time_machine.travel(clock.now() + timedelta(hours=1), tick=False):
        sweeps.sweep()
    assert not Leftover.objects.exists()
    files = [path.name for path in place.rglob("*") if path.is_file()]
    assert sorted(files) == sorted(standing.values())


@pytest.mark.parametrize("point", ["after the blob", "before commit"])
def test_a_first_write_that_dies_leaves_nothing(execution, place, point):
    write_and_die(place, execution, "new", point)
    refused(get(f"{execution}/s/a"), 404, "object_not_found")
    with time_machine.travel(clock.now() + timedelta(hours=1), tick=False):
        sweeps.sweep()
    assert not [path for path in place.rglob("*") if path.is_file()]
    assert not Event.objects.exists()
    # And the next one is the first.
    assert store(execution).content_length == 1
