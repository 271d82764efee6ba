"""topics v0 §14: deleting records."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import time_machine

from apps.access.models import AuditEntry
from apps.topics.keeping import removal
from apps.topics.models import Event, Topic
from tests.cast import make_key
from tests.contract.topics.conftest import refused

if TYPE_CHECKING:
    from tests.contract.topics.conftest import Api

U64 = 2**64 - 1


def fill(api: Api, *tags: str | None, topic: str = "t") -> None:
    records = [{"data": "x" * (n % 7), "tag": tag} for n, tag in enumerate(tags)]
    assert api.post(f"/v0/topics/{topic}", {"records": records}).status_code < 300


def remove(api: Api, topic: str = "t", **body: Any) -> Any:
    answer = api.post(f"/v0/topics/{topic}/delete", body)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert set(found.pop("performance")) == {"server_total_ms"}
    assert found.pop("topic") == topic
    check_counters()
    return found


def check_counters() -> None:
    """Compare what a topic's row says with its records."""
    for topic in Topic.objects.all():
        live = list(Event.objects.filter(topic=topic, seq__gte=topic.earliest).order_by("seq"))
        assert topic.count == len(live)
        assert topic.bytes == sum(event.size for event in live)
        assert topic.earliest == (live[0].seq if live else topic.head + 1)
        if live:
            assert topic.earliest_ts == live[0].ts


def seqs(api: Api, topic: str = "t") -> list[int]:
    page = api.diff(topic)
    assert page["tombstone"] is None  # §8.5: silent
    return [record["$seq"] for record in page["records"]]


def test_it_answers_as_the_example(api: Api):
    fill(api, "parcel/PX-30", "parcel/PX-41", "parcel/PX-32", None, "parcel/PX-31")
    found = remove(api, match=["tag", "Glob", "parcel/PX-3*"], before_seq=4)
    bytes_left = Topic.objects.get().bytes
    assert found == {
        "deleted": 2, "earliest_seq": 2, "head_seq": 5, "count": 3, "bytes": bytes_left,
    }  # fmt: skip
    assert seqs(api) == [2, 4, 5]


@pytest.mark.parametrize(
    ("before", "left"),
    [
        (0, [1, 2, 3, 4, 5]),
        (1, [1, 2, 3, 4, 5]),
        (2, [2, 3, 4, 5]),
        (3, [3, 4, 5]),
        (5, [5]),
        (6, []),
        (7, []),
        (2**63 - 1, []),
        (2**63, []),
        (U64, []),
    ],
)
def test_a_range_ends_before_a_seq(api: Api, before: int, left: list[int]):
    fill(api, *"abcde")
    found = remove(api, before_seq=before)
    assert (found["deleted"], found["earliest_seq"]) == (5 - len(left), left[0] if left else 6)
    assert (found["head_seq"], seqs(api)) == (5, left)
    assert remove(api, before_seq=before)["deleted"] == 0
    assert api.write("t", 1).json()["seqs"] == [6]
    check_counters()


@pytest.mark.parametrize(
    ("match", "left"),
    [
        ("a", [2, 3, 4, 5, 6, 7]),
        ("a*", [3, 4, 5, 6, 7]),
        ("*", [3]),
        ("", [1, 2, 3, 5, 6, 7]),
        (["tag", "Eq", "a*"], [1, 2, 3, 4, 5, 6, 7]),
        (["tag", "Eq", "b*"], [1, 2, 3, 4, 6, 7]),
        ("b**", [1, 2, 3, 4, 6, 7]),
        ("\0\n*", [1, 2, 3, 4, 5, 7]),
        ("ü", [1, 2, 3, 4, 5, 6]),
        ("nothing", [1, 2, 3, 4, 5, 6, 7]),
        ("_", [1, 2, 3, 4, 5, 6, 7]),
        ("%*", [1, 2, 3, 4, 5, 6, 7]),
        ("x" * 300, [1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_a_tag_says_which(api: Api, match: Any, left: list[int]):
    fill(api, "a", "ab", None, "", "b*", '\0\n"', "ü")
    found = remove(api, match=match)
    assert (found["deleted"], seqs(api)) == (7 - len(left), left)
    assert remove(api, match=match)["deleted"] == 0


def test_only_what_is_there_goes(api: Api):
    """§14: point in time; the next record of that tag stays."""
    fill(api, "a", "b")
    remove(api, match="a")
    fill(api, "a")
    assert seqs(api) == [2, 3]
    remove(api, before_seq=U64)
    fill(api, "a")
    assert seqs(api) == [4]


def test_what_is_lost_already_does_not_count(api: Api):
    """§8.2: retention is judged first."""
    with time_machine.travel(datetime(2030, 1, 1, tzinfo=UTC), tick=False) as clock:
        api.put("/v0/topics/t", {"ttl_ms": 1_000})
        fill(api, "a", "a")
        clock.shift(1)
        fill(api, "a", "b")
        clock.shift(1)
        assert remove(api, match="a")["deleted"] == 1
        page = api.diff("t")
        assert [record["$seq"] for record in page["records"]] == [4]
        assert page["tombstone"]["gap_to"] == 2
        clock.shift(1)
        assert remove(api, before_seq=U64)["deleted"] == 0


@pytest.mark.parametrize("window", [1, 2, 3, 7, 100])
def test_windows_add_up(api: Api, monkeypatch: pytest.MonkeyPatch, window: int):
    monkeypatch.setattr(removal, "_WINDOW", window)
    fill(api, *["ab"[n % 5 == 0] for n in range(60)])
    assert remove(api, match="b", before_seq=31)["deleted"] == 6
    assert remove(api, before_seq=12)["deleted"] == 8
    assert remove(api, match="a")["deleted"] == 40
    assert remove(api, before_seq=56)["deleted"] == 5
    assert remove(api, match="*")["deleted"] == 1
    assert Topic.objects.get().count == 0


def test_a_plan_that_was_overtaken_is_made_again(api: Api, monkeypatch: pytest.MonkeyPatch):
    fill(api, *"abcdef")
    original = removal.plan
    plans = []

    def overtaken(name: str, **options: Any) -> Any:
        made = original(name, **options)
        plans.append(made)
        if len(plans) == 1:
            event = Event.objects.filter(seq=2)
            size = event.get().size
            event.delete()
            topic = Topic.objects.get()
            Topic.objects.update(count=topic.count - 1, bytes=topic.bytes - size)
        return made

    monkeypatch.setattr(removal, "plan", overtaken)
    assert remove(api, before_seq=4)["deleted"] == 2
    assert len(plans) == 2


def test_a_plan_that_is_always_overtaken_is_made_under_the_lock(
    api: Api, monkeypatch: pytest.MonkeyPatch
):
    fill(api, *"abcdef")
    original = removal.Marks.only_grew_into
    judged = []

    def never_at_first(self: Any, later: Any) -> bool:
        judged.append(later)
        return len(judged) > 2 and original(self, later)

    monkeypatch.setattr(removal.Marks, "only_grew_into", never_at_first)
    assert remove(api, before_seq=4)["deleted"] == 3


def test_writers_go_on_meanwhile(api: Api):
    fill(api, *["a"] * 50)
    calls = []
    for n in range(30):
        record = {"data": n, "tag": "ab"[n % 2]}
        calls.append(api.begin("POST", "/v0/topics/t", {"records": [record] * 3}))
        body = {"match": "a"} if n % 3 else {"before_seq": n}
        calls.append(api.begin("POST", "/v0/topics/t/delete", body))
    assert {call.result(60).status_code for call in calls} == {200}
    check_counters()


BAD = [
    b"",
    b"{",
    b"[]",
    b'{"before_seq":-1}',
    b'{"before_seq":1.0}',
    b'{"before_seq":"1"}',
    b'{"before_seq":18446744073709551616}',
    b'{"match":5}',
    b'{"match":{}}',
    b'{"match":[]}',
    b'{"match":["tag","Eq"]}',
    b'{"match":["tag","Eq",5]}',
    b'{"match":["tag","eq","v"]}',
    b'{"match":["tag","Glob","v"]}',
    b'{"match":["node","Eq","v"]}',
    b'{"match":["tag","Eq","v","w"]}',
    b'{"match":"\xff"}',
    b'{"match":"\\ud800"}',
    b"{}",
    b'{"before_seq":null,"match":null}',
]


@pytest.mark.parametrize("body", BAD, ids=lambda body: repr(body[:40]))
@pytest.mark.parametrize("topic", ["t", "absent"])
def test_a_malformed_body_is_refused(api: Api, body: bytes, topic: str):
    fill(api, "a")
    answer = api.post(f"/v0/topics/{topic}/delete", body, content_type="application/json")
    refused(answer, 400, "invalid_request")
    assert seqs(api) == [1]


def test_it_judges_in_the_order_of_the_spec(api: Api):
    """415, then JSON, then whether there is a selector, then the topic."""
    refused(api.post("/v0/topics/no/delete", b"{", content_type=""), 415, "unsupported_media_type")
    refused(api.post("/v0/topics/no/delete", {}), 400, "invalid_request")
    refused(api.post("/v0/topics/no/delete", {"match": "a"}), 404, "topic_not_found")


@pytest.mark.parametrize("name", ["absent", "a b", "%00", "-"])
@pytest.mark.parametrize("body", [{"before_seq": 5}, {"match": "a"}])
def test_it_never_creates_a_topic(api: Api, name: str, body: Any):
    refused(api.post(f"/v0/topics/{name}/delete", body), 404, "topic_not_found")
    assert not Topic.objects.exists()


def test_null_means_not_given(api: Api):
    fill(api, "a", "b")
    assert remove(api, before_seq=2, match=None)["deleted"] == 1
    assert remove(api, before_seq=None, match="b")["deleted"] == 1


def test_a_deletion_leaves_an_audit_row(api: Api):
    fill(api, "a\0")
    key = make_key("cleaner")
    api.post("/v0/topics/t/delete", {"match": "a\0"}, key=key)
    api.post("/v0/topics/t/delete", {"match": "a\0"}, key=key)
    [row] = AuditEntry.objects.filter(target="topic:t")
    assert (row.action, row.actor_name) == ("topic.delete_records", "cleaner")
    assert row.detail["match"] == '["tag","Eq","a\\u0000"]'
