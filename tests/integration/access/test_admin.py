from __future__ import annotations

import re
from datetime import timedelta

import pytest
import time_machine
from django.urls import reverse

from apps.access import logins, services
from apps.access.models import ApiKey, AuditEntry
from apps.core import clock
from tests.asserts import present
from tests.cast import make_key

pytestmark = pytest.mark.django_db
KEYS = "/admin/access/apikey/"
NEW = {
    "name": "ci",
    "scopes": ["read", "write"],
    "prefixes": "a.\r\n b. \r\n",
    "expires_at_0": "",
    "expires_at_1": "",
}


def test_a_secret_is_shown_once(admin_client):
    page = admin_client.post(f"{KEYS}add/", NEW)
    assert page.status_code == 200, page.context["adminform"].form.errors
    secret = present(re.search(r"gyk_[\w-]{43}", page.content.decode())).group()
    assert "no-store" in page["Cache-Control"]
    assert "messages" not in page.cookies
    key = ApiKey.objects.get()
    assert (key.name, key.scopes, key.prefixes) == ("ci", ["read", "write"], ["a.", "b."])
    assert AuditEntry.objects.get().actor_name == "admin"
    # From here on the doors are closed to whoever has no key, and the admin still shows no secret.
    for path in (KEYS, f"{KEYS}{key.pk}/change/", "/admin/access/auditentry/"):
        answer = admin_client.get(path)
        assert answer.status_code == 200
        assert secret not in answer.content.decode()


@pytest.mark.parametrize(
    "change",
    [
        {"name": "taken"},
        {"name": ""},
        {"scopes": []},
        {"scopes": ["root"]},
        {"expires_at_0": "2001-01-01", "expires_at_1": "00:00"},
    ],
)
def test_a_bad_key_is_refused_beside_the_field(admin_client, change):
    make_key("taken")
    page = admin_client.post(f"{KEYS}add/", NEW | change)
    assert page.status_code == 200
    assert page.context["adminform"].form.errors
    assert ApiKey.objects.count() == 1


def test_keys_are_revoked_and_stay(admin_client, django_capture_on_commit_callbacks):
    make_key("ci")
    key = ApiKey.objects.get()
    with django_capture_on_commit_callbacks(execute=True):
        admin_client.post(KEYS, {"action": "revoke", "_selected_action": [str(key.pk)]})
    key.refresh_from_db()
    assert key.is_revoked
    assert AuditEntry.objects.latest("id").action == "key.revoke"
    assert admin_client.post(f"{KEYS}{key.pk}/delete/", {"post": "yes"}).status_code == 403
    assert admin_client.post(f"{KEYS}{key.pk}/change/", NEW).status_code == 403


def test_only_a_superuser_makes_keys(client, django_user_model):
    from django.contrib.auth.models import Permission

    user = django_user_model.objects.create_user("bo", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(content_type__app_label="access"))
    client.force_login(user)
    assert client.get(KEYS).status_code == 200
    assert client.post(f"{KEYS}add/", NEW).status_code == 403


def test_the_list_costs_the_same_for_many(admin_client, django_assert_max_num_queries):
    for number in range(20):
        make_key(f"key {number}")
    with django_assert_max_num_queries(8):
        admin_client.get(KEYS)


def test_nobody_writes_the_trail(admin_client):
    services.audit(caller="test", action="a", target="t", note="<script>")
    entry = AuditEntry.objects.get()
    path = f"/admin/access/auditentry/{entry.pk}/"
    page = admin_client.get(f"{path}change/").content.decode()
    assert "&lt;script&gt;" in page
    assert "<script>&quot;" not in page
    assert admin_client.post(f"{path}change/", {"action": "b"}).status_code == 403
    assert admin_client.post(f"{path}delete/", {"post": "yes"}).status_code == 403
    assert admin_client.get("/admin/access/auditentry/?q=t").status_code == 200


class TestLogin:
    @pytest.fixture
    def login(self, client, django_user_model):
        django_user_model.objects.create_superuser("ana", password="right")

        def attempt(password, username="ana", address="192.0.2.1"):
            return client.post(
                reverse("admin:login"),
                {"username": username, "password": password, "next": "/admin/"},
                REMOTE_ADDR=address,
            )

        return attempt

    def test_a_login_and_a_failure_are_written_down(self, login):
        assert b"correct username" in login("wrong").content
        assert login("right").status_code == 302
        failure, success = AuditEntry.objects.order_by("id")
        assert (failure.action, failure.detail) == ("login.fail", {"account": "ana"})
        assert (success.action, success.detail) == ("login", {"address": "192.0.2.1"})

    def test_a_password_typed_as_a_name_is_not_kept(self, login):
        login("x", username="my secret password")
        entry = AuditEntry.objects.get()
        assert "secret" not in f"{entry.target} {entry.actor} {entry.detail}"

    def test_whoever_guesses_must_wait(self, login):
        now = clock.now()
        with time_machine.travel(now, tick=False) as traveller:
            for _ in range(logins.MOST_FOR_BOTH):
                login("wrong")
            assert b"Too many failed logins" in login("right").content
            # Not for others, who come from elsewhere; and what is refused does not prolong the wait.
            assert login("right", address="192.0.2.2").status_code == 302
            traveller.shift(timedelta(minutes=15, seconds=1))
            assert login("right").status_code == 302

    def test_trying_many_accounts_does_not_help(self, login, monkeypatch):
        monkeypatch.setattr(logins, "MOST_FOR_ADDRESS", 3)
        for number in range(3):
            login("wrong", username=f"user{number}")
        assert b"Too many failed logins" in login("right").content

    def test_trying_from_many_addresses_does_not_help(self, login, monkeypatch):
        monkeypatch.setattr(logins, "MOST_FOR_ACCOUNT", 3)
        for number in range(3):
            login("wrong", address=f"192.0.2.{number}")
        assert b"Too many failed logins" in login("right", address="192.0.2.99").content


@pytest.mark.parametrize(
    "path", ["/admin/auth/user/", "/admin/auth/user/add/", "/admin/auth/group/", "/admin/"]
)
def test_people_are_managed_in_the_same_dress(admin_client, path):
    assert admin_client.get(path).status_code == 200
