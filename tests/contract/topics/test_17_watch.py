"""topics v0 §17 (watch): sessions, streams, resuming, frames."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection
from django.db.models import F

from apps.access import keyring
from apps.access.models import ApiKey
from apps.core import lifespan
from apps.core.sse import connections
from apps.topics.models import Event, Topic, WatchSession
from apps.topics.services import NewEvent, append_events
from apps.topics.watch import pages, streams
from tests.asgi_client import opened
from tests.cast import make_key
from tests.contract.topics.conftest import refused
from tests.contract.topics.sse import cursors, id_of

if TYPE_CHECKING:
    from tests.contract.topics.conftest import Api


# --- §17.1 POST /v0/watch ---------------------------------------------------------------------------


def test_it_answers_as_the_example(api: Api):
    api.write("greenhouse.temps", *range(93))
    api.write("parcels:all", *range(61))
    answer = api.post(
        "/v0/watch",
        {
            "node": "dashboard-2",
            "heartbeat_ms": 5000,
            "topics": {"greenhouse.temps": {"from_seq": 60}, "parcels:all": {"tail": True}},
        },
    )
    body = answer.json()
    assert answer.status_code == 200
    assert list(body) == ["wid", "stream_url", "session_ttl_ms", "topics", "performance"]
    assert body["wid"].startswith("wid_")
    assert len(body["wid"]) == 26
    assert body["stream_url"] == f"/v0/watch/{body['wid']}"
    assert body["session_ttl_ms"] == 300_000
    assert body["topics"] == {
        "greenhouse.temps": {"from_seq": 60, "head_seq": 93, "earliest_seq": 1},
        "parcels:all": {"from_seq": 61, "head_seq": 61, "earliest_seq": 1},
    }
    assert set(body["performance"]) == {"server_total_ms"}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"topics": {}},
        {"topics": []},
        {"topics": None},
        {"topics": {"t": None}},
        {"topics": {"t": 5}},
        {"topics": {"t": {"from_seq": -1}}},
        {"topics": {"t": {"from_seq": 2**64}}},
        {"topics": {"t": {"from_seq": "1"}}},
        {"topics": {"t": {"tail": 1}}},
        {"topics": {"t": {}}, "limit": -1},
        {"topics": {"t": {}}, "limit": 2**32},
        {"topics": {"t": {}}, "heartbeat_ms": 1.5},
        {"topics": {"t": {}}, "max_batch_bytes": "1"},
        {"topics": {"t": {}}, "node": 5},
        {"topics": {"t": {}}, "include_data": None},
        {"topics": {"t": {}}, "consistency": "weak"},
        {"topics": {f"t{number}": {} for number in range(257)}},
        b"",
        b"{",
    ],
    ids=lambda body: str(body)[:50],
)
def test_a_malformed_body_is_refused(api: Api, body: Any):
    api.write("t", 1)
    refused(api.post("/v0/watch", body), 400, "invalid_request")
    assert not WatchSession.objects.exists()


def test_the_content_type_comes_first(api: Api):
    answer = api.post("/v0/watch", b"{", content_type="text/plain")
    refused(answer, 415, "unsupported_media_type")


def test_unknown_topics_are_refused_by_name(api: Api):
    api.write("t", 1)
    answer = api.post("/v0/watch", {"topics": {"t": {}, "absent": {}}})
    assert refused(answer, 404, "topic_not_found") == {"topic": "absent"}
    answer = api.post("/v0/watch", {"topics": {"a\0b": {}}})
    refused(answer, 404, "topic_not_found")
    assert not Topic.objects.filter(name="absent").exists()


def test_lenient_leaves_unknown_topics_out(api: Api):
    api.write("t", 1)
    answer = api.post("/v0/watch?lenient=true", {"topics": {"t": {}, "absent": {}}})
    assert list(answer.json()["topics"]) == ["t"]


def test_lenient_with_unknown_topics_only_ends_after_retry(api: Api):
    """⚑52."""
    answer = api.post("/v0/watch?lenient=1", {"topics": {"absent": {}}})
    with api.follow(answer.json()["stream_url"]) as stream:
        assert stream.block() == b"retry: 2000\n\n"
        assert stream.is_over()


def test_one_name_outside_the_prefixes_refuses_all_before_existence_is_looked_at(api: Api):
    api.write("team.a", 1)
    key = make_key("reader", "read", "team.")
    answer = api.post("/v0/watch", {"topics": {"team.a": {}, "other.b": {}}}, key=key)
    assert refused(answer, 403, "forbidden") == {"topic": "other.b"}
    writer = make_key("writer", "write")
    refused(api.post("/v0/watch", {"topics": {"team.a": {}}}, key=writer), 403, "forbidden")


def test_there_are_so_many_sessions_and_no_more(api: Api, settings: Any):
    """§4.2: a cap of N admits exactly N, even under concurrent creation."""
    settings.GYOZA_MAX_WATCH_SESSIONS = 5
    api.write("t", 1)
    under_way = [api.begin("POST", "/v0/watch", {"topics": {"t": {}}}) for _ in range(12)]
    answers = [future.result(30) for future in under_way]
    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [429] * 7
    one = next(answer for answer in answers if answer.status_code == 429)
    assert refused(one, 429, "throttled") == {"limit": "max_watch_sessions", "max": 5}
    assert one.headers["retry-after"] == "1"
    WatchSession.objects.update(expires_ts=1)
    assert api.post("/v0/watch", {"topics": {"t": {}}}).status_code == 200
    assert WatchSession.objects.count() == 1


# --- §17.2, §17.3 GET /v0/watch/<wid> ---------------------------------------------------------------


def test_the_stream_has_the_headers_that_keep_it_flowing(api: Api):
    api.write("t", 1)
    with api.follow(api.watch({"t": {}})) as stream:
        assert stream.status == 200
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert stream.headers["cache-control"] == "no-store"
        assert stream.headers["x-accel-buffering"] == "no"
        assert stream.block() == b"retry: 2000\n\n"


@pytest.mark.parametrize("accept", ["application/json", "text/html, image/*"])
def test_who_accepts_no_stream_is_told_first_of_all(api: Api, accept: str):
    refused(api.get("/v0/watch/wid_unknown", accept=accept), 406, "not_acceptable")


@pytest.mark.parametrize(
    "accept", ["text/event-stream", "Text/Event-Stream", "*/*", "text/html, */*;q=0.1"]
)
def test_who_accepts_streams_or_anything_is_served(api: Api, accept: str):
    written = api.write("t", 1)
    assert written.status_code == 201, written.text
    with api.follow(api.watch({"t": {}}), accept=accept) as stream:
        assert stream.status == 200


@pytest.mark.parametrize(
    "wid", ["wid_unknown", "wid_AAAAAAAAAAAAAAAAAAAAAA", "%00", "x" * 5000, "é"]
)
def test_unknown_sessions_are_not_found(api: Api, wid: str):
    refused(api.get(f"/v0/watch/{wid}"), 404, "not_found")
    make_key()
    refused(api.get(f"/v0/watch/{wid}"), 404, "not_found")


def test_only_the_creating_key_opens_its_session(api: Api):
    key, other = make_key("mine"), make_key("other")
    api.post("/v0/topics/t", {"records": [{"data": 1}]}, key=key)
    url = api.post("/v0/watch", {"topics": {"t": {}}}, key=key).json()["stream_url"]
    for credentials in ({}, {"key": other}, {"key": "wrong"}):
        refused(api.get(url, **credentials), 401, "unauthorized")
    refused(api.get(f"{url}?token={other}"), 401, "unauthorized")
    with api.follow(url, authorization=f"Bearer {key}") as stream:
        stream.records(1)
    with api.follow(f"{url}?token={key}&token=wrong") as stream:
        assert stream.status == 200
    # The header wins.
    refused(api.get(f"{url}?token={key}", key=other), 401, "unauthorized")


def test_a_session_made_without_a_key_needs_none_later(api: Api):
    api.write("t", 1)
    url = api.watch({"t": {}})
    make_key()
    with api.follow(url) as stream:
        stream.records(1)


def test_a_session_is_kept_for_five_minutes_after_its_last_use(api: Api):
    api.write("t", 1)
    url = api.watch({"t": {}})
    WatchSession.objects.update(expires_ts=1)
    refused(api.get(url), 404, "not_found")
    url = api.watch({"t": {}})
    before = WatchSession.objects.get().expires_ts
    WatchSession.objects.update(expires_ts=before - 200_000)
    with api.follow(url) as stream:
        stream.records(1)
        assert WatchSession.objects.get().expires_ts >= before
    assert not WatchSession.objects.filter(expires_ts=1).exists()


def test_streams_are_capped(api: Api, settings: Any):
    """§4.2, ⚑3; a slot is free as soon as the stream has ended."""
    settings.GYOZA_MAX_STREAMS = 2
    api.write("t", 1)
    url = api.watch({"t": {}})
    with api.follow(url) as first:
        assert first.status == 200
        with api.follow(url) as second:
            assert second.status == 200
            answer = api.get(url)
            assert refused(answer, 429, "throttled") == {"limit": "max_sse_connections", "max": 2}
            assert answer.headers["retry-after"] == "1"
            # Caps are judged last.
            refused(api.get("/v0/watch/wid_unknown"), 404, "not_found")
        with api.follow(url) as third:
            assert third.status == 200


def test_a_key_has_a_cap_of_its_own(api: Api, settings: Any):
    settings.GYOZA_MAX_STREAMS_PER_KEY = 1
    key, other = make_key("mine"), make_key("other")
    api.post("/v0/topics/t", {"records": [{"data": 1}]}, key=key)
    urls = {
        name: api.post("/v0/watch", {"topics": {"t": {}}}, key=name).json()["stream_url"]
        for name in (key, other)
    }
    with api.follow(urls[key], key=key), api.follow(urls[other], key=other) as stream:
        assert stream.status == 200
        answer = api.get(urls[key], key=key)
        detail = {"limit": "max_sse_connections_per_key", "max": 1}
        assert refused(answer, 429, "throttled") == detail


def test_head_ends_at_once(api: Api):
    api.write("t", 1)
    url = api.watch({"t": {}})
    assert api.call("HEAD", url).status_code == 200
    assert not WatchSession.objects.get().streams


# --- §17.5, §17.6 what is sent -----------------------------------------------------------------------


def test_frames_are_exact(api: Api):
    record = {"data": {"c": 21.4}, "tag": "x", "meta": [1]}
    api.post("/v0/topics/greenhouse.temps", {"node": "probe-3", "records": [record]})
    ts = Event.objects.get().ts
    with api.follow(api.watch({"greenhouse.temps": {}})) as stream:
        # The base64 of {"greenhouse.temps":1}.
        where = b"id: eyJncmVlbmhvdXNlLnRlbXBzIjoxfQ\n"
        assert stream.block() == b"retry: 2000\n\n"
        assert stream.block() == where + b"event: record\ndata: " + (
            b'{"topic":"greenhouse.temps","records":[{"$seq":1,"$ts":%d,"$node":"probe-3","data":{"c":21.4},"meta":[1]}],'
            b'"from_seq":0,"to_seq":1,"head_seq":1}\n\n' % ts
        )
        assert stream.block() == where + (
            b'event: caught-up\ndata: {"topic":"greenhouse.temps","head_seq":1}\n\n'
        )


def test_ids_carry_every_topic_of_the_session(api: Api):
    api.write("greenhouse.temps", *range(93))
    api.write("parcels:all", *range(61))
    url = api.watch({"parcels:all": {"from_seq": 60}, "greenhouse.temps": {"from_seq": 92}})
    with api.follow(url) as stream:
        first = stream.records(92, topic="greenhouse.temps")
        assert cursors(first.id) == {"greenhouse.temps": 93, "parcels:all": 60}
        # §17.4's example, to the byte.
        assert first.id.startswith("eyJncmVlbmhvdXNlLnRlbXBzIjo5MywicGFyY2VsczphbGwiOjYw")
        stream.expect("caught-up", topic="greenhouse.temps", head_seq=93)
        last = stream.records(60, topic="parcels:all")
        assert cursors(last.id) == {"greenhouse.temps": 93, "parcels:all": 61}
        assert stream.expect("caught-up", topic="parcels:all", head_seq=61).id == last.id


def test_what_is_appended_follows_at_once(api: Api):
    api.write("t", 1)
    with api.follow(api.watch({"t": {"tail": True}})) as stream:
        stream.expect("caught-up", topic="t", head_seq=1)
        api.write("t", 2, 3)
        event = stream.records(2, 3)
        assert (event.data["from_seq"], event.data["to_seq"], event.data["head_seq"]) == (1, 3, 3)
        stream.expect("caught-up", topic="t", head_seq=3)


def test_an_empty_topic_is_caught_up(api: Api):
    api.put("/v0/topics/t", {})
    with api.follow(api.watch({"t": {}})) as stream:
        stream.expect("caught-up", topic="t", head_seq=0)


def test_frames_hold_no_more_than_was_asked_for(api: Api):
    api.write("t", 1, 2, 3, 4, 5)
    with api.follow(api.watch({"t": {}}, limit=2)) as stream:
        assert stream.records(1, 2).data["to_seq"] == 2
        assert stream.records(3, 4).data["from_seq"] == 2
        stream.records(5)
        stream.expect("caught-up")
    api.write("big", "x" * 100, "y" * 100, "z" * 100)
    with api.follow(api.watch({"big": {}}, max_batch_bytes=250)) as stream:
        stream.records("x" * 100, "y" * 100)
        stream.records("z" * 100)
    with api.follow(api.watch({"big": {}}, max_batch_bytes=1)) as stream:
        stream.records("x" * 100)


def test_a_frame_that_is_larger_than_a_piece_arrives_whole(api: Api):
    big = "é" * 300_000
    api.write("t", big)
    with api.follow(api.watch({"t": {}})) as stream:
        stream.records(big)
        stream.expect("caught-up")


def test_data_is_one_line_whatever_the_client_wrote(api: Api):
    api.post("/v0/topics/t", b'{"records":[{"data":{"a":\r\n [1,\n2]}}]}')
    with api.follow(api.watch({"t": {}})) as stream:
        stream.records({"a": [1, 2]})


def test_members_are_given_as_asked(api: Api):
    api.post("/v0/topics/t", {"records": [{"data": 1, "tag": "x", "meta": 2}]})
    url = api.watch({"t": {}}, include_tags=True, include_meta=False, include_data=False)
    with api.follow(url) as stream:
        [record] = stream.expect("record").data["records"]
        assert set(record) == {"$seq", "$ts", "$tag"}


def test_records_of_the_named_nodes_are_passed_over(api: Api):
    """§15."""
    api.post("/v0/topics/t", {"node": "me", "records": [{"data": 1}]})
    with api.follow(api.watch({"t": {}}, node=["me", "also me"])) as stream:
        assert cursors(stream.expect("caught-up", head_seq=1).id) == {"t": 1}
        api.post("/v0/topics/t", {"node": "me", "records": [{"data": 2}]})
        api.post("/v0/topics/t", {"node": "you", "records": [{"data": 3}]})
        assert stream.records(3).data["to_seq"] == 3


def test_topics_follow_each_other_by_name(api: Api):
    for name in ("b", "a", "c"):
        api.write(name, name)
    with api.follow(api.watch({"b": {}, "c": {}, "a": {}})) as stream:
        for name in ("a", "b", "c"):
            stream.records(name, topic=name)
            stream.expect("caught-up", topic=name)


# --- tombstones, deletion ----------------------------------------------------------------------------


def test_the_first_loss_of_a_connection_is_told_as_too_old(api: Api):
    """§8.4 ⚑20; later ones by their reason."""
    api.put("/v0/topics/t", {"cap_records": 2})
    api.write("t", 1, 2, 3, 4)
    with api.follow(api.watch({"t": {}})) as stream:
        lost = stream.expect("tombstone")
        assert lost.data == {
            "topic": "t",
            "reason": "from_seq_too_old",
            "gap_from": 1,
            "gap_to": 2,
            "earliest_seq": 3,
            "head_seq": 4,
        }
        assert cursors(lost.id) == {"t": 2}
        stream.records(3, 4)
        stream.expect("caught-up", head_seq=4)
        api.write("t", 5, 6, 7, 8, 9)
        assert cursors(stream.expect("tombstone", reason="cap", gap_from=5, gap_to=7).id) == {
            "t": 7
        }
        stream.records(8, 9)
        stream.expect("caught-up", head_seq=9)


def test_a_cursor_beyond_the_head_begins_anew(api: Api):
    api.write("t", 1, 2)
    with api.follow(api.watch({"t": {"from_seq": 2**64 - 1}})) as stream:
        stream.expect("tombstone", reason="recreated", gap_from=1, gap_to=2, earliest_seq=1)
        stream.records(1, 2)
        stream.expect("caught-up")


def test_deletion_is_told_at_once_with_the_last_head(api: Api):
    """⚑34."""
    api.write("a", 1)
    api.write("b", 1, 2, 3)
    with api.follow(api.watch({"a": {}, "b": {}})) as stream:
        for name in ("a", "b"):
            stream.expect("record", topic=name)
            stream.expect("caught-up", topic=name)
        api.delete("/v0/topics/b")
        gone = stream.expect("topic-deleted")
        assert gone.data == {"topic": "b", "head_seq": 3, "reason": "deleted"}
        assert cursors(gone.id) == {"a": 1, "b": 3}
        api.write("a", 2)
        stream.records(2, topic="a")
        stream.expect("caught-up", topic="a")
        api.delete("/v0/topics/a")
        stream.expect("topic-deleted", topic="a", head_seq=2)
        assert stream.is_over()


def test_deletion_while_nobody_was_connected_is_told(api: Api):
    api.write("t", 1, 2)
    url = api.watch({"t": {"tail": True}})
    api.delete("/v0/topics/t")
    with api.follow(url) as stream:
        stream.expect("topic-deleted", topic="t", head_seq=2)
        assert stream.is_over()


@pytest.mark.parametrize("records", [1, 2, 5])
def test_recreation_is_told_however_far_the_new_topic_has_come(api: Api, records: int):
    """⚑21."""
    api.write("t", 1, 2)
    url = api.watch({"t": {}})
    with api.follow(url) as stream:
        stream.records(1, 2)
    api.delete("/v0/topics/t")
    api.write("t", *range(records))
    with api.follow(url) as stream:
        lost = stream.expect("tombstone", reason="recreated", gap_from=1, gap_to=records)
        assert lost.data["earliest_seq"] == 1
        told = stream.records(*range(records))
        assert cursors(told.id)["t"] == records
        stream.expect("caught-up", head_seq=records)
    # Who heard the tombstone and nothing behind it goes on where it was, in the new topic.
    with api.follow(url, last_event_id=lost.id) as stream:
        stream.records(*range(records))
    # Who heard nothing of the new topic is told again.
    with api.follow(url, last_event_id=id_of({"t": 2})) as stream:
        stream.expect("tombstone", reason="recreated")
        stream.records(*range(records))


def test_recreation_of_a_topic_while_connected(api: Api):
    api.write("t", 1, 2)
    with api.follow(api.watch({"t": {}})) as stream:
        stream.records(1, 2)
        stream.expect("caught-up")
        Topic.objects.filter(name="t").delete()  # without a word to anybody
        api.write("t", 3, 4, 5)
        stream.expect("tombstone", reason="recreated", gap_from=1, gap_to=3)
        stream.records(3, 4, 5)


def test_deleted_records_are_passed_over_in_silence(api: Api):
    """§8.5."""
    for number in range(5):
        api.post("/v0/topics/t", {"records": [{"data": number, "tag": str(number)}]})
    url = api.watch({"t": {}}, limit=2)
    with api.follow(url) as stream:
        stream.records(0, 1)
    api.post("/v0/topics/t/delete", {"match": "1"})
    api.post("/v0/topics/t/delete", {"match": "3"})
    with api.follow(api.watch({"t": {}})) as stream:
        stream.records(0, 2, 4)
        stream.expect("caught-up")


# --- §17.4 resume ------------------------------------------------------------------------------------


def test_without_an_id_the_stored_cursors_apply(api: Api):
    api.write("t", 1, 2, 3)
    url = api.watch({"t": {}})
    with api.follow(url) as stream:
        stream.records(1, 2, 3)
    api.write("t", 4)
    with api.follow(url) as stream:
        stream.records(4)
        stream.expect("caught-up", topic="t", head_seq=4)


def test_an_id_rewinds(api: Api):
    api.write("a", 1, 2, 3)
    api.write("b", 1)
    url = api.watch({"a": {}, "b": {}}, limit=1)
    with api.follow(url) as stream:
        first = stream.records(1, topic="a")
        stream.records(2)
        stream.records(3)
    with api.follow(url, last_event_id=first.id) as stream:
        stream.records(2, topic="a")


@pytest.mark.parametrize("seq", [3, 99, 2**63, 2**64 - 1])
def test_an_id_never_advances(api: Api, seq: int):
    api.write("t", 1)
    url = api.watch({"t": {}})
    with api.follow(url) as stream:
        stream.records(1)
    api.write("t", 2, 3)
    with api.follow(url, last_event_id=id_of({"t": seq})) as stream:
        assert stream.records(2, 3).data["from_seq"] == 1


@pytest.mark.parametrize(
    "given",
    [
        "",
        "%",
        "é",
        "eyJ0Ijox",  # truncated
        "bm90IGpzb24",
        "eyL_IjoxfQ",  # a name that is no UTF-8
        id_of([1]),
        id_of({"t": "1"}),
        id_of({"t": 1.5}),
        id_of({"t": -1}),
        id_of({"t": None}),
        id_of({"t": 0, "$": 5}),
        id_of({"t": 0, "$": {"t": [0, 0]}}),
        id_of({"other": 0}),
        "W" * 100_000,
        id_of({"t": 0})[:-3] + "x" * 200_000,
    ],
    ids=lambda given: given[:20],
)
def test_what_is_no_id_of_the_session_is_ignored(api: Api, given: str):
    api.write("t", 1, 2)
    url = api.watch({"t": {"tail": True}})
    with api.follow(url, last_event_id=given) as stream:
        assert stream.status == 200
        stream.expect("caught-up", topic="t", head_seq=2)


def test_streams_without_an_id_divide_the_records(api: Api):
    """§17.2."""
    api.write("t", 0)
    url = api.watch({"t": {"tail": True}})
    with api.follow(url) as first, api.follow(url) as second:
        first.expect("caught-up")
        second.expect("caught-up")
        api.write("t", 1)
        api.write("u", 1)
        seen = WatchSession.objects.get()
        assert seen.streams == 2


def test_a_stream_with_an_id_takes_the_session_over(api: Api):
    """A client comes back while its last connection still looks alive: nothing is told to the dead one any more."""
    api.write("t", 1)
    url = api.watch({"t": {}})
    with api.follow(url) as dead:
        last = dead.records(1)
        dead.expect("caught-up")
        with api.follow(url, last_event_id=last.id) as alive:
            alive.expect("caught-up")
            assert dead.is_over()
            api.write("t", 2)
            alive.records(2)


def test_after_a_crash_the_client_knows_better_than_the_row(api: Api):
    """Positions are written down lazily: what a killed process had sent since is known to the client alone."""
    api.write("t", 1, 2, 3, 4)
    url = api.watch({"t": {}})
    WatchSession.objects.update(streams=1)  # a stream that never said how it ended
    with api.follow(url, last_event_id=id_of({"t": 3})) as stream:
        assert stream.records(4).data["from_seq"] == 3
        stream.expect("caught-up")
    api.run(streams.write_down())
    assert WatchSession.objects.get().streams == 0
    WatchSession.objects.update(streams=1)
    # An invented seq loses nothing either.
    with api.follow(url, last_event_id=id_of({"t": 99})) as stream:
        stream.expect("tombstone", reason="recreated")
        stream.records(1, 2, 3, 4)


@pytest.mark.parametrize(
    "told", [{"t": 2**63}, {"t": 10**30}, {"$": {"t": [1, 10**30]}}, {"$": {"t": [10**30, 1]}}]
)
def test_after_a_crash_an_impossible_seq_is_ignored(api: Api, told: Any):
    api.write("t", 1)
    url = api.watch({"t": {}})
    WatchSession.objects.update(streams=1)
    with api.follow(url, last_event_id=id_of(told)) as stream:
        stream.records(1)
        stream.expect("caught-up")
    api.run(streams.write_down())


def test_a_stream_ends_when_another_process_has_taken_the_session_over(api: Api):
    api.write("t", 1)
    url = api.watch({"t": {}})
    with api.follow(url) as stream:
        stream.records(1)
        stream.expect("caught-up")
        WatchSession.objects.update(epoch=F("epoch") + 1, positions={"t": [1, 1, 77, 77]})
        api.run(streams.write_down())
        assert stream.is_over()
    api.run(streams.write_down())
    # What the other process wrote stays.
    assert WatchSession.objects.get().positions == {"t": [1, 1, 77, 77]}


def test_an_open_stream_keeps_its_session(api: Api, monkeypatch: pytest.MonkeyPatch):
    """§17.2."""
    monkeypatch.setattr(streams, "_IN_USE_SECONDS", -1.0)
    api.write("t", 1)
    with api.follow(api.watch({"t": {}})) as stream:
        stream.records(1)
        stream.expect("caught-up")
        api.run(streams.write_down())
        WatchSession.objects.update(expires_ts=1)
        api.run(streams.write_down())
        assert WatchSession.objects.get().expires_ts > 1


# --- §21, bad clients --------------------------------------------------------------------------------


def test_shutdown_is_told(api: Api):
    api.write("t", 1)
    url = api.watch({"t": {}})
    with api.follow(url) as stream:
        stream.records(1)
        last = stream.expect("caught-up")
        api.run(_drain())
        try:
            bye = stream.expect("error", code="server_shutting_down")
            assert bye.data["message"]
            assert bye.id == last.id
            assert stream.is_over()
        finally:
            api.run(_reopen())
    with api.follow(url, last_event_id=bye.id) as stream:
        stream.expect("caught-up")


async def _drain() -> None:
    lifespan.drain()


async def _reopen() -> None:
    lifespan.reopen()


def test_five_hundred_clients_that_vanish_leave_nothing(api: Api):
    api.write("t", 1)
    url = api.watch({"t": {"tail": True}})

    async def come_and_go() -> None:
        async with opened(url):
            pass

    async def scene() -> None:
        await asyncio.gather(*(come_and_go() for _ in range(500)))

    api.run(scene())
    assert connections.count() == 0
    while WatchSession.objects.get().streams:
        api.run(streams.write_down())
    with api.follow(url) as stream:
        stream.expect("caught-up")


def test_streams_wait_for_postgres(api: Api, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pages, "BLIND_SECONDS", 0.01)
    api.write("t", 1)
    with api.follow(api.watch({"t": {"tail": True}})) as stream:
        stream.expect("caught-up")
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                " AND datname = current_database()"
            )
        append_events([NewEvent("t", "2")])
        stream.records(2)


def test_metrics_count_streams_and_sessions(api: Api):
    """§20."""
    api.write("t", 1)
    url = api.watch({"t": {}})
    api.watch({"t": {}})
    with api.follow(url) as stream:
        stream.records(1)
        shown = api.get("/v0/metrics", accept="application/json").json()
        assert (shown["sse_connections"], shown["watch_sessions"]) == (1, 2)


def test_a_watch_ends_with_the_key_that_made_its_session(api: Api):
    api.write("t", 1)
    make_key("other")
    key = make_key("mine", "read")
    made = api.post("/v0/watch", {"topics": {"t": {}}}, key=key).json()
    with api.follow(made["stream_url"], key=key) as stream:
        stream.records(1)
        stream.expect("caught-up")
        ApiKey.objects.get(name="mine").delete()
        keyring.drop()
        refused(api.get("/v0/topics/t", key=key), 401, "unauthorized")
        assert stream.is_over()
