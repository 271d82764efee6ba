"""topics v0 §6: the config object."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import time_machine

from apps.topics.models import Topic
from tests.contract.topics.conftest import refused

if TYPE_CHECKING:
    from tests.contract.topics.conftest import Api


U64 = 2**64 - 1


DEFAULTS = {
    "type": "log",
    "ttl_ms": 0,
    "cap_records": 0,
    "cap_bytes": 0,
    "discard": "old",
    "durable": False,
    "durability": "disk",
    "priority": None,
    "auto_priority": True,
    "auto_create": True,
    "idempotency_window_ms": 120000,
    "dedupe_node": True,
    "lease_ms": 30000,
    "claim_jitter_ms": 0,
    "max_deliveries": 0,
    "dead_letter": None,
    "leases_durable": False,
}


def test_put_without_a_body_means_the_defaults(api: Api):
    """§2.2: no content type is asked for."""
    assert api.put("/v0/topics/t").json()["config"] == DEFAULTS


def test_put_replaces_the_whole_config(api: Api):
    """⚑14: what is left out returns to its default."""
    everything = {
        "ttl_ms": 5,
        "cap_records": 6,
        "cap_bytes": 7,
        "discard": "reject",
        "durability": "ephemeral",
        "priority": 8,
        "auto_priority": False,
        "auto_create": False,
        "idempotency_window_ms": 9,
        "dedupe_node": False,
        "lease_ms": 1000,
        "claim_jitter_ms": 11,
        "max_deliveries": 12,
        "dead_letter": "t",
        "leases_durable": True,
    }
    expected = {**DEFAULTS, **everything}
    assert api.put("/v0/topics/t", everything).json()["config"] == expected
    assert api.state("t")["config"] == expected
    api.put("/v0/topics/t", {"ttl_ms": 5})
    assert api.state("t")["config"] == {**DEFAULTS, "ttl_ms": 5}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"durable": True}, {"durable": True, "durability": "fsync"}),
        ({"durable": True, "durability": "memory"}, {"durable": False, "durability": "memory"}),
        ({"durable": False, "durability": "fsync"}, {"durable": True, "durability": "fsync"}),
        ({"durable": True, "durability": None}, {"durable": True, "durability": "fsync"}),
        ({"lease_ms": 0}, {"lease_ms": 100}),
        ({"lease_ms": U64}, {"lease_ms": 86_400_000}),
        ({"claim_jitter_ms": U64}, {"claim_jitter_ms": 5_000}),
        ({"priority": -(2**31)}, {"priority": -(2**31)}),
        ({"ttl_ms": U64, "cap_records": U64, "cap_bytes": U64}, {"ttl_ms": U64, "cap_bytes": U64}),
        ({"max_deliveries": U64, "idempotency_window_ms": U64}, {"max_deliveries": U64}),
        ({"dead_letter": "t"}, {"dead_letter": "t"}),
        ({"unknown": [1]}, {}),
    ],
    ids=str,
)
def test_a_config_is_resolved_and_clamped(api: Api, given: Any, expected: Any):
    """§6, ⚑12."""
    answer = api.put("/v0/topics/t", given)
    assert answer.status_code == 201
    assert {**answer.json()["config"], **expected} == answer.json()["config"]
    assert api.state("t")["config"] == answer.json()["config"]


BAD_CONFIGS = [
    b"{",
    b"[]",
    b"null",
    b'{"type":"stack"}',
    b'{"type":null}',
    b'{"ttl_ms":-1}',
    b'{"ttl_ms":5.0}',
    b'{"ttl_ms":1e3}',
    b'{"ttl_ms":"5"}',
    b'{"ttl_ms":null}',
    b'{"cap_records":18446744073709551616}',
    b'{"cap_bytes":99999999999999999999999999}',
    b'{"discard":"new"}',
    b'{"durable":1}',
    b'{"durability":"Fsync"}',
    b'{"priority":2147483648}',
    b'{"priority":-2147483649}',
    b'{"priority":1.5}',
    b'{"auto_priority":null}',
    b'{"dead_letter":5}',
    b'{"dead_letter":"\xff"}',
    b'{"lease_ms":-1}',
    b'{"x":' + b"[" * 5000 + b"]" * 5000 + b"}",
]


@pytest.mark.parametrize("body", BAD_CONFIGS, ids=lambda body: repr(body[:40]))
def test_a_malformed_config_is_refused(api: Api, body: bytes):
    refused(api.put("/v0/topics/t", body, content_type="application/json"), 400, "invalid_request")
    assert not Topic.objects.exists()


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"dead_letter": "no name"}, "no name"),
        ({"dead_letter": ""}, ""),
        ({"dead_letter": "a\0"}, "a\0"),
        ({"type": "queue", "dead_letter": "t"}, "t"),
    ],
)
def test_a_bad_dead_letter_is_refused(api: Api, config: Any, name: str):
    detail = refused(api.put("/v0/topics/t", config), 400, "invalid_request")
    assert detail == {"dead_letter": name}


def test_the_kind_of_a_topic_is_for_ever(api: Api):
    api.put("/v0/topics/q", {"type": "queue", "ttl_ms": 1})
    detail = refused(api.put("/v0/topics/q", {"ttl_ms": 2}), 409, "topic_exists_incompatible")
    assert detail == {"topic": "q", "existing_type": "queue", "requested_type": "log"}
    assert api.state("q")["config"]["ttl_ms"] == 1


def test_a_tighter_cap_evicts_at_once_and_a_wider_one_brings_nothing_back(api: Api):
    """§6, §11.1."""
    api.write("t", *range(1, 11))
    api.put("/v0/topics/t", {"cap_records": 3})
    topic = Topic.objects.get()
    assert (topic.earliest, topic.count, topic.cap_floor) == (8, 3, 7)
    api.put("/v0/topics/t", {})
    found = api.state("t")
    assert (found["earliest_seq"], found["count"], found["bytes"]) == (8, 3, 4)
    assert api.diff("t")["tombstone"]["gap_to"] == 7


def test_a_shorter_ttl_evicts_at_once(api: Api):
    with time_machine.travel(datetime(2030, 1, 1, tzinfo=UTC), tick=False) as clock:
        api.write("t", 1, 2)
        clock.shift(10)
        api.put("/v0/topics/t", {"ttl_ms": 10_000})
        assert Topic.objects.get().count == 2  # strictly older
        api.put("/v0/topics/t", {"ttl_ms": 9_999})
        topic = Topic.objects.get()
        assert (topic.count, topic.ttl_floor, topic.earliest) == (0, 2, 3)


def test_a_config_counts_only_when_the_write_creates(api: Api):
    api.write("t", 1, config={"ttl_ms": 5000, "durability": "fsync", "type": "queue"})
    topic = Topic.objects.get()
    assert (topic.ttl_ms, topic.durability, topic.kind) == (5000, "fsync", "queue")
    api.write("t", 1, config={"ttl_ms": 1})
    assert Topic.objects.get().ttl_ms == 5000
    refused(api.write("t", 1, config={"ttl_ms": "1"}), 400, "invalid_request")


def test_the_dead_letter_topic_must_be_possible(api: Api):
    """§6."""
    detail = refused(api.write("q", 1, config={"dead_letter": "a b"}), 400, "invalid_request")
    assert detail == {"dead_letter": "a b"}
    config = {"type": "queue", "dead_letter": "q"}
    refused(api.write("q", 1, config=config), 400, "invalid_request")
    assert api.write("q", 1, config={"dead_letter": "q"}).status_code == 201
