"""GET /api/v1/storage/archive/{execution}: many objects as one ZIP."""

from __future__ import annotations

import asyncio
import io
import threading
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from apps.access.auth import ANONYMOUS
from apps.storage import archive, blobs, services
from apps.storage.api.archives import sent
from apps.storage.errors import ObjectNotFound
from apps.storage.keys import Key
from apps.storage.models import Object
from tests.asserts import assert_runs_nowhere
from tests.contract.storage.conftest import malformed, refused
from tests.object_client import call, put

if TYPE_CHECKING:
    from collections.abc import Generator

pytestmark = pytest.mark.django_db(transaction=True)

URL = "/api/v1/storage/archive"
CONTENT = {"boost/a.txt": b"a", "boost/deep/b.bin": bytes(range(256)) * 3000, "other/é.txt": b""}


@pytest.fixture
def filled(opened):
    """Return the id of an execution, tagged `full`, with objects."""
    execution = opened(tag="full")
    for name, content in CONTENT.items():
        put(f"{execution}/{name}".replace("é", "%C3%A9"), content)
    return execution


def unpacked(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as found:
        assert found.testzip() is None
        return {name: found.read(name) for name in found.namelist()}


def test_it_holds_all_that_an_execution_has_written(filled):
    answer = call("GET", f"{URL}/{filled}")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''full.zip"
    assert unpacked(answer.content) == CONTENT
    assert unpacked(call("GET", f"{URL}/full/").content) == CONTENT


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("stage=boost", ["boost/a.txt", "boost/deep/b.bin"]),
        ("stage=boost/deep", []),
        ("prefix=boost/deep/", ["boost/deep/b.bin"]),
        ("stage=other&prefix=boost", []),
        ("prefix=nothing", []),
    ],
)
def test_it_holds_a_stage_or_a_folder(filled, query, names):
    assert sorted(unpacked(call("GET", f"{URL}/full?{query}").content)) == names


def test_it_is_saved_as_a_file(filled):
    headers = call("GET", f"{URL}/full").headers
    assert headers["content-disposition"].startswith("attachment; ")
    assert_runs_nowhere(headers)


def test_who_may_have_it(filled, reader, stranger):
    assert call("GET", f"{URL}/full", key=reader).status == 200
    refused(call("GET", f"{URL}/full", key=stranger), 404, "execution_not_found")
    refused(call("GET", f"{URL}/full"), 401, "unauthorized")
    for unknown in ("nobody", "%00"):
        refused(call("GET", f"{URL}/{unknown}", key=reader), 404, "execution_not_found")
    assert malformed(call("GET", f"{URL}/full?stage=%00", key=reader)) == ["query", "stage"]


def test_what_changes_meanwhile_is_old_or_new_or_left_out(filled, owner):
    looked_up: list[Any] = list(Object.objects.order_by("name"))
    put(f"{filled}/boost/a.txt", b"newer", key=owner)
    services.delete_object(key=Key("full", "other/é.txt"), caller=ANONYMOUS)
    found = unpacked(b"".join(archive.pieces(looked_up)))
    assert found == {"boost/a.txt": b"newer", "boost/deep/b.bin": CONTENT["boost/deep/b.bin"]}


def test_it_breaks_off_where_content_is_lost(filled):
    lost = Object.objects.get(name="boost/a.txt")
    blobs.remove(lost.blob)
    with pytest.raises(ObjectNotFound, match="has gone"):
        list(archive.pieces([lost]))


def test_what_is_open_is_closed_after_the_piece_that_is_under_way_when_the_client_goes():
    begun, goes_on, closed = threading.Event(), threading.Event(), threading.Event()

    def made() -> Generator[bytes, None, None]:
        try:
            begun.set()
            goes_on.wait(30)
            yield b"a"
        finally:
            closed.set()

    async def scene() -> None:
        async def read() -> None:
            async for _ in sent(made()):
                pass

        reading = asyncio.create_task(read())
        await asyncio.to_thread(begun.wait, 30)
        reading.cancel()
        await asyncio.wait([reading], timeout=0.1)
        goes_on.set()
        with pytest.raises(asyncio.CancelledError):
            await reading

    asyncio.run(scene())
    assert closed.wait(30)
