"""PUT /api/v1/storage/objects/{execution}/{stage}/{path} (pipelines-storage.md §4)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from apps.access.models import AuditEntry
from apps.storage import services
from apps.storage.models import Leftover, Object, Space, StageTotal
from apps.topics.models import Event
from tests.contract.storage.conftest import malformed, refused
from tests.object_client import call, get, put

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.django_db(transaction=True)


def events() -> list[Any]:
    rows = Event.objects.filter(topic__name="system.storage.events").order_by("seq")
    return [json.loads(row.data) for row in rows]


def blobs(place: Path) -> list[Path]:
    return [path for path in (place / "objects").rglob("*") if path.is_file()]


def test_it_stores_and_tells(execution, place):
    answer = put(
        f"{execution}/boost/out/a.MD",
        [b"hel", b"lo"],
        content_type="text/markdown",
        x_meta_author="José",
        x_correlation_id="corr-1",
    )
    body = answer.json()
    assert answer.status == 201
    assert answer.headers["etag"] == f'"{body["etag"]}"'
    expected = {
        "key": f"{execution}/boost/out/a.MD",
        "execution_id": execution,
        "stage": "boost",
        "path": "out/a.MD",
        "extension": ".md",
        "content_type": "text/markdown",
        "content_length": 5,
        "checksum": "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
        "run_id": None,
        "metadata": {"author": "José"},
    }
    assert {name: body[name] for name in expected} == expected
    assert get(f"{execution}/boost/out/a.MD").content == b"hello"
    (event,) = events()
    assert UUID(event["id"]).version == 7
    assert event == {
        **{name: body[name] for name in ("etag", *expected)},
        "id": event["id"],
        "type": "storage.object.created",
        "timestamp": body["modified_at"],
        "tag": None,
        "correlation_id": "corr-1",
    }
    assert len(blobs(place)) == 1
    assert not Leftover.objects.exists()


def test_a_second_write_replaces_the_first(execution, place):
    first = put(f"{execution}/s/a.txt", b"one").json()
    answer = put(f"{execution}/s/a.txt", b"three")
    second = answer.json()
    assert answer.status == 200
    assert second["etag"] != first["etag"]
    assert second["created_at"] == first["created_at"] < second["modified_at"]
    assert get(f"{execution}/s/a.txt").content == b"three"
    ids = [event["id"] for event in events()]
    assert len(ids) == 2
    assert ids[0] < ids[1]
    space = Space.objects.get()
    assert (space.count, space.bytes) == (1, 5)
    assert StageTotal.objects.values_list("stage", "count", "bytes").get() == ("s", 1, 5)
    assert len(blobs(place)) == 1
    assert not Leftover.objects.exists()


def test_the_execution_may_be_named_by_its_tag(opened):
    identity = opened(tag="nightly")
    assert put("nightly/s/a", b"x").json()["key"] == f"{identity}/s/a"
    assert get(f"{identity}/s/a").content == b"x"
    assert events()[0]["tag"] == "nightly"


def test_a_stage_may_have_slashes(execution):
    body = put(f"{execution}/boost/routines/a/b.json", b"{}", x_stage="boost/routines").json()
    assert (body["stage"], body["path"]) == ("boost/routines", "a/b.json")
    assert events()[0]["stage"] == "boost/routines"


@pytest.mark.parametrize("stage", ["other", "boost/", "boost/routines/a", "oost", "", "boost/x"])
def test_a_stage_that_is_not_the_keys_is_refused(execution, stage):
    answer = put(f"{execution}/boost/routines/a", x_stage=stage)
    assert malformed(answer) == ["body", "X-Stage"]


def test_only_the_first_write_is_wanted(execution):
    assert put(f"{execution}/s/a", b"1", if_none_match="*").status == 201
    refused(put(f"{execution}/s/a", b"2", if_none_match="*"), 412, "precondition_failed")
    assert get(f"{execution}/s/a").content == b"1"
    assert malformed(put(f"{execution}/s/a", if_none_match='"e"')) == ["body", "If-None-Match"]


def test_only_what_the_client_knows_is_replaced(execution):
    refused(put(f"{execution}/s/a", if_match="*"), 412, "precondition_failed")
    first = put(f"{execution}/s/a", b"1").json()["etag"]
    second = put(f"{execution}/s/a", b"2", if_match=f'"other", "{first}"')
    assert second.status == 200
    refused(put(f"{execution}/s/a", b"3", if_match=f'"{first}"'), 412, "precondition_failed")
    refused(put(f"{execution}/s/a", b"3", if_match=f'W/"{first}"'), 412, "precondition_failed")
    assert get(f"{execution}/s/a").content == b"2"
    assert put(f"{execution}/s/a", b"3", if_match="*").status == 200


def test_only_what_the_client_knows_is_deleted(execution):
    path = f"/api/v1/storage/objects/{execution}/s/a"
    etag = put(f"{execution}/s/a", b"1").json()["etag"]
    refused(call("DELETE", path, if_match='"other"'), 412, "precondition_failed")
    assert call("DELETE", path, if_match=f'"{etag}"').status == 200


@pytest.mark.parametrize("given", ["zzz", '"a" "b"', '"a",', "", '"a'])
def test_what_is_no_list_of_etags_is_refused(execution, given):
    assert malformed(put(f"{execution}/s/a", if_match=given)) == ["body", "If-Match"]


def test_a_type_is_guessed_if_none_is_given(execution):
    assert put(f"{execution}/s/a.json").json()["content_type"] == "application/json"
    assert put(f"{execution}/s/a").json()["content_type"] == "application/octet-stream"
    by_curl = put(f"{execution}/s/a.md", content_type="application/x-www-form-urlencoded")
    assert by_curl.json()["content_type"] == "text/markdown"


@pytest.mark.parametrize("given", ["text", "text/", "a b/c", "text/plain; x", "x/" + "y" * 300])
def test_what_is_no_media_type_is_refused(execution, given):
    assert malformed(put(f"{execution}/s/a", content_type=given)) == ["body", "Content-Type"]


def test_metadata_has_a_limit(execution):
    assert malformed(put(f"{execution}/s/a", x_meta_a="b" * 8193)) == ["body", "X-Meta-*"]


def test_a_part_of_an_object_is_not_taken_for_the_whole(execution):
    answer = put(f"{execution}/s/a", content_range="bytes 0-2/5")
    assert malformed(answer) == ["body", "Content-Range"]


@pytest.mark.parametrize("announced", [True, False])
def test_too_much_is_refused(execution, settings, place, announced):
    settings.GYOZA_STORAGE_MAX_OBJECT_BYTES = 10
    put(f"{execution}/s/a", b"0123456789")
    extra = {"content_length": "11"} if announced else {}
    said = refused(
        put(f"{execution}/s/a", [b"0123456789", b"a"], **extra), 413, "payload_too_large"
    )
    assert "10 bytes" in said
    assert get(f"{execution}/s/a").content == b"0123456789"
    assert len(blobs(place)) == 1
    assert not list((place / "incoming").glob("*"))


@pytest.mark.parametrize("options", [{"is_cut": True}, {"content_length": "9"}])
def test_what_does_not_arrive_whole_changes_nothing(execution, place, options):
    put(f"{execution}/s/a", b"old")
    answer = put(f"{execution}/s/a", [b"ne", b"w"], **options)
    assert answer.status == (0 if "is_cut" in options else 422)
    assert get(f"{execution}/s/a").content == b"old"
    assert len(blobs(place)) == 1
    assert not list((place / "incoming").glob("*"))
    assert len(events()) == 1
    assert not Leftover.objects.exists()


def test_nothing_is_written_under_an_execution_that_has_ended(execution, place):
    put(f"{execution}/s/a", b"old")
    services.close_spaces([UUID(execution)])
    refused(put(f"{execution}/s/a", b"new"), 409, "execution_ended")
    assert get(f"{execution}/s/a").content == b"old"
    services.reopen_space(UUID(execution))
    assert put(f"{execution}/s/a", b"new").status == 200


def test_an_execution_that_nobody_knows_is_not_found(transactional_db):
    for named in (str(uuid4()), "nobody"):
        refused(put(f"{named}/s/a"), 404, "execution_not_found")
        refused(get(f"{named}/s/a"), 404, "execution_not_found")


def test_who_may_write(execution, owner, stranger, reader):
    assert put(f"{execution}/s/a", key=owner).status == 201
    refused(put(f"{execution}/s/a", key=stranger), 404, "execution_not_found")
    refused(put(f"{execution}/s/a", key=reader), 403, "forbidden")
    refused(put(f"{execution}/s/a"), 401, "unauthorized")
    assert get(f"{execution}/s/a", key=reader).status == 200
    refused(get(f"{execution}/s/a", key=stranger), 404, "execution_not_found")


def test_there_is_a_quota(execution, settings):
    settings.GYOZA_STORAGE_QUOTA_BYTES = 10
    settings.GYOZA_STORAGE_QUOTA_OBJECTS = 2
    assert put(f"{execution}/s/a", b"12345678").status == 201
    said = refused(put(f"{execution}/s/b", b"123"), 507, "storage_quota_exceeded")
    assert "10 bytes" in said
    refused(put(f"{execution}/s/b", b"123", content_length="3"), 507, "storage_quota_exceeded")
    # What it replaces makes room.
    assert put(f"{execution}/s/a", b"1234567890").status == 200
    put(f"{execution}/s/b", b"")
    refused(put(f"{execution}/s/c", b""), 507, "storage_quota_exceeded")
    assert Object.objects.count() == 2


def test_deleting_tells_and_leaves_an_audit_entry(execution, place, owner, reader):
    put(f"{execution}/s/a", b"abc", key=owner)
    refused(
        call("DELETE", f"/api/v1/storage/objects/{execution}/s/a", key=reader), 403, "forbidden"
    )
    answer = call("DELETE", f"/api/v1/storage/objects/{execution}/s/a", key=owner)
    assert (answer.status, answer.json()) == (200, {"deleted": True, "key": f"{execution}/s/a"})
    refused(get(f"{execution}/s/a", key=owner), 404, "object_not_found")
    assert [event["type"] for event in events()] == [
        "storage.object.created",
        "storage.object.deleted",
    ]
    assert AuditEntry.objects.get(action="storage.delete").target == f"object:{execution}/s/a"
    assert not blobs(place)
    assert not Leftover.objects.exists()
    assert Space.objects.get().bytes == 0
    again = call("DELETE", f"/api/v1/storage/objects/{execution}/s/a", key=owner)
    refused(again, 404, "object_not_found")
