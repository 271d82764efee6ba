"""topics v0 §11 (topic endpoints), with §6 (config) as a client meets it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import time_machine

from apps.access.models import AuditEntry
from apps.topics.models import DeletedTopic, Event, Topic
from tests.cast import make_key
from tests.contract.topics.conftest import refused

if TYPE_CHECKING:
    from tests.contract.topics.conftest import Api

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
U64 = 2**64 - 1


def state(api: Api, topic: str, query: str = "") -> Any:
    answer = api.get(f"/v0/topics/{topic}{query}")
    assert answer.status_code == 200, answer.text
    return answer.json()


# --- §11.1 PUT -----------------------------------------------------------------------------------


def test_put_answers_as_the_example(api: Api):
    body = {"ttl_ms": 900000, "cap_records": 20000, "durability": "fsync"}
    answer = api.put("/v0/topics/greenhouse.temps", body)
    assert answer.status_code == 201
    found = answer.json()
    assert set(found.pop("performance")) == {"server_total_ms"}
    changes = {"ttl_ms": 900000, "cap_records": 20000, "durable": True, "durability": "fsync"}
    expected = {"topic": "greenhouse.temps", "created": True, "config": {**DEFAULTS, **changes}}
    assert found == expected
    assert list(found["config"]) == list(DEFAULTS)


def test_put_again_is_an_update(api: Api):
    assert api.put("/v0/topics/t", {}).status_code == 201
    answer = api.put("/v0/topics/t", {"ttl_ms": 1})
    assert (answer.status_code, answer.json()["created"]) == (200, False)
    answer = api.put("/v0/topics/t", {"ttl_ms": 1})
    assert (answer.status_code, answer.json()["created"]) == (200, False)


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
    assert state(api, "t")["config"] == expected
    api.put("/v0/topics/t", {"ttl_ms": 5})
    assert state(api, "t")["config"] == {**DEFAULTS, "ttl_ms": 5}


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
    assert state(api, "t")["config"] == answer.json()["config"]


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
    "name", ["-a", ".a", "a b", "a%00b", "%C3%BC", "a%3Eb", "%F0%9F%98%80", "a" * 256]
)
def test_a_bad_name_is_refused(api: Api, name: str):
    """§5."""
    refused(api.put(f"/v0/topics/{name}", {}), 400, "invalid_request")


def test_the_longest_name_is_fine(api: Api):
    assert api.put(f"/v0/topics/{'a' * 255}", {}).status_code == 201


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


def test_put_judges_in_the_order_of_the_spec(api: Api):
    """§11.1: 415, JSON, name, dead_letter, kind, max_topics."""
    api.put("/v0/topics/q", {"type": "queue"})
    bad = {"dead_letter": "no name"}
    answer = api.put("/v0/topics/-", b"{", content_type="text/plain")
    refused(answer, 415, "unsupported_media_type")
    assert "name" not in api.put("/v0/topics/-", b"{").json()["error"]["message"]
    assert refused(api.put("/v0/topics/-", bad), 400, "invalid_request") == {}
    refused(api.put("/v0/topics/q", bad), 400, "invalid_request")
    refused(api.put("/v0/topics/q", {}), 409, "topic_exists_incompatible")


def test_the_kind_of_a_topic_is_for_ever(api: Api):
    api.put("/v0/topics/q", {"type": "queue", "ttl_ms": 1})
    detail = refused(api.put("/v0/topics/q", {"ttl_ms": 2}), 409, "topic_exists_incompatible")
    assert detail == {"topic": "q", "existing_type": "queue", "requested_type": "log"}
    assert state(api, "q")["config"]["ttl_ms"] == 1


def test_a_tighter_cap_evicts_at_once_and_a_wider_one_brings_nothing_back(api: Api):
    """§6, §11.1."""
    api.write("t", *range(1, 11))
    api.put("/v0/topics/t", {"cap_records": 3})
    topic = Topic.objects.get()
    assert (topic.earliest, topic.count, topic.cap_floor) == (8, 3, 7)
    api.put("/v0/topics/t", {})
    found = state(api, "t")
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


def test_there_are_at_most_so_many_topics(api: Api, settings: Any):
    """§4.2: the N+1st is refused, an update never."""
    settings.GYOZA_MAX_TOPICS = 2
    api.put("/v0/topics/a", {})
    api.write("b", 1)
    answer = api.put("/v0/topics/c", {})
    assert refused(answer, 429, "throttled") == {"limit": "max_topics", "max": 2}
    assert answer.headers["retry-after"] == "1"
    assert api.put("/v0/topics/a", {"ttl_ms": 1}).status_code == 200
    api.delete("/v0/topics/a")
    assert api.put("/v0/topics/c", {}).status_code == 201


def test_of_many_creations_one_is_told_so_and_the_cap_holds(api: Api, settings: Any):
    settings.GYOZA_MAX_TOPICS = 3
    same = [api.begin("PUT", "/v0/topics/same", {}) for _ in range(10)]
    answers = [call.result(60) for call in same]
    assert sorted(a.status_code for a in answers) == [200] * 9 + [201]
    others = [api.begin("PUT", f"/v0/topics/t{n}", {}) for n in range(6)]
    others += [api.begin("POST", f"/v0/topics/w{n}", {"records": [{"data": 1}]}) for n in range(6)]
    codes = [call.result(60).status_code for call in others]
    assert sorted(codes) == [201] * 2 + [429] * 10
    assert Topic.objects.count() == 3


def test_a_change_leaves_an_audit_row_and_a_repetition_none(api: Api):
    key = make_key("owner")
    for config in ({"ttl_ms": 1}, {"ttl_ms": 1}, {"ttl_ms": 2}):
        api.put("/v0/topics/t", config, key=key)
    trail = AuditEntry.objects.filter(target="topic:t").order_by("id")
    assert [(row.action, row.actor_name) for row in trail] == [
        ("topic.create", "owner"),
        ("topic.configure", "owner"),
    ]
    assert trail[1].detail == {"ttl_ms": 2}


# --- §11.2 GET -----------------------------------------------------------------------------------


def test_a_fresh_topic(api: Api):
    api.put("/v0/topics/t", {})
    found = state(api, "t")
    assert set(found.pop("performance")) == {"server_total_ms"}
    assert found.pop("last_read_ts") is not None
    assert found == {
        "topic": "t",
        "type": "log",
        "head_seq": 0,
        "earliest_seq": 1,
        "next_seq": 1,
        "count": 0,
        "bytes": 0,
        "config": DEFAULTS,
        "effective_priority": 500,
        "last_write_ts": None,
    }


def test_the_state_of_a_queue_counts_its_jobs(api: Api):
    api.put("/v0/topics/label-printing", {"type": "queue"})
    api.write("label-printing", 1, 2, 3)
    found = state(api, "label-printing")
    assert (found["type"], found["head_seq"], found["next_seq"], found["count"]) == (
        "queue", 3, 4, 3,
    )  # fmt: skip
    assert found["queue"] == {"ready": 3, "in_flight": 0, "dead_lettered": 0}


@pytest.mark.parametrize("name", ["absent", "a b", "%00", "-", "a%00"])
def test_a_missing_topic_is_not_found_and_not_made(api: Api, name: str):
    detail = refused(api.get(f"/v0/topics/{name}"), 404, "topic_not_found")
    assert set(detail) == {"topic"}
    assert not Topic.objects.exists()


def test_a_look_counts_as_a_read_unless_told_otherwise(api: Api):
    """§10, §11.2."""
    with time_machine.travel(datetime(2030, 1, 1, tzinfo=UTC), tick=False) as clock:
        api.write("t", 1)
        found = state(api, "t", "?touch=false")
        assert (found["last_read_ts"], found["effective_priority"]) == (None, 0)
        assert state(api, "t")["effective_priority"] == 500
        read = state(api, "t", "?touch=0")["last_read_ts"]
        clock.shift(30)
        found = state(api, "t", "?touch=false")
        assert (found["last_read_ts"], found["effective_priority"]) == (read, 250)
        api.diff("t")
        assert state(api, "t", "?touch=false")["effective_priority"] == 500
        assert state(api, "t", "?touch=nonsense")["last_read_ts"] == read + 30_000


def test_a_state_shows_what_retention_has_left(api: Api):
    """§8.2."""
    with time_machine.travel(datetime(2030, 1, 1, tzinfo=UTC), tick=False) as clock:
        api.write("t", 1, 22, config={"ttl_ms": 1_000})
        clock.shift(1)
        assert state(api, "t")["count"] == 2
        clock.shift(1)
        found = state(api, "t")
        assert (found["count"], found["bytes"], found["earliest_seq"]) == (0, 0, 3)
        assert Topic.objects.get().ttl_floor == 2  # B.4: written down before it is shown


def test_the_last_write_is_told(api: Api):
    with time_machine.travel(datetime(2030, 1, 1, tzinfo=UTC), tick=False):
        api.write("t", 1)
        assert state(api, "t")["last_write_ts"] == 1_893_456_000_000


# --- §11.3 list ----------------------------------------------------------------------------------


def listed(api: Api, query: str = "", **options: Any) -> Any:
    answer = api.get(f"/v0/topics{query}", **options)
    assert answer.status_code == 200, answer.text
    return answer.json()


def names(page: Any) -> list[str]:
    return [row["topic"] for row in page["topics"]]


def test_a_list_answers_as_the_example(api: Api):
    api.write("greenhouse.humidity", 1)
    api.put("/v0/topics/greenhouse.temps", {"durability": "fsync"})
    api.diff("greenhouse.temps")
    page = listed(api, "?prefix=greenhouse.&page_size=1")
    assert page["topics"] == [
        {
            "topic": "greenhouse.humidity",
            "head_seq": 1,
            "earliest_seq": 1,
            "count": 1,
            "bytes": 1,
            "durable": False,
            "effective_priority": 0,
        }
    ]
    assert set(page) == {"topics", "next_cursor", "performance"}
    page = listed(api, f"?prefix=greenhouse.&page_size=1&cursor={page['next_cursor']}")
    assert (names(page), set(page)) == (["greenhouse.temps"], {"topics", "performance"})
    assert (page["topics"][0]["durable"], page["topics"][0]["effective_priority"]) == (True, 500)


def test_a_list_is_in_byte_order_and_complete(api: Api):
    """§2.9."""
    expected = sorted(["a", "B", "a.b", "a:b", "a-b", "aB", "a_", "ab", "Z9", "9"])
    for name in expected:
        api.put(f"/v0/topics/{name}", {})
    assert names(listed(api)) == expected
    seen, cursor = [], ""
    while cursor is not None:
        page = listed(api, f"?page_size=3&cursor={cursor}")
        seen += names(page)
        cursor = page.get("next_cursor")
    assert seen == expected
    assert names(listed(api, "?prefix=a")) == [name for name in expected if name.startswith("a")]


@pytest.mark.parametrize(
    ("query", "size"),
    [
        ("", 100),
        ("?page_size=0", 1),
        ("?page_size=1", 1),
        ("?page_size=1000", 120),
        ("?page_size=18446744073709551615", 120),
        ("?page_size=-5", 100),
        ("?page_size=1.5", 100),
        ("?page_size=x", 100),
        ("?page_size=5&page_size=7", 7),
    ],
)
def test_a_page_has_a_size(api: Api, query: str, size: int):
    """§2.3, §2.9."""
    Topic.objects.bulk_create(Topic(name=f"t{n:03}") for n in range(120))
    page = listed(api, query)
    assert len(page["topics"]) == size
    assert ("next_cursor" in page) == (size < 120)


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "%00",
        "e30",  # {}
        "bnVsbA",  # null
        "eyJhZnRlciI6NX0",  # {"after":5}
        "eyJhZnRlciI6Ilx1MDAwMCJ9",  # {"after":" "}
        "eyJhZnRlciI6ImEifQ%3D%3D%3D%3D",
        "%F0%9F%98%80",
    ],
)
def test_a_malformed_cursor_is_refused(api: Api, cursor: str):
    refused(api.get(f"/v0/topics?cursor={cursor}"), 400, "invalid_request")


@pytest.mark.parametrize("prefix", ["%00", "a%00", "%C3%BC", "%FF", "b", "a%7F", "a" * 5000])
def test_a_prefix_that_no_name_has_finds_nothing(api: Api, prefix: str):
    api.put("/v0/topics/a", {})
    assert names(listed(api, f"?prefix={prefix}")) == []


def test_a_key_sees_the_names_under_its_prefixes(api: Api):
    """§3.4: and pages count only those."""
    for name in ("a.1", "a.2", "ab", "b.1", "b.1.x", "c"):
        api.put(f"/v0/topics/{name}", {})
    key = make_key("someone", "read", "b.", "a.", "b.1", "nothing", "ü")
    assert names(listed(api, key=key)) == ["a.1", "a.2", "b.1", "b.1.x"]
    assert names(listed(api, "?prefix=b", key=key)) == ["b.1", "b.1.x"]
    assert names(listed(api, "?prefix=b.1.", key=key)) == ["b.1.x"]
    assert names(listed(api, "?prefix=c", key=key)) == []
    page = listed(api, "?page_size=2", key=key)
    assert names(page) == ["a.1", "a.2"]
    page = listed(api, f"?page_size=2&cursor={page['next_cursor']}", key=key)
    assert (names(page), "next_cursor" in page) == (["b.1", "b.1.x"], False)


def test_a_list_touches_only_when_asked_to(api: Api):
    api.put("/v0/topics/t", {})
    assert listed(api)["topics"][0]["effective_priority"] == 0
    assert listed(api, "?touch=true")["topics"][0]["effective_priority"] == 500
    assert state(api, "t", "?touch=false")["last_read_ts"] is None


def test_a_list_shows_what_retention_has_left(api: Api):
    with time_machine.travel(datetime(2030, 1, 1, tzinfo=UTC), tick=False) as clock:
        for name in ("a", "b", "c"):
            api.write(name, 1, config={"ttl_ms": 1_000 if name != "b" else 0})
        clock.shift(2)
        assert [row["count"] for row in listed(api)["topics"]] == [0, 1, 0]


# --- §11.4 DELETE --------------------------------------------------------------------------------


def test_delete_answers_and_starts_anew(api: Api):
    """§11.4, §8.6."""
    api.write("t", 1, 2, idempotency_key="k")
    old = Topic.objects.get()
    answer = api.delete("/v0/topics/t")
    assert answer.status_code == 200
    found = answer.json()
    assert set(found.pop("performance")) == {"server_total_ms"}
    assert found == {"topic": "t", "deleted": True, "routers_removed": []}
    refused(api.get("/v0/topics/t"), 404, "topic_not_found")
    refused(api.post("/v0/topics/t/diff", {}), 404, "topic_not_found")
    # The records are left to the sweep, and nobody sees them.
    assert DeletedTopic.objects.get().pk == old.pk
    answer = api.write("t", 9, idempotency_key="k")
    assert (answer.status_code, answer.json()["seqs"]) == (201, [1])
    assert [record["data"] for record in api.diff("t")["records"]] == [9]
    assert api.diff("t", from_seq=2)["tombstone"]["reason"] == "recreated"


@pytest.mark.parametrize("name", ["absent", "a b", "%00", "%F0%9F%98%80"])
def test_deleting_what_is_absent_is_no_error(api: Api, name: str):
    """§2.10, §5."""
    answer = api.delete(f"/v0/topics/{name}")
    assert (answer.status_code, answer.json()["deleted"]) == (200, False)
    assert not AuditEntry.objects.exists()


def test_delete_may_be_for_empty_topics_only(api: Api):
    with time_machine.travel(datetime(2030, 1, 1, tzinfo=UTC), tick=False) as clock:
        api.write("t", 1, 2, config={"ttl_ms": 1_000})
        detail = refused(api.delete("/v0/topics/t?if_empty=true"), 409, "topic_not_empty")
        assert detail == {"topic": "t", "count": 2}
        assert Topic.objects.exists()
        clock.shift(2)  # §8.2: retention is judged first
        assert api.delete("/v0/topics/t?if_empty=1").json()["deleted"] is True
    api.write("u", 1)
    assert api.delete("/v0/topics/u?if_empty=nonsense").json()["deleted"] is True


def test_a_deletion_leaves_an_audit_row(api: Api):
    api.write("t", 1)
    key = make_key("owner")
    api.delete("/v0/topics/t", key=key)
    [row] = AuditEntry.objects.filter(target="topic:t")
    assert (row.action, row.actor_name, row.detail["head_seq"]) == ("topic.delete", "owner", 1)


def test_of_many_deletions_one_deletes(api: Api):
    api.write("t", 1)
    calls = [api.begin("DELETE", "/v0/topics/t") for _ in range(6)]
    assert sorted(call.result(60).json()["deleted"] for call in calls) == [False] * 5 + [True]


def test_writers_and_a_deletion_never_meet_halfway(api: Api):
    """What was written after the deletion is in the new topic, whole."""
    api.write("t", 0)
    calls = []
    for n in range(60):
        calls.append(api.begin("POST", "/v0/topics/t", {"records": [{"data": n}] * 3}))
        if n % 10 == 5:
            calls.append(api.begin("DELETE", "/v0/topics/t"))
    answers = [call.result(60) for call in calls]
    assert {answer.status_code for answer in answers} <= {200, 201}
    topic = Topic.objects.filter(name="t").first()
    if topic is not None:
        assert topic.count == Event.objects.filter(topic=topic).count() == topic.head


def test_a_long_poll_hears_of_a_deletion_at_once(api: Api, redis: object):
    """17.6: ours should notify at once."""
    from tests.contract.topics.test_13_diff import waits_on

    api.write("t", 1)
    waiting = api.begin("POST", "/v0/topics/t/diff", {"from_seq": 1, "wait_ms": 30_000})
    waits_on(api, "t")
    api.delete("/v0/topics/t")
    refused(waiting.result(60), 404, "topic_not_found")
