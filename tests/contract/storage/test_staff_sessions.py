"""Streams and content for the pages of the staff: their session counts where no key is given, for looking only."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from django.conf import settings
from django.test import Client

from apps.storage import services
from apps.topics.services import NewEvent, append_events
from tests.cast import make_key
from tests.object_client import OBJECTS, call

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def stored(execution: str) -> str:
    """Return the path of an object, in a service that has a key."""
    make_key("boss")
    new = services.NewObject(name="out/a.txt", stage="out", content_type="text/plain")
    services.attach(
        execution_id=UUID(execution), new=new, uploaded=services.upload_bytes(b"a", name=new.name)
    )
    return f"{execution}/out/a.txt"


def cookie_of(user: Any) -> str:
    client = Client()
    client.force_login(user)
    return f"theme=x; {settings.SESSION_COOKIE_NAME}={client.cookies[settings.SESSION_COOKIE_NAME].value}"


def person(model: Any, **over: Any) -> Any:
    return model.objects.create_user("person", **over)


def test_the_staff_reads_objects_and_archives(stored, django_user_model):
    cookie = cookie_of(person(django_user_model, is_staff=True))
    assert call("GET", f"{OBJECTS}/{stored}", cookie=cookie).content == b"a"
    archive = f"/api/v1/storage/archive/{stored.partition('/')[0]}"
    assert call("GET", archive, cookie=cookie).content.startswith(b"PK")


def test_the_staff_reads_the_feed_and_writes_no_record(stored, admin_user):
    append_events([NewEvent(topic="t", data='{"n":1}')])
    cookie = cookie_of(admin_user)
    assert b'"data":{"n":1}' in call("GET", "/events?topic=t", cookie=cookie).content
    assert call("GET", "/events?topic=t").status == 401
    record = b'{"records":[{"data":1}]}'
    assert call("POST", "/v0/topics/t", record, cookie=cookie).status == 401


def test_it_writes_and_deletes_nothing_by_a_cookie(stored, admin_user):
    cookie = cookie_of(admin_user)
    assert call("PUT", f"{OBJECTS}/{stored}", b"b", cookie=cookie).status == 401
    assert call("DELETE", f"{OBJECTS}/{stored}", cookie=cookie).status == 401
    assert call("GET", f"{OBJECTS}/{stored}", cookie=cookie).content == b"a"


@pytest.mark.parametrize("over", [{}, {"is_staff": True, "is_active": False}])
def test_who_is_not_of_the_staff_needs_a_key(stored, django_user_model, over):
    cookie = cookie_of(person(django_user_model, **over))
    assert call("GET", f"{OBJECTS}/{stored}", cookie=cookie).status == 401


@pytest.mark.parametrize("value", ["", "nonsense", "%00", "a" * 5000, r'"\000aaaaaaaaa"'])
def test_a_cookie_that_is_none_of_ours_is_as_none(stored, value):
    cookie = f"{settings.SESSION_COOKIE_NAME}={value}"
    assert call("GET", f"{OBJECTS}/{stored}", cookie=cookie).status == 401


def test_a_key_that_is_given_decides(stored, admin_user):
    cookie = cookie_of(admin_user)
    assert call("GET", f"{OBJECTS}/{stored}", cookie=cookie, key="wrong").status == 401


def test_a_session_that_has_ended_opens_nothing(stored, admin_user):
    client = Client()
    client.force_login(admin_user)
    cookie = f"{settings.SESSION_COOKIE_NAME}={client.cookies[settings.SESSION_COOKIE_NAME].value}"
    client.logout()
    assert call("GET", f"{OBJECTS}/{stored}", cookie=cookie).status == 401


def test_other_doors_of_the_data_plane_take_no_session(stored, admin_user):
    cookie = cookie_of(admin_user)
    assert call("GET", "/v0/topics", cookie=cookie).status == 401
    assert call("GET", "/v0/routers", cookie=cookie).status == 401


def test_the_staff_follows_streams(stored, admin_user):
    cookie = cookie_of(admin_user)
    execution = stored.partition("/")[0]
    target = f"/api/v1/storage/events?execution_id={execution}&replay=true&timeout=1"
    answer = call("GET", target, cookie=cookie)
    assert answer.status == 200
    assert b"out/a.txt" in answer.content
