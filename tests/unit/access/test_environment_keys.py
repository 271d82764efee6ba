from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.core.exceptions import ImproperlyConfigured

from apps.access import keyring, tokens
from tests.asserts import present

if TYPE_CHECKING:
    from apps.access.caller import Caller


def parse(text: str) -> dict[bytes, Caller]:
    return {entry.digest: entry.caller for entry in keyring.parse_environment_keys(text)}


def only(text: str) -> Caller:
    (caller,) = parse(text).values()
    return caller


@pytest.mark.parametrize(
    ("entry", "scopes", "prefixes"),
    [
        ("s", "read write delete admin", ()),
        ("s:", "read write delete admin", ()),
        ("s::", "read write delete admin", ()),
        ("s:read", "read", ()),
        ("s:R+w", "read write", ()),
        ("s:RW", "read write", ()),
        ("s:del+a", "delete admin", ()),
        ("s:d+admin+delete", "delete admin", ()),
        ("s: read + ", "read", ()),
        ("s:read+", "read", ()),
        ("s::a.|b:c|", "read write delete admin", ("a.", "b:c")),
        (" s : r : a. | b. ", "read", ("a.", "b.")),
        ("s:r:|", "read", ()),
    ],
)
def test_an_entry_is_secret_scopes_prefixes(entry, scopes, prefixes):
    caller = only(entry)
    assert caller.scopes == set(scopes.split())
    assert caller.prefixes == prefixes


def test_entries_are_separated_by_commas_and_blanks_are_skipped():
    assert set(parse(" one , ,two:r,, :r:x ,")) == {
        tokens.digest_of("one"),
        tokens.digest_of("two"),
    }


def test_no_entries_are_no_keys():
    assert parse("") == parse(" , ,") == {}


@pytest.mark.parametrize("scopes", ["root", "read+root", "readwrite", "+", " + ", "++", "r w"])
def test_an_unknown_scope_stops_the_start_and_the_secret_is_not_told(scopes):
    with pytest.raises(ImproperlyConfigured) as stopped:
        parse(f"fine,hunter2:{scopes}")
    assert "entry 2" in str(stopped.value)
    assert "hunter2" not in str(stopped.value)


def test_a_key_keeps_its_identity_over_restarts():
    first, second = only("s:r").key_id, only("s:rw").key_id
    assert first == second
    assert first is not None
    assert only("t").key_id != first


def test_short_secrets_are_told_of_by_number():
    keyring.use_environment_keys("short,0123456789abcdef")
    assert keyring.environment_keys_shorter_than(16) == ["environment key 1"]


def test_every_digest_is_compared_to_the_end(monkeypatch):
    compared = []

    def compare(stored, given):
        compared.append(stored)
        return stored == given

    monkeypatch.setattr("apps.access.keyring.hmac.compare_digest", compare)
    entries = tuple(keyring.parse_environment_keys("one,two,three"))
    snapshot = keyring.Snapshot(entries, False, 0.0, {})
    assert present(snapshot.find("one")).caller.name == "environment key 1"
    assert len(compared) == 3
    compared.clear()
    assert snapshot.find("unknown") is None
    assert len(compared) == 3
