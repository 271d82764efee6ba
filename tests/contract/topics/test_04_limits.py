"""topics v0 §4: limits and caps."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import time_machine
from django.db import transaction

from apps.topics import services
from apps.topics.config import TopicConfig
from apps.topics.models import Event, Topic
from tests.cast import make_key
from tests.contract.topics.conftest import RECORDS, refused, waits_on
from tests.sessions import wait_for_a_blocked_session

if TYPE_CHECKING:
    from tests.contract.topics.conftest import Api


@pytest.mark.parametrize(
    ("records", "code"),
    [
        ([{"data": 1, "tag": "ü" * 128}], None),
        ([{"data": 1, "tag": "ü" * 128 + "x"}], "invalid_request"),
        ([{"data": 1, "node": "x" * 128}], None),
        ([{"data": 1, "node": "x" * 129}], "invalid_request"),
        ([{"data": 1, "meta": "x" * 16_382}], None),
        ([{"data": 1, "meta": "x" * 16_383}], "invalid_request"),
        ([{"data": 1, "meta": {str(n): n for n in range(64)}}], None),
        ([{"data": 1, "meta": {str(n): n for n in range(65)}}], "invalid_request"),
        ([{"data": "x" * 1_048_574}], None),
        ([{"data": "x" * 1_048_575}], "record_too_large"),
        ([{"data": "x" * 1_048_572, "meta": 10}], None),
        ([{"data": "x" * 1_048_573, "meta": 10}], "record_too_large"),
        ([{"data": 1}] * 10_000, None),
        ([{"data": 1}] * 10_001, "batch_too_large"),
    ],
    ids=str,
)
def test_limits_admit_exactly_what_they_say(api: Api, records: Any, code: str | None):
    """§4.1."""
    answer = api.post("/v0/topics/t", {"records": records})
    if code is None:
        assert answer.status_code == 201, answer.text
    else:
        refused(answer, 400, code)
        assert not Event.objects.exists()


def test_the_number_of_topics_is_capped_exactly(api: Api, settings):
    settings.GYOZA_MAX_TOPICS = 3
    answers = [api.begin("POST", f"/v0/topics/t{n}", {"records": [{"data": n}]}) for n in range(10)]
    results = [answer.result(60) for answer in answers]
    assert [answer.status_code for answer in results].count(201) == 3
    [other, *_] = [answer for answer in results if answer.status_code != 201]
    assert refused(other, 429, "throttled") == {"limit": "max_topics", "max": 3}
    assert other.headers["retry-after"] == "1"
    assert Topic.objects.count() == 3
    name = Topic.objects.order_by("name")[0].name
    assert api.write(name, 1).status_code == 200
    # What the service itself has to say is never refused.
    services.append_events([services.NewEvent("system", "1")])
    assert Topic.objects.count() == 4


def test_the_bytes_of_all_topics_are_capped_exactly(api: Api, settings):
    settings.GYOZA_MAX_TOTAL_BYTES = 20
    assert api.write("a", "12345678").status_code == 201
    assert api.write("b", "12345678").status_code == 201  # exactly reaching it is allowed
    detail = refused(api.write("c", 1), 429, "throttled")
    assert detail == {"limit": "max_total_bytes", "max": 20}
    assert not Topic.objects.filter(name="c").exists()


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


def test_a_write_to_a_topic_that_took_the_last_place_meanwhile_is_none_that_creates(
    api: Api, settings: Any
):
    """§4.2: what another process creates at the same moment is there, and writing to it is never refused."""
    settings.GYOZA_MAX_TOPICS = 1
    with transaction.atomic():
        assert services.create_topic("t", TopicConfig().columns())
        writing = api.begin("POST", "/v0/topics/t", RECORDS)
        wait_for_a_blocked_session()
    answer = writing.result(60)
    assert (answer.status_code, answer.json().get("created")) == (200, False), answer.text


def test_a_key_may_have_so_many_requests_at_once(api: Api, settings, redis: object):
    """§4.2, ⚑3."""
    settings.GYOZA_MAX_INFLIGHT_PER_KEY = 1
    api.write("t", 1)
    key, other = make_key("one", "read+write"), make_key("two", "read")
    waiting = api.begin("POST", "/v0/topics/t/diff", {"from_seq": 1, "wait_ms": 30_000}, key=key)
    waits_on(api, "t")
    answer = api.post("/v0/topics/t/diff", {}, key=key)
    assert refused(answer, 429, "throttled") == {"limit": "max_inflight_per_key", "max": 1}
    assert answer.headers["retry-after"] == "1"
    assert api.post("/v0/topics/t/diff", {}, key=other).status_code == 200
    settings.GYOZA_MAX_INFLIGHT_PER_KEY = 2
    api.post("/v0/topics/t", RECORDS, key=key)
    assert waiting.result(60).status_code == 200
    settings.GYOZA_MAX_INFLIGHT_PER_KEY = 1
    assert api.post("/v0/topics/t/diff", {}, key=key).status_code == 200


def test_bytes_come_back_however_they_went(api: Api, settings: Any):
    """§4.2: by deletion, eviction, deletion of the topic, age."""
    settings.GYOZA_MAX_TOTAL_BYTES = 20
    full = {"limit": "max_total_bytes", "max": 20}
    with time_machine.travel(datetime(2030, 1, 1, tzinfo=UTC), tick=False) as clock:
        api.write("old", "12345678", config={"ttl_ms": 1_000})
        api.write("a", "12345678")
        assert refused(api.write("a", 1), 429, "throttled") == full
        api.post("/v0/topics/a/delete", {"before_seq": 2})
        assert api.write("a", "12345678").status_code == 200
        refused(api.write("b", 1), 429, "throttled")
        api.delete("/v0/topics/a")
        assert api.write("b", "12345678").status_code == 201
        refused(api.write("c", 1), 429, "throttled")
        clock.shift(2)  # nobody looks at `old`
        assert api.write("c", 1).status_code == 201
        assert api.write("c", "1234567").status_code == 200
        refused(api.write("c", 1), 429, "throttled")


def test_a_quota_of_bytes_holds_whoever_writes_at_once(api: Api, settings: Any):
    settings.GYOZA_MAX_TOTAL_BYTES = 10
    calls = [
        api.begin("POST", f"/v0/topics/t{n % 4}", {"records": [{"data": 1}]}) for n in range(30)
    ]
    codes = [call.result(60).status_code for call in calls]
    assert (codes.count(429), codes.count(200) + codes.count(201)) == (20, 10)


@pytest.mark.parametrize("limit", ["MAX_TOPICS", "MAX_TOTAL_BYTES", "MAX_INFLIGHT_PER_KEY"])
def test_nought_is_no_limit(api: Api, settings: Any, limit: str):
    setattr(settings, f"GYOZA_{limit}", 0)
    key = make_key()
    assert api.put("/v0/topics/a", {}, key=key).status_code == 201
    assert api.post("/v0/topics/b", RECORDS, key=key).status_code == 201
