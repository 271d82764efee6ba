"""topics v0 §12: a write of far too many records is refused in the same order, without making the records."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from apps.topics.api import large_writes
from apps.topics.models import Event
from tests.cast import make_key
from tests.contract.topics.conftest import refused

if TYPE_CHECKING:
    from tests.contract.topics.conftest import Api

ONE = b'{"data":1}'
MANY = b",".join([ONE] * 200_000)
JSON = "application/json"


def write(api: Api, body: bytes, **options: Any) -> Any:
    return api.call("POST", "/v0/topics/t", body, content_type=JSON, **options)


def test_no_record_is_made_of_too_many(api: Api, monkeypatch: pytest.MonkeyPatch):
    count = SimpleNamespace(records=0)
    monkeypatch.setattr(large_writes, "_count", count)
    refused(write(api, b'{"records":[%b]}' % MANY), 400, "batch_too_large")
    assert count.records == 10_001
    assert not Event.objects.exists()


@pytest.mark.parametrize(
    "body",
    [
        b'{"records":[%b]' % MANY,
        b'{"records":[%b,]}' % MANY,
        b'{"records":[%b],"node":1}' % MANY,
        b'{"records":[%b],"node":"\xff"}' % MANY,
        b'{"records":[{},%b]}' % MANY,
        b'{"records":[%b],"config":{"cap_records":-1}}' % MANY,
    ],
    ids=["cut off", "comma", "node", "no UTF-8", "record", "config"],
)
def test_what_is_no_write_is_invalid_first(api: Api, body: bytes):
    refused(write(api, body), 400, "invalid_request")


def test_who_may_not_choose_the_config_hears_of_that_first(api: Api):
    key = make_key("w", "write")
    body = b'{"records":[%b],"config":{"cap_records":1}}' % MANY
    refused(write(api, body, key=key), 403, "forbidden")


def test_too_many_come_before_a_key_that_is_too_long(api: Api):
    body = b'{"records":[%b],"idempotency_key":"%b"}' % (MANY, b"x" * 257)
    refused(write(api, body), 400, "batch_too_large")


def test_the_last_of_several_lists_counts(api: Api):
    few = b'{"records":[%b],"node":"n","create":true,"records":[%b,%b]}' % (MANY, ONE, ONE)
    assert write(api, few).status_code == 201
    assert list(Event.objects.values_list("node", flat=True)) == ["n", "n"]
    refused(write(api, b'{"records":[%b],"records":[%b]}' % (ONE, MANY)), 400, "batch_too_large")


def test_as_many_as_are_possible_are_written_however_long(api: Api):
    records = [{"data": "x" * 250, "meta": {"n": n}} for n in range(10_000)]
    body = json.dumps({"records": records}).encode()
    assert len(body) > large_writes._LEAST_BYTES
    answer = write(api, body)
    assert answer.status_code == 201
    assert answer.json()["last_seq"] == 10_000
