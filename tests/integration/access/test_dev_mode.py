from __future__ import annotations

import pytest
from django.core.exceptions import ImproperlyConfigured

from apps.access import auth, checks, keyring, services
from apps.core.errors import Forbidden, Unauthorized
from tests.cast import make_key

pytestmark = pytest.mark.django_db


def test_without_any_key_everyone_may_do_everything():
    caller = auth.identify_now({})
    assert (caller.name, caller.owner, caller.key_id) == ("anonymous", "anonymous", None)
    assert caller.may("read+write+delete+admin")
    assert caller.sees("anything")


@pytest.mark.parametrize(
    "header", [{"Authorization": "Bearer nonsense"}, {"X-API-Key": "nonsense"}]
)
def test_what_is_presented_is_ignored(header):
    assert auth.identify_now(header).name == "anonymous"


def test_the_first_key_closes_the_doors(django_capture_on_commit_callbacks):
    assert auth.is_open()
    with django_capture_on_commit_callbacks(execute=True):
        services.create_key(name="first", scopes=["read"], caller="test")
    assert not auth.is_open()
    with pytest.raises(Unauthorized):
        auth.identify_now({})


def test_a_key_of_the_environment_closes_them_too():
    keyring.use_environment_keys("hunter2:read:team.")
    with pytest.raises(Unauthorized):
        auth.identify_now({})
    caller = auth.identify_now({"X-API-Key": "hunter2"})
    assert caller.scopes == {"read"}
    assert caller.prefixes == ("team.",)


@pytest.mark.parametrize(
    ("origin", "host", "welcome"),
    [
        (None, "localhost:5555", True),
        ("http://localhost:5555", "localhost:5555", True),
        ("http://localhost:3000", "localhost:5555", False),
        ("https://evil.example", "localhost:5555", False),
        ("null", "localhost:5555", False),
        ("https://trusted.example", "localhost:5555", True),
        (None, "evil.example", False),
        ("http://evil.example", "evil.example", False),
    ],
)
def test_other_sites_can_not_use_a_local_browser(origin, host, welcome, settings):
    settings.ALLOWED_HOSTS = ["localhost"]
    settings.CSRF_TRUSTED_ORIGINS = ["https://trusted.example"]
    headers = {"Host": host} | ({"Origin": origin} if origin else {})
    if welcome:
        assert auth.identify_now(headers).name == "anonymous"
    else:
        with pytest.raises(Forbidden):
            auth.identify_now(headers)


def test_with_a_key_any_site_may_call(settings):
    secret = make_key("ci")
    headers = {"Host": "h", "Origin": "https://app.example", "Authorization": f"Bearer {secret}"}
    assert auth.identify_now(headers).name == "ci"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]"])
def test_loopback_needs_no_key(host):
    auth.refuse_open_bind(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "name.invalid", "a" * 300])
def test_an_open_bind_without_a_key_is_refused(host, settings):
    with pytest.raises(ImproperlyConfigured, match="without any API key"):
        auth.refuse_open_bind(host)
    settings.GYOZA_ALLOW_INSECURE_NO_AUTH = True
    auth.refuse_open_bind(host)


def test_an_open_bind_with_a_key_is_fine():
    make_key("ci")
    auth.refuse_open_bind("0.0.0.0")


def test_the_banner_tells_how_to_close_the_doors():
    assert "manage.py keys create" in auth.dev_mode_banner()
    make_key("ci")
    assert auth.dev_mode_banner() == ""


def test_the_check_warns_of_an_open_bind(settings):
    settings.GYOZA_HOST = "0.0.0.0"
    assert [found.id for found in checks.check_open_bind(databases=["default"])] == ["access.W001"]
    assert checks.check_open_bind(databases=None) == []
    make_key("ci")
    assert checks.check_open_bind(databases=["default"]) == []


def test_the_check_warns_of_a_short_secret():
    keyring.use_environment_keys("hunter2")
    (found,) = checks.check_environment_keys()
    assert found.id == "access.W002"
    assert "hunter2" not in str(found)
