"""topics v0 §2.10: repeating a write, and repeating a change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from apps.topics.models import Event, IdempotencyKey, Topic
from tests.contract.topics.conftest import refused

if TYPE_CHECKING:
    from tests.contract.topics.conftest import Api


def test_a_repeated_key_reports_the_first_write(api: Api):
    first = api.write("t", 1, 2, idempotency_key="k").json()
    api.write("t", 3)
    again = api.write("t", "another payload", idempotency_key="k")
    assert again.status_code == 200
    body = again.json()
    assert (body["deduped"], body["created"]) == (True, False)
    for member in ("first_seq", "last_seq", "seqs", "count", "head_seq"):
        assert body[member] == first[member]
    assert set(body["performance"]) == {"server_total_ms"}
    assert Event.objects.count() == 3


def test_the_body_key_wins_over_the_header(api: Api):
    api.post("/v0/topics/t", {"records": [{"data": 1}]}, Idempotency_Key="header")
    write = {"records": [{"data": 1}], "idempotency_key": "body"}
    assert not api.post("/v0/topics/t", write, Idempotency_Key="header").json()["deduped"]
    write = {"records": [{"data": 1}]}
    assert api.post("/v0/topics/t", write, Idempotency_Key="header").json()["deduped"]
    assert not api.post("/v0/topics/t", write, Idempotency_Key="h\x7f").json()["deduped"]
    assert not api.post("/v0/topics/t", write, Idempotency_Key="h\x7f").json()["deduped"]


@pytest.mark.parametrize("key", ["", "\0", "ü" * 128])
def test_any_string_of_256_bytes_is_a_key(api: Api, key: str):
    assert not api.write("t", 1, idempotency_key=key).json()["deduped"]
    assert api.write("t", 1, idempotency_key=key).json()["deduped"]


def test_a_longer_key_is_refused(api: Api):
    refused(api.write("t", 1, idempotency_key="x" * 257), 400, "invalid_request")
    body = {"records": [{"data": 1}]}
    refused(api.post("/v0/topics/t", body, Idempotency_Key="x" * 257), 400, "invalid_request")


def test_a_key_belongs_to_its_topic_and_its_incarnation(api: Api):
    api.write("t", 1, idempotency_key="k")
    assert not api.write("u", 1, idempotency_key="k").json()["deduped"]
    Topic.objects.get(name="t").delete()
    assert not api.write("t", 1, idempotency_key="k").json()["deduped"]


def test_a_key_is_forgotten_after_its_window(api: Api):
    """A hit requires now − created ≤ window, with the window of now."""
    api.write("t", 1, idempotency_key="k", config={"idempotency_window_ms": 1000})
    IdempotencyKey.objects.update(created_ts=0)
    assert api.write("t", 1, idempotency_key="k").json()["seqs"] == [2]
    assert api.write("t", 1, idempotency_key="k").json()["deduped"]
    IdempotencyKey.objects.update(created_ts=0)
    Topic.objects.update(idempotency_window_ms=2**64 - 1)
    assert api.write("t", 1, idempotency_key="k").json()["deduped"]


def test_of_concurrent_writes_with_one_key_one_appends(api: Api):
    answers = [
        api.begin("POST", "/v0/topics/t", {"records": [{"data": n}], "idempotency_key": "k"})
        for n in range(20)
    ]
    bodies = [answer.result(60).json() for answer in answers]
    assert [body["deduped"] for body in bodies].count(False) == 1
    assert {body["first_seq"] for body in bodies} == {1}
    assert Event.objects.count() == 1


def test_a_refused_write_remembers_nothing(api: Api):
    api.write("t", 1, config={"cap_records": 1, "discard": "reject"})
    refused(api.write("t", 1, idempotency_key="k"), 422, "topic_full")
    assert not IdempotencyKey.objects.exists()
