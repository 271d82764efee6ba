"""topics v0 §19 (WebSocket): the upgrade, commands, what followed topics tell, errors, ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.db import transaction

from apps.access import keyring
from apps.access.models import ApiKey
from apps.core import lifespan
from apps.core.sse import connections
from apps.topics.api.sockets import MOST_WAITING
from apps.topics.models import Topic
from apps.topics.services import NewEvent, append_events
from apps.topics.watch import pages
from tests.cast import make_key
from tests.contract.topics.conftest import refused
from tests.contract.topics.socket_client import Socket

if TYPE_CHECKING:
    from tests.contract.topics.conftest import Api


def error_of(message: Any) -> tuple[Any, str]:
    """Return whose error a message is, and its code."""
    assert message["op"] == "error", message
    assert set(message) <= {"op", "request_id", "code", "message", "detail"}
    assert message["message"]
    return message["request_id"], message["code"]


# --- The upgrade ------------------------------------------------------------------------------------


def test_it_speaks_as_the_example(api: Api):
    api.write("greenhouse.temps", *range(93))
    api.post("/v0/topics/greenhouse.temps/delete", {"before_seq": 58})
    with Socket(api) as socket:
        assert socket.status == 101
        socket.say("subscribe", request_id=1, topic="greenhouse.temps", tail=True)
        assert socket.hear() == {
            "op": "subscribed",
            "request_id": 1,
            "topics": {"greenhouse.temps": {"from_seq": 93, "head_seq": 93, "earliest_seq": 58}},
        }
        assert socket.hear() == {"op": "caught_up", "topic": "greenhouse.temps", "head_seq": 93}


@pytest.mark.parametrize("scope", ["read", "write", "delete", "admin"])
def test_any_valid_key_opens_it(api: Api, scope: str):
    """§3.3: no particular scope."""
    with Socket(api, key=make_key("some", scope)) as socket:
        assert socket.status == 101
        assert socket.ask("ping") == {"op": "pong", "request_id": None}


def test_no_key_and_a_wrong_one_are_refused_in_plain_http(api: Api):
    make_key()
    for key in (None, "wrong"):
        with Socket(api, key=key) as socket:
            assert socket.status == 401
            assert b'"code":"unauthorized"' in socket.body
            assert socket.headers["content-type"] == "application/json"
            assert socket.headers["www-authenticate"] == "Bearer"


def test_a_token_in_the_query_does_nothing(api: Api):
    """§3.2, §19: by header only."""
    with Socket(api, query=f"token={make_key()}") as socket:
        assert socket.status == 401


def test_another_site_is_refused_while_there_is_no_key(api: Api):
    with Socket(api, origin="https://elsewhere.example") as socket:
        assert socket.status == 403


def test_a_plain_get_is_told_to_upgrade(api: Api):
    answer = api.get("/v0/ws")
    refused(answer, 426, "upgrade_required")
    assert answer.headers["upgrade"] == "websocket"
    make_key()
    refused(api.get("/v0/ws"), 401, "unauthorized")


def test_other_paths_take_no_socket(api: Api):
    for path in ("/v0/topics", "/v0/nothing", "/runs", "/v0/ws/"):
        with Socket(api, path=path) as socket:
            assert socket.status == 404
            assert b'"code":"not_found"' in socket.body


def test_it_takes_the_place_of_a_stream(api: Api, settings):
    """§4.2: 429 when they are full, and freed when it ends."""
    settings.GYOZA_MAX_STREAMS = 1
    with Socket(api):
        assert connections.count() == 1
        with Socket(api) as second:
            assert second.status == 429
            assert b'"limit":"max_sse_connections"' in second.body
            assert second.headers["retry-after"] == "1"
    assert connections.count() == 0
    with Socket(api) as third:
        assert third.status == 101


def test_it_takes_one_of_its_keys_places(api: Api, settings):
    settings.GYOZA_MAX_STREAMS_PER_KEY = 1
    key, other = make_key("one"), make_key("other")
    with Socket(api, key=key), Socket(api, key=key) as second, Socket(api, key=other) as third:
        assert b'"limit":"max_sse_connections_per_key"' in second.body
        assert third.status == 101


def test_it_holds_no_place_among_requests_under_way(api: Api, settings):
    """§4.2: open sockets do not hold a slot."""
    settings.GYOZA_MAX_INFLIGHT_PER_KEY = 1
    key = make_key()
    with Socket(api, key=key) as socket:
        assert api.get("/v0/topics", key=key).status_code == 200
        assert socket.ask("publish", topic="t", records=[{"data": 1}])["op"] == "ack"


def test_a_correlation_id_comes_back(api: Api):
    with Socket(api, x_correlation_id="mine-1") as socket:
        assert socket.headers["x-correlation-id"] == "mine-1"


# --- subscribe --------------------------------------------------------------------------------------


def test_it_follows_a_topic_from_a_cursor_and_on(api: Api):
    api.write("t", "a", "b", "c")
    with Socket(api) as socket:
        subscribed = socket.ask("subscribe", topic="t", from_seq=1)
        assert subscribed["topics"] == {"t": {"from_seq": 1, "head_seq": 3, "earliest_seq": 1}}
        message = socket.records("b", "c", topic="t", from_seq=1, to_seq=3, head_seq=3)
        assert list(message) == ["op", "topic", "records", "from_seq", "to_seq", "head_seq"]
        socket.expect("caught_up", topic="t", head_seq=3)
        api.write("t", "d")
        socket.records("d", from_seq=3, to_seq=4)
        socket.expect("caught_up", head_seq=4)


def test_it_follows_several_topics_each_from_its_own_place(api: Api):
    """`topics` is a map as in §17.1; `topic` may come with it."""
    for topic in ("a", "b", "c"):
        api.write(topic, f"{topic}1", f"{topic}2")
    with Socket(api) as socket:
        subscribed = socket.ask(
            "subscribe", topic="a", topics={"b": {"from_seq": 1}, "c": {"tail": True}}
        )
        assert {name: at["from_seq"] for name, at in subscribed["topics"].items()} == {
            "a": 0,
            "b": 1,
            "c": 2,
        }
        told = [socket.hear() for _ in range(5)]
        records = {
            m["topic"]: [r["data"] for r in m["records"]] for m in told if m["op"] == "record"
        }
        assert records == {"a": ["a1", "a2"], "b": ["b2"]}
        assert sorted(m["topic"] for m in told if m["op"] == "caught_up") == ["a", "b", "c"]


def test_its_options_are_those_of_a_watch(api: Api):
    records = [
        {"data": 1, "tag": "x", "meta": {"m": 1}},
        {"data": 2, "node": "me"},
        {"data": 3, "tag": "x"},
    ]
    api.post("/v0/topics/t", {"records": records})
    with Socket(api) as socket:
        socket.ask(
            "subscribe",
            topic="t",
            node="me",
            limit=1,
            include_tags=True,
            include_meta=False,
            include_data=False,
        )
        first, second = socket.expect("record"), socket.expect("record")
        assert [set(record) for record in first["records"]] == [{"$seq", "$ts", "$tag"}]
        assert [record["$seq"] for record in second["records"]] == [3]
    with Socket(api) as socket:
        socket.ask("subscribe", topic="t", node=["me", "you"])
        message = socket.records(1, 3)
        assert message["records"][0]["meta"] == {"m": 1}
        assert "$tag" not in message["records"][0]


def test_a_page_has_a_thousand_records_or_a_mebibyte(api: Api):
    """The defaults of §19, not those of a watch."""
    api.write("many", *range(1500))
    api.write("large", *["x" * 300_000] * 5)
    with Socket(api) as socket:
        socket.ask("subscribe", topic="many")
        assert [len(socket.expect("record")["records"]) for _ in range(2)] == [1000, 500]
        socket.expect("caught_up")
        socket.ask("subscribe", topic="large")
        assert [len(socket.expect("record")["records"]) for _ in range(2)] == [3, 2]


def test_subscribing_again_replaces_the_subscription(api: Api):
    api.write("t", "a", "b")
    with Socket(api) as socket:
        socket.ask("subscribe", topic="t", tail=True)
        socket.expect("caught_up")
        again = socket.ask("subscribe", request_id="again", topic="t")
        assert (again["op"], again["request_id"]) == ("subscribed", "again")
        socket.records("a", "b", from_seq=0)
        socket.expect("caught_up")
        api.write("t", "c")
        socket.records("c")
        socket.expect("caught_up")
        assert socket.ask("ping")["op"] == "pong"


def test_a_missing_topic_refuses_the_whole_subscription(api: Api):
    api.write("there", 1)
    with Socket(api) as socket:
        error = socket.ask("subscribe", request_id=7, topics={"there": {}, "gone": {}})
        assert error_of(error) == (7, "topic_not_found")
        assert error["detail"] == {"topic": "gone"}
        assert socket.ask("ping")["op"] == "pong"


def test_lenient_leaves_missing_topics_out(api: Api):
    api.write("there", 1)
    with Socket(api) as socket:
        answer = socket.ask("subscribe", topics={"there": {}, "gone": {}}, lenient=True)
        assert list(answer["topics"]) == ["there"]
        socket.records(1)


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"topics": {}},
        {"topics": []},
        {"topic": 1},
        {"topic": "t", "from_seq": -1},
        {"topic": "t", "from_seq": 1.0},
        {"topic": "t", "limit": -1},
        {"topic": "t", "limit": "5"},
        {"topic": "t", "max_batch_bytes": 2**64},
        {"topic": "t", "node": 1},
        {"topic": "t", "tail": None},
        {"topics": {"t": {"tail": 1}}},
        {"topics": {f"t{number}": {} for number in range(257)}},
        {"topics": {"t": {}}, "node": ["n"] * 10_001},
    ],
)
def test_an_ill_typed_subscription_is_refused(api: Api, members: Any):
    api.write("t", 1)
    with Socket(api) as socket:
        assert error_of(socket.ask("subscribe", **members)) == (None, "invalid_request")


def test_it_follows_256_topics_in_all(api: Api):
    """§4.1: topics per watch."""
    names = [f"t{number}" for number in range(256)]
    for name in (*names, "more"):
        api.put(f"/v0/topics/{name}")
    with Socket(api) as socket:
        socket.ask("subscribe", topics={name: {} for name in names})
        for _ in names:
            socket.expect("caught_up")
        assert error_of(socket.ask("subscribe", topic="more")) == (None, "invalid_request")
        assert socket.ask("subscribe", topic="t0")["op"] == "subscribed"
        socket.expect("caught_up")
        socket.ask("unsubscribe", topic="t0")
        assert socket.ask("subscribe", topic="more")["op"] == "subscribed"


# --- What followed topics tell -----------------------------------------------------------------------


def test_a_gap_is_told_with_its_true_reason(api: Api):
    """No `from_seq_too_old`, not even on the first read."""
    api.put("/v0/topics/t", {"cap_records": 2})
    api.write("t", *range(5))
    with Socket(api) as socket:
        socket.ask("subscribe", topic="t")
        assert socket.hear() == {
            "op": "tombstone",
            "topic": "t",
            "reason": "cap",
            "gap_from": 1,
            "gap_to": 3,
            "earliest_seq": 4,
            "head_seq": 5,
        }
        socket.records(3, 4)


def test_a_deleted_topic_ends_its_subscription_only(api: Api):
    api.write("t", 1)
    api.write("other", 1)
    with Socket(api) as socket:
        socket.ask("subscribe", topics={"t": {"tail": True}, "other": {"tail": True}})
        for _ in range(2):
            socket.expect("caught_up")
        api.delete("/v0/topics/t")
        assert socket.hear() == {
            "op": "topic_deleted",
            "topic": "t",
            "head_seq": 0,
            "reason": "deleted",
        }
        api.write("other", 2)
        socket.records(2, topic="other")
        socket.expect("caught_up")
        # The last one gone, it stays open.
        api.delete("/v0/topics/other")
        socket.expect("topic_deleted")
        assert socket.ask("ping")["op"] == "pong"


def test_a_recreated_topic_is_told_as_such(api: Api):
    api.write("t", 1, 2)
    with Socket(api) as socket:
        socket.ask("subscribe", topic="t", tail=True)
        socket.expect("caught_up")
        with transaction.atomic():
            Topic.objects.filter(name="t").delete()
            append_events([NewEvent("t", '"new"')])
        socket.expect("tombstone", reason="recreated", gap_from=1, gap_to=1)
        socket.records("new", from_seq=0)


def test_sockets_and_watchers_share_what_is_read(api: Api):
    api.write("t", 1)
    with Socket(api) as one, Socket(api) as two:
        for socket in (one, two):
            socket.ask("subscribe", topic="t")
            socket.records(1)
            socket.expect("caught_up")
        api.write("t", 2)
        assert one.hear_text() == two.hear_text()

        async def tails() -> int:
            return len(pages.current()._by_name)

        assert api.run(tails()) == 1
    assert api.run(tails()) == 0


# --- unsubscribe, ping ---------------------------------------------------------------------------------


def test_unsubscribing_ends_what_is_told(api: Api):
    for topic in ("a", "b", "c"):
        api.write(topic, 1)
    with Socket(api) as socket:
        socket.ask("subscribe", topics={name: {"tail": True} for name in "abc"})
        for _ in range(3):
            socket.expect("caught_up")
        answer = socket.ask("unsubscribe", request_id="u", topic="a", topics=["b", "a"])
        assert answer == {"op": "unsubscribed", "request_id": "u", "topics": ["a", "b"]}
        for topic in ("a", "b", "c"):
            api.write(topic, 2)
        socket.records(2, topic="c")


@pytest.mark.parametrize("members", [{}, {"topics": []}, {"topics": {"a": {}}}, {"topic": 1}])
def test_an_ill_typed_unsubscription_is_refused(api: Api, members: Any):
    with Socket(api) as socket:
        assert error_of(socket.ask("unsubscribe", **members)) == (None, "invalid_request")


def test_a_command_that_is_nested_too_deeply_is_told_so(api: Api):
    with Socket(api) as socket:
        socket.say_text('{"op": "ping", "deep": ' + "[" * 100_000 + "]" * 100_000 + "}")
        answer = socket.hear()
        assert error_of(answer) == (None, "invalid_json")
        assert answer["message"] == "the body is nested too deeply"


@pytest.mark.parametrize("request_id", [None, 0, "x", [1, {"a": None}], {"deep": [1.50]}, 2**70])
def test_a_request_id_is_echoed_whatever_it_is(api: Api, request_id: Any):
    with Socket(api) as socket:
        assert socket.ask("ping", request_id=request_id) == {
            "op": "pong",
            "request_id": request_id,
        }
        assert error_of(socket.ask("nothing", request_id=request_id))[0] == request_id


def test_a_request_id_has_a_length(api: Api):
    with Socket(api) as socket:
        assert error_of(socket.ask("ping", request_id="x" * 1023)) == (None, "invalid_request")
        assert socket.ask("ping", request_id="x" * 1022)["op"] == "pong"


# --- publish ---------------------------------------------------------------------------------------------


def test_it_publishes(api: Api):
    with Socket(api) as socket:
        answer = socket.ask("publish", request_id=1, topic="t", records=[{"data": 1}, {"data": 2}])
        assert list(answer) == [
            "op",
            "request_id",
            "topic",
            "first_seq",
            "last_seq",
            "seqs",
            "head_seq",
            "count",
            "created",
            "deduped",
            "performance",
        ]
        del answer["performance"]
        assert answer == {
            "op": "ack",
            "request_id": 1,
            "topic": "t",
            "first_seq": 1,
            "last_seq": 2,
            "seqs": [1, 2],
            "head_seq": 2,
            "count": 2,
            "created": True,
            "deduped": False,
        }
    assert [record["data"] for record in api.diff("t")["records"]] == [1, 2]


def test_seqs_are_null_if_suppressed(api: Api):
    with Socket(api) as socket:
        answer = socket.ask("publish", topic="t", records=[{"data": 1}], return_seqs=False)
        assert answer["seqs"] is None


def test_a_key_makes_a_publish_happen_once(api: Api):
    """§2.10, whichever way the write comes."""
    body = {"records": [{"data": 1}], "idempotency_key": "k", "disable_backpressure": True}
    with Socket(api) as socket:
        assert socket.ask("publish", topic="t", **body)["deduped"] is False
        assert socket.ask("publish", topic="t", **body)["deduped"] is True
    assert api.post("/v0/topics/t", body).json()["deduped"] is True


def test_payloads_are_kept_as_they_were_written(api: Api):
    with Socket(api) as socket:
        socket.say_text(
            '{"op":"publish","topic":"t","records":[{"data":{"b":1.50,"a":"é\\u0000"}}]}'
        )
        socket.expect("ack")
        socket.ask("subscribe", topic="t")
        assert '"data":{"b":1.50,"a":"é\\u0000"}' in socket.hear_text()


def test_its_own_records_come_back_unless_its_node_is_left_out(api: Api):
    with Socket(api) as socket:
        socket.ask("publish", topic="t", records=[{"data": 1}], node="me")
        socket.ask("subscribe", topic="t", node="me")
        socket.expect("caught_up", head_seq=1)


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"records": [{"data": 1}]}, "invalid_request"),
        ({"topic": "t"}, "invalid_request"),
        ({"topic": "t", "records": []}, "invalid_request"),
        ({"topic": "t", "records": [{}]}, "invalid_request"),
        ({"topic": "no good", "records": [{"data": 1}]}, "invalid_request"),
        ({"topic": "", "records": [{"data": 1}]}, "invalid_request"),
        ({"topic": "gone", "records": [{"data": 1}], "create": False}, "topic_not_found"),
        ({"topic": "t", "records": [{"data": 1}] * 10_001}, "batch_too_large"),
        ({"topic": "t", "records": [{"data": 1}] * 500_000}, "batch_too_large"),
        ({"topic": "t", "records": [{"data": "x" * 1_048_577}]}, "record_too_large"),
        ({"topic": "full", "records": [{"data": 1}]}, "topic_full"),
    ],
)
def test_a_publish_is_refused_as_a_write_is(api: Api, members: Any, code: str):
    api.put("/v0/topics/full", {"cap_records": 1, "discard": "reject"})
    api.write("full", 1)
    with Socket(api) as socket:
        assert error_of(socket.ask("publish", request_id=3, **members)) == (3, code)
        assert socket.ask("ping")["op"] == "pong"


# --- Scopes and prefixes of each command ------------------------------------------------------------------


def test_commands_need_the_scopes_of_their_routes(api: Api):
    """§3.3: subscribe reads, publish writes."""
    api.write("t", 1)
    reader, writer = make_key("r", "read"), make_key("w", "write")
    publish = {"topic": "t", "records": [{"data": 2}]}
    with Socket(api, key=reader) as socket:
        assert socket.ask("subscribe", topic="t", tail=True)["op"] == "subscribed"
        socket.expect("caught_up")
        assert error_of(socket.ask("publish", **publish)) == (None, "forbidden")
    with Socket(api, key=writer) as socket:
        assert error_of(socket.ask("subscribe", topic="t")) == (None, "forbidden")
        assert socket.ask("publish", **publish)["op"] == "ack"


def test_a_publish_with_a_config_always_needs_admin(api: Api):
    """§3.3, even if the topic exists."""
    api.write("t", 1)
    members = {"topic": "t", "records": [{"data": 1}], "config": {"cap_records": 5}}
    with Socket(api, key=make_key("w", "write")) as socket:
        assert error_of(socket.ask("publish", **members)) == (None, "forbidden")
        assert socket.ask("publish", **members | {"config": None})["op"] == "ack"
    with Socket(api, key=make_key("a", "write+admin")) as socket:
        assert socket.ask("publish", **members | {"topic": "new"})["created"] is True
    assert Topic.objects.get(name="new").cap_records == 5


def test_names_must_be_within_the_keys_prefixes(api: Api):
    """§3.4: per topic name, before existence is checked."""
    api.write("ours.a", 1)
    api.write("theirs", 1)
    with Socket(api, key=make_key("p", "read+write", "ours.")) as socket:
        for members in (
            {"op": "subscribe", "topics": {"ours.a": {}, "theirs": {}}},
            {"op": "subscribe", "topic": "absent", "lenient": True},
            {"op": "unsubscribe", "topic": "theirs"},
            {"op": "publish", "topic": "theirs", "records": [{"data": 1}]},
        ):
            assert error_of(socket.ask(**members)) == (None, "forbidden")
        assert socket.ask("publish", topic="ours.b", records=[{"data": 1}])["op"] == "ack"


def test_a_key_that_loses_a_scope_loses_it_here_too(api: Api):
    key = make_key("w", "write")
    with Socket(api, key=key) as socket:
        assert socket.ask("publish", topic="t", records=[{"data": 1}])["op"] == "ack"
        ApiKey.objects.update(scopes=["read"])
        keyring.drop()
        error = socket.ask("publish", topic="t", records=[{"data": 1}])
        assert error_of(error) == (None, "forbidden")


# --- Errors of messages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["", "{", "nothing", '{"op":"ping"} ', '{"op":"ping"}x', "[" * 10_000]
)
def test_what_is_no_json_is_told_so_and_the_socket_stays(api: Api, text: str):
    with Socket(api) as socket:
        socket.say_text(text)
        message = socket.hear()
        if text == '{"op":"ping"} ':
            assert message["op"] == "pong"
        else:
            assert error_of(message) == (None, "invalid_json")
        assert socket.ask("ping")["op"] == "pong"


@pytest.mark.parametrize(
    "text", ["1", "null", "[]", '"ping"', "{}", '{"op":null}', '{"op":5}', '{"op":"fly"}']
)
def test_json_that_is_no_command_is_an_invalid_request(api: Api, text: str):
    with Socket(api) as socket:
        socket.say_text(text)
        assert error_of(socket.hear()) == (None, "invalid_request")
        assert socket.ask("ping")["op"] == "pong"


def test_a_binary_message_is_not_supported(api: Api):
    with Socket(api) as socket:
        socket.say_bytes(b'{"op":"ping"}')
        assert error_of(socket.hear()) == (None, "unsupported_message")
        assert socket.ask("ping")["op"] == "pong"


def test_unknown_members_are_ignored(api: Api):
    """§2.2."""
    with Socket(api) as socket:
        assert socket.ask("ping", whatever={"x": 1})["op"] == "pong"


# --- A slow client ----------------------------------------------------------------------------------------------


def test_four_messages_wait_for_a_client_and_then_nothing_more_is_read(api: Api):
    api.write("t", *range(20))
    with Socket(api) as socket:
        socket.ask("ping")
        socket.stop_reading()
        socket.say("subscribe", topic="t", limit=1)
        with Socket(api) as other:
            other.ask("subscribe", topic="t", limit=1)
            for number in range(20):
                other.records(number)

        async def pages_read() -> set[int]:
            return {after for _, after, _ in pages.current().readings}

        # One on its way, four that wait, and one for which there is no room.
        read = api.run(pages_read())
        assert read <= set(range(21))
        socket.read_on()
        socket.expect("subscribed")
        for number in range(20):
            socket.records(number)
        socket.expect("caught_up", head_seq=20)
    assert MOST_WAITING == 4


# --- Ends --------------------------------------------------------------------------------------------------------


def test_a_stopping_server_says_so_and_closes(api: Api):
    """§21: every socket gets its message and ends."""
    api.write("t", 1)
    with Socket(api) as idle, Socket(api) as busy:
        busy.ask("subscribe", topic="t")
        busy.records(1)
        busy.expect("caught_up")
        try:
            api.run(drained())
            for socket in (idle, busy):
                assert error_of(socket.hear()) == (None, "server_shutting_down")
                assert socket.is_closed_with() == 1001
        finally:
            api.run(reopened())


async def drained() -> None:
    lifespan.drain()


async def reopened() -> None:
    lifespan.reopen()


def test_it_ends_with_its_key(api: Api):
    make_key("other")
    key = make_key("mine")
    with Socket(api, key=key) as socket:
        socket.ask("ping")
        ApiKey.objects.get(name="mine").delete()
        keyring.drop()
        assert api.get("/v0/topics").status_code == 401
        assert socket.is_closed_with() == 1008
    assert connections.count() == 0


def test_nothing_is_left_of_a_client_that_has_gone(api: Api):
    api.write("t", 1)
    socket = Socket(api)
    with socket:
        socket.ask("subscribe", topic="t")
    assert connections.count() == 0

    async def tails() -> int:
        return len(pages.current()._by_name)

    assert api.run(tails()) == 0
