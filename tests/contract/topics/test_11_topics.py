"""topics v0 §11 (topic endpoints), with §6 (config) as a client meets it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import time_machine

from apps.access.models import AuditEntry
from apps.topics.models import DeletedTopic, Event, Topic
from tests.cast import make_key
from tests.contract.topics.conftest import refused, waits_on
from tests.contract.topics.test_06_config import DEFAULTS

if TYPE_CHECKING:
    from tests.contract.topics.conftest import Api


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


@pytest.mark.usefixtures("still")
def test_a_fresh_topic(api: Api):
    api.put("/v0/topics/t", {})
    found = api.state("t")
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
    found = api.state("label-printing")
    assert (found["type"], found["head_seq"], found["next_seq"], found["count"]) == (
        "queue", 3, 4, 3,
    )  # fmt: skip
    assert found["queue"] == {"ready": 3, "in_flight": 0, "dead_lettered": 0}


@pytest.mark.parametrize("name", ["absent", "a b", "%00", "-", "a%00"])
def test_a_missing_topic_is_not_found_and_not_made(api: Api, name: str):
    detail = refused(api.get(f"/v0/topics/{name}"), 404, "topic_not_found")
    assert set(detail) == {"topic"}
    assert not Topic.objects.exists()


def test_a_state_shows_what_retention_has_left(api: Api):
    """§8.2."""
    with time_machine.travel(datetime(2030, 1, 1, tzinfo=UTC), tick=False) as clock:
        api.write("t", 1, 22, config={"ttl_ms": 1_000})
        clock.shift(1)
        assert api.state("t")["count"] == 2
        clock.shift(1)
        found = api.state("t")
        assert (found["count"], found["bytes"], found["earliest_seq"]) == (0, 0, 3)
        assert Topic.objects.get().ttl_floor == 2  # B.4: written down before it is shown


def test_the_last_write_is_told(api: Api):
    with time_machine.travel(datetime(2030, 1, 1, tzinfo=UTC), tick=False):
        api.write("t", 1)
        assert api.state("t")["last_write_ts"] == 1_893_456_000_000


# --- §11.3 list ----------------------------------------------------------------------------------


def names(page: Any) -> list[str]:
    return [row["topic"] for row in page["topics"]]


@pytest.mark.usefixtures("still")
def test_a_list_answers_as_the_example(api: Api):
    api.write("greenhouse.humidity", 1)
    api.put("/v0/topics/greenhouse.temps", {"durability": "fsync"})
    api.diff("greenhouse.temps")
    page = api.listing("?prefix=greenhouse.&page_size=1")
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
    page = api.listing(f"?prefix=greenhouse.&page_size=1&cursor={page['next_cursor']}")
    assert (names(page), set(page)) == (["greenhouse.temps"], {"topics", "performance"})
    assert (page["topics"][0]["durable"], page["topics"][0]["effective_priority"]) == (True, 500)


def test_a_list_is_in_byte_order_and_complete(api: Api):
    """§2.9."""
    expected = sorted(["a", "B", "a.b", "a:b", "a-b", "aB", "a_", "ab", "Z9", "9"])
    for name in expected:
        api.put(f"/v0/topics/{name}", {})
    assert names(api.listing()) == expected
    seen, cursor = [], ""
    while cursor is not None:
        page = api.listing(f"?page_size=3&cursor={cursor}")
        seen += names(page)
        cursor = page.get("next_cursor")
    assert seen == expected
    assert names(api.listing("?prefix=a")) == [name for name in expected if name.startswith("a")]


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
    page = api.listing(query)
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
    assert names(api.listing(f"?prefix={prefix}")) == []


def test_a_key_sees_the_names_under_its_prefixes(api: Api):
    """§3.4: and pages count only those."""
    for name in ("a.1", "a.2", "ab", "b.1", "b.1.x", "c"):
        api.put(f"/v0/topics/{name}", {})
    key = make_key("someone", "read", "b.", "a.", "b.1", "nothing", "ü")
    assert names(api.listing(key=key)) == ["a.1", "a.2", "b.1", "b.1.x"]
    assert names(api.listing("?prefix=b", key=key)) == ["b.1", "b.1.x"]
    assert names(api.listing("?prefix=b.1.", key=key)) == ["b.1.x"]
    assert names(api.listing("?prefix=c", key=key)) == []
    page = api.listing("?page_size=2", key=key)
    assert names(page) == ["a.1", "a.2"]
    page = api.listing(f"?page_size=2&cursor={page['next_cursor']}", key=key)
    assert (names(page), "next_cursor" in page) == (["b.1", "b.1.x"], False)


def test_a_list_shows_what_retention_has_left(api: Api):
    with time_machine.travel(datetime(2030, 1, 1, tzinfo=UTC), tick=False) as clock:
        for name in ("a", "b", "c"):
            api.write(name, 1, config={"ttl_ms": 1_000 if name != "b" else 0})
        clock.shift(2)
        assert [row["count"] for row in api.listing()["topics"]] == [0, 1, 0]


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
    api.write("t", 1)
    waiting = api.begin("POST", "/v0/topics/t/diff", {"from_seq": 1, "wait_ms": 30_000})
    waits_on(api, "t")
    api.delete("/v0/topics/t")
    refused(waiting.result(60), 404, "topic_not_found")
