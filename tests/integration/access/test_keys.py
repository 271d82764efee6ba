from __future__ import annotations

from datetime import timedelta

import pytest
import time_machine
from django.db import IntegrityError, connection, transaction

from apps.access import auth, keyring, services, tokens
from apps.access.models import ApiKey, AuditEntry
from apps.core import clock
from apps.core.errors import Forbidden, Invalid, NotFound, Unauthorized
from tests.cast import caller_for, make_key

pytestmark = pytest.mark.django_db


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def test_a_secret_is_256_random_bits_and_is_kept_nowhere():
    key, secret = services.create_key(name="ci", scopes=["read"], caller="test")
    assert len(secret) == len("gyk_") + 43
    assert secret != tokens.new_secret()
    with connection.cursor() as cursor:
        cursor.execute("SELECT k::text, encode(digest, 'escape') FROM access_apikey k")
        stored = " ".join(cursor.fetchone())
        cursor.execute("SELECT a::text FROM access_auditentry a")
        stored += cursor.fetchone()[0]
    assert secret not in stored
    assert secret[12:] not in stored
    assert secret.startswith(key.hint)


def test_a_key_is_who_it_says():
    secret = make_key("ci", "read+write", "a.", "b.")
    caller = auth.identify_now(bearer(secret))
    key = ApiKey.objects.get()
    assert (caller.name, caller.key_id, caller.owner) == ("ci", key.pk, f"key:{key.pk}")
    assert caller.scopes == {"read", "write"}
    assert (caller.sees("a.x"), caller.sees("b."), caller.sees("c.a.")) == (True, True, False)
    assert caller.may("read+write")
    assert not caller.may("read+admin")
    with pytest.raises(Forbidden):
        caller.require("delete")


@pytest.mark.parametrize("name", ["X-API-Key", "Authorization"])
def test_it_is_presented_either_way(name):
    secret = make_key("ci")
    headers = {name: secret if name == "X-API-Key" else f"Bearer {secret}"}
    assert auth.identify_now(headers).name == "ci"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer "},
        {"Authorization": "bearer {}"},
        {"Authorization": "Basic {}"},
        {"Authorization": "{}"},
        {"X-API-Key": ""},
        {"X-API-Key": "gyk_unknown"},
        {"Authorization": "Bearer wrong", "X-API-Key": "{}"},
        {"Authorization": "Bearer é\udcff"},
        {"Authorization": "Bearer gyr_forged.1:abc"},
    ],
)
def test_anything_else_is_nobody(headers):
    secret = make_key("ci")
    with pytest.raises(Unauthorized):
        auth.identify_now({name: value.format(secret) for name, value in headers.items()})


def test_blanks_around_the_secret_are_trimmed():
    assert auth.identify_now({"Authorization": f"Bearer   {make_key('ci')}  "}).name == "ci"


def test_a_query_token_counts_only_where_the_view_passes_it_and_the_header_wins():
    one, two = make_key("one"), make_key("two")
    assert auth.identify_now({}, query_token=one).name == "one"
    assert auth.identify_now(bearer(two), query_token=one).name == "two"


def test_an_expired_key_is_nobody_even_if_remembered():
    now = clock.now()
    with time_machine.travel(now, tick=False) as traveller:
        _, secret = services.create_key(
            name="ci", scopes=["read"], expires_at=now + timedelta(hours=1), caller="test"
        )
        keyring.drop()
        assert auth.identify_now(bearer(secret)).name == "ci"
        traveller.shift(timedelta(hours=1))
        with pytest.raises(Unauthorized):
            auth.identify_now(bearer(secret))


def test_a_revoked_key_is_nobody(django_capture_on_commit_callbacks):
    secret = make_key("ci")
    make_key("other")
    assert auth.identify_now(bearer(secret)).name == "ci"
    with django_capture_on_commit_callbacks(execute=True):
        services.revoke_key(key="ci", caller="test")
    with pytest.raises(Unauthorized):
        auth.identify_now(bearer(secret))


def test_revoking_the_last_key_does_not_open_the_doors():
    make_key("ci")
    services.revoke_key(key="ci", caller="test")
    keyring.drop()
    assert not auth.is_open()
    with pytest.raises(Unauthorized):
        auth.identify_now({})


def test_revoking_twice_is_one_revocation():
    make_key("ci")
    key = services.revoke_key(key="ci", caller="test")
    again = services.revoke_key(key=key.pk, caller="test")
    assert again.revoked_at == key.revoked_at
    assert AuditEntry.objects.filter(action="key.revoke").count() == 1
    with pytest.raises(NotFound):
        services.revoke_key(key="ci", caller="test")


def test_a_name_is_free_again_once_its_key_is_revoked():
    make_key("ci")
    with pytest.raises(services.KeyNameTaken):
        make_key("ci")
    services.revoke_key(key="ci", caller="test")
    assert make_key("ci")


def test_a_bad_key_is_refused_with_every_reason():
    with pytest.raises(Invalid) as refused:
        services.create_key(
            name=" ",
            scopes=["root"],
            expires_at=clock.now() - timedelta(seconds=1),
            caller="test",
        )
    assert [e["field"] for e in refused.value.detail["errors"]] == ["name", "scopes", "expires_at"]


@pytest.mark.parametrize("change", [{"digest": b"plaintext"}, {"scopes": []}, {"scopes": ["root"]}])
def test_the_database_refuses_a_misshapen_key(change):
    make_key("ci")
    with pytest.raises(IntegrityError), transaction.atomic():
        ApiKey.objects.update(**change)


def test_the_last_use_is_written_once_a_minute(django_assert_num_queries):
    secret = make_key("ci")
    now = clock.now()
    with time_machine.travel(now, tick=False):
        auth.identify_now(bearer(secret))
        with django_assert_num_queries(0):
            auth.identify_now(bearer(secret))
    assert ApiKey.objects.get().last_used_at == now
    # Another process, in the same minute: the row is left alone.
    keyring.forget_uses()
    with time_machine.travel(now + timedelta(seconds=59), tick=False):
        auth.identify_now(bearer(secret))
    assert ApiKey.objects.get().last_used_at == now
    keyring.forget_uses()
    with time_machine.travel(now + timedelta(seconds=61), tick=False):
        auth.identify_now(bearer(secret))
    assert ApiKey.objects.get().last_used_at == now + timedelta(seconds=61)


def test_many_requests_cost_one_query(django_assert_num_queries):
    secret = make_key("ci")
    auth.identify_now(bearer(secret))
    with django_assert_num_queries(0):
        for _ in range(10):
            auth.identify_now(bearer(secret))


def test_a_message_lost_costs_no_more_than_the_cache_time(settings):
    secret = make_key("ci")
    auth.identify_now(bearer(secret))
    services.revoke_key(key="ci", caller="test")  # no commit, no message
    settings.GYOZA_KEY_CACHE_SECONDS = 0
    with pytest.raises(Unauthorized):
        auth.identify_now(bearer(secret))


def test_a_revocation_heard_during_the_read_is_not_missed(monkeypatch):
    secret = make_key("ci")
    read = keyring._read
    reads = []

    def read_then_hear():
        snapshot = read()
        reads.append(snapshot)
        if len(reads) == 1:
            services.revoke_key(key="ci", caller="test")
            keyring.drop()
        return snapshot

    monkeypatch.setattr(keyring, "_read", read_then_hear)
    with pytest.raises(Unauthorized):
        auth.identify_now(bearer(secret))
    assert len(reads) == 2


def test_a_run_token_is_its_run_and_nothing_more(db):
    from uuid import uuid4

    make_key("ci")
    run_id = uuid4()
    token = services.issue_run_token(run_id, 3)
    caller = auth.identify_now(bearer(token))
    assert (caller.run_id, caller.attempt, caller.owner) == (run_id, 3, f"run:{run_id}")
    assert caller.scopes == {"read", "write"}
    with pytest.raises(Unauthorized):
        auth.identify_now(bearer(token[:-1] + ("A" if token[-1] != "A" else "B")))
    with pytest.raises(Unauthorized):
        auth.identify_now(bearer(token.replace(".3:", ".4:")))
    with pytest.raises(Unauthorized):
        auth.identify_now({}, query_token=token)


def test_a_token_signed_for_something_else_is_nobody():
    from django.core import signing

    make_key("ci")
    forged = "gyr_" + signing.Signer(salt="session").sign("00.1")
    with pytest.raises(Unauthorized):
        auth.identify_now(bearer(forged))


def test_a_change_leaves_an_entry_with_the_correlation_id():
    from apps.core import correlation

    secret = make_key("ci")
    with correlation.bound("abc"):
        services.audit(
            caller=caller_for(secret), action="run.cancel", target="run:1", reason="slow"
        )
    entry = AuditEntry.objects.latest("id")
    assert (entry.actor_name, entry.action, entry.target) == ("ci", "run.cancel", "run:1")
    assert (entry.detail, entry.correlation_id) == ({"reason": "slow"}, "abc")
    assert entry.actor == caller_for(secret).owner
