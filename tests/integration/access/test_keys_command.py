from __future__ import annotations

import json

import pytest
from django.core.management import CommandError, call_command

from apps.access import keyring
from apps.access.models import ApiKey, AuditEntry
from tests.cast import caller_for

pytestmark = pytest.mark.django_db


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    call_command("keys", *arguments)
    keyring.drop()
    return capsys.readouterr().out


def test_create_prints_the_secret_alone_and_once(capsys):
    secret = run(capsys, "create", "ci", "--scopes", "r+w", "--prefixes", "a.|b.").strip()
    caller = caller_for(secret)
    assert (caller.name, caller.prefixes) == ("ci", ("a.", "b."))
    assert caller.scopes == {"read", "write"}
    assert secret not in run(capsys, "list")
    assert AuditEntry.objects.get().actor_name == "command line"


@pytest.mark.parametrize(
    "words",
    [
        ("--scope", "read", "--scope", "write"),
        ("--scopes", "read,write"),
        ("--scopes", "read write"),
        ("--scopes", "read+write", "--scopes", "r"),
    ],
)
def test_scopes_are_given_in_any_of_the_usual_ways(capsys, words):
    made = json.loads(run(capsys, "create", "ci", "--json", *words))
    assert made["scopes"] == ["read", "write"]


@pytest.mark.parametrize(
    "words",
    [
        ("--prefix", "a.", "--prefix", "b."),
        ("--prefixes", "a.|b."),
        ("--prefixes=a.|", "--prefixes=b."),
    ],
)
def test_prefixes_are_given_in_any_of_the_usual_ways(capsys, words):
    made = json.loads(run(capsys, "create", "ci", "--json", *words))
    assert made["prefixes"] == ["a.", "b."]


def test_create_gives_every_scope_by_default(capsys):
    made = json.loads(run(capsys, "create", "ci", "--json", "--expires", "2999-01-31"))
    assert made["scopes"] == ["admin", "delete", "read", "write"]
    assert made["expires_at"] == "2999-01-31T00:00:00.000000Z"
    assert caller_for(made["secret"]).name == "ci"


def test_list_shows_standing_keys(capsys):
    run(capsys, "create", "one")
    run(capsys, "create", "two", "--scopes", "read")
    run(capsys, "revoke", "one")
    (key,) = json.loads(run(capsys, "list", "--json"))
    assert (key["name"], key["scopes"], key["last_used_at"]) == ("two", ["read"], None)
    assert "two  read  every name  never used" in run(capsys, "list")


def test_revoke_takes_a_name_or_an_id(capsys):
    run(capsys, "create", "one")
    assert run(capsys, "revoke", "one") == "Revoked one.\n"
    run(capsys, "create", "two")
    run(capsys, "revoke", str(ApiKey.objects.standing().get().pk))
    assert not ApiKey.objects.standing().exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", "ci", "--scopes", "root"),
        ("create", "ci", "--scopes", "+"),
        ("create", "ci", "--scopes", ""),
        ("create", "ci", "--scopes", " "),
        ("create", "ci", "--prefixes", ""),
        ("create", "ci", "--prefixes", "|"),
        ("create", "ci", "--scope", "read", "--scope", "root"),
        ("create", "ci", "--expires", "2001-01-01"),
        ("create", "ci", "--expires", "soon"),
        ("create", " "),
        ("revoke", "nobody"),
        ("destroy",),
    ],
)
def test_what_makes_no_sense_is_refused(arguments):
    with pytest.raises(CommandError):
        call_command("keys", *arguments)
    assert not ApiKey.objects.exists()


def test_an_option_that_is_empty_is_told_from_one_that_is_not_there():
    with pytest.raises(CommandError, match="--scopes is empty; leave it out for all of them"):
        call_command("keys", "create", "ci", "--scopes", "")
