"""Backends, and what clients hear when one is full or away."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import random
import socket
from typing import TYPE_CHECKING, Any

import boto3
import httpx
import pytest
from django.core.files.storage import storages
from moto.server import ThreadedMotoServer

from apps.storage import blobs, sweeps
from apps.storage.models import Leftover, Object
from apps.topics.models import Event
from tests.contract.storage.conftest import refused
from tests.integration.storage.test_sweeps import kept
from tests.object_client import OBJECTS, call, get, put

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.django_db(transaction=True)


# --- S3 -----------------------------------------------------------------------------------------


@pytest.fixture
def bucket(place: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Keep objects in a bucket of an S3 of the test, and return it."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    # All servers of a process share what they keep.
    httpx.post(f"{endpoint}/moto-api/reset")
    resource = boto3.resource("s3", endpoint_url=endpoint, region_name="us-east-1")
    made = resource.create_bucket(Bucket="gyoza")
    options = {"bucket_name": "gyoza", "endpoint_url": endpoint, "region_name": "us-east-1"}
    settings.STORAGES = {
        **settings.STORAGES,
        "gyoza": {"BACKEND": "apps.storage.backends.s3.Bucket", "OPTIONS": options},
    }
    yield made
    server.stop()


def names(bucket: Any) -> list[str]:
    return [one.key.rpartition("/")[2] for one in bucket.objects.all()]


def test_a_bucket_keeps_objects(execution, bucket):
    first = put(f"{execution}/s/a.txt", b"0123456789").json()
    assert names(bucket) == [first["etag"]]
    assert get(f"{execution}/s/a.txt").content == b"0123456789"
    part = get(f"{execution}/s/a.txt", range="bytes=3-5")
    assert (part.status, part.content) == (206, b"345")
    second = put(f"{execution}/s/a.txt", b"new")
    assert second.status == 200
    assert names(bucket) == [second.json()["etag"]]
    assert call("DELETE", f"{OBJECTS}/{execution}/s/a.txt").status == 200
    assert names(bucket) == []
    assert not Leftover.objects.exists()


def test_a_large_object_goes_in_parts(execution, bucket, place):
    piece = random.Random(1).randbytes(2**20)
    answer = put(f"{execution}/s/big", [piece] * 20)
    assert answer.status == 201
    assert answer.json()["checksum"] == f"sha256:{hashlib.sha256(piece * 20).hexdigest()}"
    found = get(f"{execution}/s/big").content
    assert found == piece * 20
    assert (
        get(f"{execution}/s/big", range=f"bytes={2**23 - 2}-{2**23 + 1}").content
        == ((piece * 20)[2**23 - 2 : 2**23 + 2])
    )
    assert not list((place / "incoming").glob("*"))


def test_what_the_bucket_has_lost_is_not_found(execution, bucket):
    put(f"{execution}/s/a", b"x")
    bucket.objects.all().delete()
    refused(get(f"{execution}/s/a"), 404, "object_not_found")


def test_a_bucket_that_is_away_is_told(execution, bucket, settings):
    put(f"{execution}/s/a", b"old")
    away = settings.STORAGES
    options = {**away["gyoza"]["OPTIONS"], "endpoint_url": "http://127.0.0.1:9"}
    settings.STORAGES = {**away, "gyoza": {**away["gyoza"], "OPTIONS": options}}
    refused(put(f"{execution}/s/a", b"new"), 503, "unavailable")
    refused(get(f"{execution}/s/a"), 503, "unavailable")
    # It can't be looked after now; its row stays until a sweep can.
    assert call("DELETE", f"{OBJECTS}/{execution}/s/a").status == 200
    assert Leftover.objects.count() == 2
    settings.STORAGES = away
    Leftover.objects.update(due_at="2000-01-01T00:00:00Z")
    assert sweeps.sweep_leftovers() == 2
    assert names(bucket) == []


def test_a_bucket_that_is_silent_is_asked_so_often_and_then_told(execution, bucket, settings):
    put(f"{execution}/s/a", b"old")
    settings.GYOZA_S3_READ_SECONDS = 0.1
    settings.GYOZA_S3_ATTEMPTS = 2
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"http://127.0.0.1:{silent.getsockname()[1]}"
        options = {**settings.STORAGES["gyoza"]["OPTIONS"], "endpoint_url": place}
        there = settings.STORAGES
        settings.STORAGES = {**there, "gyoza": {**there["gyoza"], "OPTIONS": options}}
        refused(get(f"{execution}/s/a"), 503, "unavailable")
        refused(put(f"{execution}/s/a", b"new"), 503, "unavailable")
        silent.setblocking(False)
        asked = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                silent.accept()[0].close()
                asked += 1
        assert asked == 4
    settings.STORAGES = there
    assert get(f"{execution}/s/a").content == b"old"
    Leftover.objects.update(due_at="2000-01-01T00:00:00Z")
    assert sweeps.sweep_leftovers() == 1


def test_what_a_bucket_may_take_is_set(bucket, settings):
    backend: Any = storages[blobs.ALIAS]
    config = backend.connection.meta.client.meta.config
    assert (config.connect_timeout, config.read_timeout) == (3, 15)
    assert config.retries["total_max_attempts"] == 3


# --- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("when", ["it arrives", "it is stored"])
def test_a_full_disk_is_told(execution, place, monkeypatch, code, when):
    put(f"{execution}/s/a", b"old")

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        if when == "it arrives":
            patched.setattr("tempfile.mkstemp", full)
        else:
            patched.setattr(storages[blobs.ALIAS], "_save", full)
        # A single piece would wait in memory.
        content = [b"n" * 2**20, b"ew"]
        refused(put(f"{execution}/s/a", content), 507, "insufficient_storage")
    assert get(f"{execution}/s/a").content == b"old"
    assert kept(place) == [Object.objects.get().etag]
    assert not list((place / "incoming").glob("*"))
    assert Event.objects.count() == 1
    assert not Leftover.objects.exists()


@pytest.mark.parametrize("instead", ["nothing", "a file"])
def test_a_directory_that_is_away_is_told(execution, place, instead):
    put(f"{execution}/s/a", b"old")
    (place / "objects").rename(place / "elsewhere")
    if instead == "a file":
        (place / "objects").write_text("no directory")
    refused(put(f"{execution}/s/a", b"new"), 503, "unavailable")
    refused(get(f"{execution}/s/a"), 503, "unavailable")
    (place / "objects").unlink(missing_ok=True)
    (place / "elsewhere").rename(place / "objects")
    assert get(f"{execution}/s/a").content == b"old"
    assert Object.objects.get().content_length == 3


def test_what_is_to_be_removed_while_the_directory_is_away_is_removed_later(execution, place):
    put(f"{execution}/s/a", b"old")
    (place / "objects").rename(place / "elsewhere")
    assert call("DELETE", f"{OBJECTS}/{execution}/s/a").status == 200
    assert Leftover.objects.count() == 1
    (place / "elsewhere").rename(place / "objects")
    assert sweeps.sweep() == 1
    assert not kept(place)


def test_another_backend_of_django_will_do(execution, settings):
    memory = {"BACKEND": "django.core.files.storage.InMemoryStorage"}
    settings.STORAGES = {**settings.STORAGES, "gyoza": memory}
    put(f"{execution}/s/a", b"0123456789")
    assert get(f"{execution}/s/a", range="bytes=3-5").content == b"345"
    assert put(f"{execution}/s/a", b"new").status == 200
    assert get(f"{execution}/s/a").content == b"new"
