"""What is ours beside topics v0 §17: a filter by tag on diff and watch, and topics that join by their prefix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from apps.core import sql
from apps.topics.models import WatchSession
from apps.topics.watch import newcomers, streams
from tests.cast import make_key
from tests.contract.topics.conftest import refused
from tests.contract.topics.sse import cursors

if TYPE_CHECKING:
    from tests.contract.topics.conftest import Api


def tagged(api: Api, topic: str, *tags: str | None) -> None:
    records = [
        {"data": number, **({} if tag is None else {"tag": tag})}
        for number, tag in enumerate(tags, 1)
    ]
    api.post(f"/v0/topics/{topic}", {"records": records})


def seqs(page: Any) -> list[int]:
    return [record["$seq"] for record in page["records"]]


# --- tag -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("a", [1]),
        ("a*", [1, 2, 5]),
        (["tag", "Eq", "a*"], [5]),
        (["tag", "Glob", "a*"], [1, 2, 5]),
        ('"*', [6]),
        ("*", [1, 2, 4, 5, 6]),
        ("", [4]),
        ("none", []),
        ("\0", []),
        (None, [1, 2, 3, 4, 5, 6]),
    ],
    ids=str,
)
def test_diff_shows_the_records_with_the_tag(api: Api, tag: Any, expected: list[int]):
    tagged(api, "t", "a", "ab", None, "", "a*", '"q')
    page = api.diff("t", tag=tag)
    assert seqs(page) == expected
    # What is passed over moves the cursor all the same.
    assert (page["next_from_seq"], page["caught_up"]) == (6, True)


def test_a_page_of_a_filtered_read_is_as_full_as_others(api: Api):
    tagged(api, "t", *["x", "y"] * 300)
    page = api.diff("t", tag="y", limit=200)
    assert (len(page["records"]), page["next_from_seq"], page["caught_up"]) == (200, 400, False)
    page = api.diff("t", tag="y", from_seq=400, node="nobody")
    assert (len(page["records"]), page["caught_up"]) == (100, True)


def test_a_filter_that_finds_hardly_anything_reads_on_in_steps(api: Api):
    for _ in range(3):
        tagged(api, "t", *["x"] * 9_000)
    tagged(api, "t", "y")
    page = api.diff("t", tag="y")
    assert (page["records"], page["caught_up"]) == ([], False)
    assert 0 < page["next_from_seq"] < 27_000
    page = api.diff("t", tag="y", from_seq=page["next_from_seq"])
    assert (seqs(page), page["caught_up"]) == ([27_001], True)
    with api.follow(api.watch({"t": {}}, tag="y")) as stream:
        stream.records(1)
        stream.expect("caught-up", head_seq=27_001)


@pytest.mark.parametrize(
    "tag",
    [5, [], ["tag"], ["tag", "eq", "v"], ["node", "Eq", "v"], ["tag", "Glob", "v"], [1, 2, 3]],
)
def test_a_malformed_filter_is_refused(api: Api, tag: Any):
    api.write("t", 1)
    refused(api.post("/v0/topics/t/diff", {"tag": tag}), 400, "invalid_request")
    refused(api.post("/v0/watch", {"topics": {"t": {}}, "tag": tag}), 400, "invalid_request")


def test_a_watch_shows_the_records_with_the_tag(api: Api):
    tagged(api, "t", "red", "blue", None)
    with api.follow(api.watch({"t": {}}, tag="red")) as stream:
        assert stream.records(1).data["to_seq"] == 3
        stream.expect("caught-up")
        tagged(api, "t", "blue")
        tagged(api, "t", "red")
        told = stream.records(1)
        assert cursors(told.id) == {"t": 5}


# --- prefix --------------------------------------------------------------------------------------


def test_topics_under_the_prefix_are_followed_and_new_ones_join(api: Api):
    for name in ("parcels:north", "parcels:south", "other"):
        api.write(name, name)
    answer = api.post("/v0/watch", {"prefix": "parcels:", "topics": {"other": {"tail": True}}})
    assert sorted(answer.json()["topics"]) == ["other", "parcels:north", "parcels:south"]
    url = answer.json()["stream_url"]
    with api.follow(url) as stream:
        stream.expect("caught-up", topic="other")
        for name in ("parcels:north", "parcels:south"):
            stream.records(name, topic=name)
            stream.expect("caught-up", topic=name)
        api.write("unseen", 1)
        api.write("parcels:west", 1, 2)
        joined = stream.records(1, 2, topic="parcels:west")
        assert cursors(joined.id).keys() == {
            "$", "other", "parcels:north", "parcels:south", "parcels:west",
        }  # fmt: skip
        assert cursors(joined.id)["parcels:west"] == 2
        stream.expect("caught-up", topic="parcels:west")
        api.write("parcels:west", 3)
        stream.records(3, topic="parcels:west")
    # And they stay when the client comes back.
    with api.follow(url, last_event_id=joined.id) as stream:
        stream.expect("caught-up", topic="other")
        stream.expect("caught-up", topic="parcels:north")
        stream.expect("caught-up", topic="parcels:south")
        stream.records(3, topic="parcels:west")


def test_a_prefix_may_have_no_topic_yet(api: Api):
    with api.follow(api.watch({}, prefix="later")) as stream:
        assert stream.block() == b"retry: 2000\n\n"
        api.write("later.1", 1)
        stream.records(1, topic="later.1")


def test_a_prefix_can_begin_at_the_tail(api: Api):
    api.write("a.1", 1)
    with api.follow(api.watch({}, prefix="a.", prefix_tail=True)) as stream:
        stream.expect("caught-up", topic="a.1", head_seq=1)
        api.write("a.2", 1)
        stream.records(1, topic="a.2")


def test_topics_made_while_nobody_was_connected_join_from_their_beginning(api: Api):
    url = api.watch({}, prefix="a.")
    api.write("a.1", 1, 2)
    with api.follow(url) as stream:
        stream.records(1, 2, topic="a.1")


def test_a_topic_that_was_deleted_may_join_again(api: Api):
    api.write("a.1", 1)
    with api.follow(api.watch({}, prefix="a.")) as stream:
        stream.records(1)
        stream.expect("caught-up")
        api.delete("/v0/topics/a.1")
        stream.expect("topic-deleted", topic="a.1")
        api.write("a.1", 2)
        told = stream.records(2, topic="a.1")
        assert cursors(told.id)["a.1"] == 1
    api.run(streams.write_down())
    assert list(WatchSession.objects.get().positions) == ["a.1"]


def test_who_joined_is_told_once_even_if_the_row_does_not_know_of_it(api: Api):
    """The web process was killed before it wrote down that a topic had joined: the id says so."""
    url = api.watch({}, prefix="a.")
    with api.follow(url) as stream:
        api.write("a.1", 1)
        told = stream.records(1)
    api.run(streams.write_down())
    WatchSession.objects.update(positions={}, streams=1)
    api.write("a.1", 2)
    with api.follow(url, last_event_id=told.id) as stream:
        stream.records(2)


def test_a_key_follows_what_it_sees(api: Api):
    admin = make_key("all")
    for name in ("team.a", "team.b", "other.c"):
        api.post(f"/v0/topics/{name}", {"records": [{"data": name}]}, key=admin)
    key = make_key("reader", "read", "team.")
    answer = api.post("/v0/watch", {"prefix": ""}, key=key)
    assert sorted(answer.json()["topics"]) == ["team.a", "team.b"]
    answer = api.post("/v0/watch", {"prefix": "team.b"}, key=key)
    assert sorted(answer.json()["topics"]) == ["team.b"]
    detail = refused(api.post("/v0/watch", {"prefix": "other."}, key=key), 403, "forbidden")
    assert detail == {"prefix": "other."}
    with api.follow(answer.json()["stream_url"], key=key) as stream:
        stream.records("team.b")
        stream.expect("caught-up")
        for name in ("team.c", "other.team.b", "team.b2"):
            api.post(f"/v0/topics/{name}", {"records": [{"data": name}]}, key=admin)
        stream.records("team.b2", topic="team.b2")


@pytest.mark.parametrize("prefix", [5, ["a"], "é", "\0"])
def test_a_malformed_prefix_is_refused(api: Api, prefix: Any):
    refused(api.post("/v0/watch", {"prefix": prefix}), 400, "invalid_request")


def test_no_more_join_than_a_watch_may_have(api: Api, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(newcomers, "MAX_TOPICS", 2)
    api.write("a.1", 1)
    with api.follow(api.watch({}, prefix="a.")) as stream:
        stream.records(1)
        stream.expect("caught-up")
        api.write("a.2", 2)
        stream.records(2, topic="a.2")
        stream.expect("caught-up")
        api.write("a.3", 3)
        stream.expect("error", code="too_many_topics")
        api.write("a.1", 4)
        stream.records(4, topic="a.1")


def test_more_topics_than_a_watch_may_have_are_refused(api: Api):
    for number in range(257):
        api.put(f"/v0/topics/a.{number}", {})
    refused(api.post("/v0/watch", {"prefix": "a."}), 400, "invalid_request")
    assert api.post("/v0/watch", {"prefix": "a.1"}).status_code == 200


@pytest.mark.parametrize("filters", [{"tag": "\0*"}, {"tag": "\0"}, {"node": ["\0", "\ud7ff"]}])
def test_a_filter_may_hold_what_postgres_takes_for_no_text(api: Api, filters: Any):
    api.post("/v0/topics/t", {"records": [{"data": 1, "tag": "\0"}]})
    with api.follow(api.watch({"t": {}}, **filters)) as stream:
        stream.records(1)


def test_what_is_longer_than_any_tag_or_name_is_refused(api: Api):
    api.write("t", 1)
    for body in ({"tag": "x" * 257}, {"tag": "é" * 129 + "*"}, {"prefix": "x" * 256}):
        refused(api.post("/v0/watch", {"topics": {"t": {}}, **body}), 400, "invalid_request")
    for body in ({"tag": "x" * 256}, {"tag": "x" * 256 + "*"}, {"prefix": "x" * 255}):
        assert api.post("/v0/watch", {"topics": {"t": {}}, **body}).status_code == 200
    with api.follow(api.watch({"t": {}}, node=["x" * 10_000])) as stream:
        stream.records(1)


@pytest.mark.parametrize("is_first", [True, False], ids=["from the first", "later"])
def test_a_client_that_missed_a_deletion_is_told_of_the_recreation(api: Api, is_first: bool):
    """The frame got lost with the connection; to whoever takes its records for the old topic's, seqs would go back."""
    api.write("a.0", 1)
    if is_first:
        api.write("a.1", 1, 2)
    url = api.watch({}, prefix="a.")
    with api.follow(url) as stream:
        stream.expect("record", topic="a.0")
        stream.expect("caught-up", topic="a.0")
        if not is_first:
            api.write("a.1", 1, 2)
        told = stream.records(1, 2, topic="a.1")
        stream.expect("caught-up", topic="a.1")
        api.delete("/v0/topics/a.1")
        heard = stream.expect("topic-deleted", topic="a.1")
    api.run(streams.write_down())
    with api.follow(url, last_event_id=told.id) as stream:
        stream.expect("caught-up", topic="a.0")
        stream.expect("topic-deleted", topic="a.1")
    api.write("a.1", 3)
    with api.follow(url, last_event_id=heard.id) as stream:
        # Who has heard of it takes the new one for what it is.
        stream.expect("caught-up", topic="a.0")
        stream.records(3, topic="a.1")
    with api.follow(url, last_event_id=told.id) as stream:
        stream.expect("caught-up", topic="a.0")
        stream.expect("tombstone", topic="a.1", reason="recreated", gap_from=1, gap_to=1)
        stream.records(3, topic="a.1")


def test_two_streams_of_a_session_divide_the_records_of_topics_that_join(api: Api):
    url = api.watch({}, prefix="a.")
    with api.follow(url) as one, api.follow(url) as other:
        assert one.block() == other.block() == b"retry: 2000\n\n"
        for number in range(5):
            api.write(f"a.{number}", number)
        told: list[tuple[str, int]] = []
        for stream in (one, other):
            is_caught_up: set[str] = set()
            while len(is_caught_up) < 5:
                event = stream.event()
                assert event is not None
                if event.event == "caught-up":
                    is_caught_up.add(event.data["topic"])
                else:
                    told += [(event.data["topic"], r["$seq"]) for r in event.data["records"]]
        assert sorted(told) == [(f"a.{number}", 1) for number in range(5)]
    api.run(streams.write_down())
    assert len(WatchSession.objects.get().positions) == 5


def test_topics_that_are_left_out_cost_nothing_until_there_is_room(
    api: Api, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(newcomers, "MAX_TOPICS", 2)
    run, looks = sql.run_async, [0]

    async def counted(name: str, /, **params: Any) -> Any:
        looks[0] += name == "topics/list_topics"
        return await run(name, **params)

    monkeypatch.setattr(sql, "run_async", counted)
    for number in range(2):
        api.write(f"a.{number}", number)
    with api.follow(api.watch({}, prefix="a.")) as stream:
        for number in range(2):
            stream.records(number, topic=f"a.{number}")
            stream.expect("caught-up")
        api.write("a.2", 2)
        stream.expect("error", code="too_many_topics")
        before = looks[0]
        for number in range(20):
            api.write("a.2", number)
            api.write("a.1", number)
            stream.records(number, topic="a.1")
            stream.expect("caught-up")
        assert looks[0] == before
        api.delete("/v0/topics/a.0")
        stream.expect("topic-deleted", topic="a.0")
        api.write("a.2", 20)
        stream.records(2, *range(21), topic="a.2")
