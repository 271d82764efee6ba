"""topics v0 §16.3 to §16.7: what routers copy, when, how often, and what becomes of what can't be copied."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import time_machine

from apps.core import clock
from apps.topics.models import Event, Router, Topic
from tests.contract.topics.conftest import refused

if TYPE_CHECKING:
    from tests.contract.topics.conftest import Api


def route(api: Api, name: str, source: str, dest: str, **over: Any) -> None:
    answer = api.put(f"/v0/routers/{name}", {"source": source, "dest": dest, **over})
    assert answer.status_code in {200, 201}, answer.text


def datas(api: Api, topic: str, **body: Any) -> list[Any]:
    return [record["data"] for record in api.diff(topic, **body)["records"]]


def post(api: Api, topic: str, *records: dict[str, Any]) -> None:
    assert api.post(f"/v0/topics/{topic}", {"records": records}).status_code in {200, 201}


def total(api: Api, router: str) -> int:
    return int(api.get(f"/v0/routers/{router}").json()["forwarded_total"])


# --- §16.3, §16.4: copies ---------------------------------------------------------------------------------------------


def test_a_copy_is_there_when_the_dest_is_read(api: Api) -> None:
    route(api, "r", "a", "b")
    for number in range(5):
        api.write("a", number)
        assert datas(api, "b", from_seq=number) == [number]
    state = api.get("/v0/topics/b").json()
    assert (state["head_seq"], state["count"]) == (5, 5)
    assert state["last_write_ts"] is not None


def test_a_state_read_counts_the_copies(api: Api) -> None:
    route(api, "r", "a", "b")
    api.write("a", 1, 2)
    assert api.get("/v0/topics/b").json()["count"] == 2


def test_nothing_is_copied_from_before_the_router(api: Api) -> None:
    api.write("a", 1, 2)
    route(api, "r", "a", "b")
    api.write("a", 3)
    assert datas(api, "b") == [3]


def test_a_copy_has_all_but_seq_and_ts(api: Api) -> None:
    api.write("b", "own")
    route(api, "r", "a", "b")
    moment = clock.now()
    with time_machine.travel(moment, tick=False):
        body = b'{"records":[{"data":{"b": 1.0, "a":[2e3]},"tag":"t\\u0000","node":"n","meta":{ "z":1,"y":"\\u0000"}}]}'
        assert api.post("/v0/topics/a", body).status_code == 200
    text = api.post("/v0/topics/b/diff", {"from_seq": 1, "include_tags": True}).text
    assert '"data":{"b": 1.0, "a":[2e3]},"meta":{ "z":1,"y":"\\u0000"}' in text
    [copy] = api.diff("b", from_seq=1, include_tags=True)["records"]
    assert (copy["$seq"], copy["$node"], copy["$tag"]) == (2, "n", "t\0")
    assert copy["$ts"] >= clock.milliseconds(moment)
    original, copied = Event.objects.get(topic__name="a"), Event.objects.get(topic__name="b", seq=2)
    assert (original.size, original.kind) == (copied.size, copied.kind)
    assert Topic.objects.get(name="b").bytes == original.size + len('"own"')


def test_node_and_tag_are_left_out_if_told_so(api: Api) -> None:
    route(api, "r", "a", "b", preserve_node=False)
    route(api, "s", "a", "c", preserve_tag=False)
    post(api, "a", {"data": 1, "node": "n", "tag": "t"})
    [one] = api.diff("b", include_tags=True)["records"]
    [other] = api.diff("c", include_tags=True)["records"]
    assert ("$node" not in one, one["$tag"]) == (True, "t")
    assert (other["$node"], "$tag" not in other) == ("n", True)


@pytest.mark.parametrize(
    ("given", "passed"),
    [
        (None, ["x", "xy", "y", "", None, "x\0"]),
        ("x", ["x"]),
        ("x*", ["x", "xy", "x\0"]),
        ("*", ["x", "xy", "y", "", "x\0"]),
        ("", [""]),
        (["tag", "Eq", "x*"], []),
        (["tag", "Eq", "x\0"], ["x\0"]),
    ],
)
def test_a_filter_passes_matching_tags(api: Api, given: Any, passed: list[Any]) -> None:
    route(api, "r", "a", "b", filter=given)
    post(api, "a", *({"data": tag, "tag": tag} for tag in ("x", "xy", "y", "", None, "x\0")))
    assert datas(api, "b") == passed
    assert total(api, "r") == len(passed)
    assert Router.objects.get().position == 6


def test_deletions_and_deleted_records_do_not_travel(api: Api) -> None:
    api.put("/v0/topics/b", {"cap_records": 1, "discard": "reject"})
    route(api, "r", "a", "b")
    api.write("a", 0, 1, 2, 3)
    assert datas(api, "b") == [0]
    api.post("/v0/topics/a/delete", {"before_seq": 4})
    api.post("/v0/topics/b/delete", {"before_seq": 2})
    assert api.diff("b", from_seq=1)["records"][0]["data"] == 3
    assert api.diff("b", from_seq=1)["tombstone"] is None
    assert total(api, "r") == 2
    api.post("/v0/topics/a/delete", {"before_seq": 5})
    assert datas(api, "b", from_seq=1) == [3]


def test_the_dest_takes_other_writes_too(api: Api) -> None:
    route(api, "r", "a", "b")
    api.write("b", "own")
    api.write("a", "copy")
    assert datas(api, "b") == ["own", "copy"]


def test_more_than_a_pass_comes_whole_and_in_order(api: Api) -> None:
    route(api, "r", "a", "b")
    for first in range(0, 3000, 1000):
        api.write("a", *range(first, first + 1000))
    found = [
        number
        for after in (0, 1000, 2000)
        for number in datas(api, "b", from_seq=after, limit=1000)
    ]
    assert found == list(range(3000))
    assert total(api, "r") == 3000


def test_a_chain_settles_by_itself(api: Api) -> None:
    from apps.topics.routers import forwarder

    for source, dest in ("ab", "bc", "cd"):
        route(api, source + dest, source, dest)
    api.write("a", 1)
    api.run(forwarder.idle())
    assert Topic.objects.get(name="d").head == 1


def test_a_waiting_reader_is_woken_by_a_copy(api: Api) -> None:
    route(api, "r", "a", "b")
    waiting = api.begin("POST", "/v0/topics/b/diff", {"wait_ms": 30_000})
    api.write("a", 1)
    assert [record["data"] for record in waiting.result(20).json()["records"]] == [1]


def test_copies_follow_the_durability_of_the_dest(api: Api) -> None:
    api.put("/v0/topics/a", {"durability": "memory"})
    api.put("/v0/topics/b", {"durability": "fsync"})
    route(api, "r", "a", "b")
    api.write("a", 1)
    assert datas(api, "b") == [1]
    assert Topic.objects.get(name="b").reserved == 0


# --- §16.4: backpressure ----------------------------------------------------------------------------------------------


def test_a_full_dest_stops_the_router_and_loses_nothing(api: Api) -> None:
    api.put("/v0/topics/b", {"cap_records": 2, "discard": "reject"})
    route(api, "r", "a", "b")
    assert api.write("a", 1, 2, 3, 4, 5).status_code == 200
    assert datas(api, "b") == [1, 2]
    assert total(api, "r") == 2
    refused(api.write("b", "own"), 422, "topic_full")
    api.post("/v0/topics/b/delete", {"before_seq": 3})
    assert datas(api, "b", from_seq=2) == [3, 4]
    api.post("/v0/topics/b/delete", {"before_seq": 100})
    assert datas(api, "b", from_seq=4) == [5]
    assert total(api, "r") == 5


def test_it_does_not_pass_over_a_record_that_does_not_fit_yet(api: Api) -> None:
    api.put("/v0/topics/b", {"cap_bytes": 10, "discard": "reject"})
    route(api, "r", "a", "b")
    api.write("a", "12345", "1234567", "1")
    assert datas(api, "b") == ["12345"]
    api.post("/v0/topics/b/delete", {"before_seq": 2})
    assert datas(api, "b", from_seq=1) == ["1234567"]


def test_a_record_the_dest_can_never_hold_is_announced_as_lost(api: Api) -> None:
    api.put("/v0/topics/b", {"cap_bytes": 10, "discard": "reject"})
    route(api, "r", "a", "b")
    api.write("a", "x", "0123456789abc", "y")
    page = api.diff("b")
    assert [record["data"] for record in page["records"]] == ["x"]
    assert (page["next_from_seq"], page["caught_up"]) == (1, False)
    page = api.diff("b", from_seq=1)
    assert (page["tombstone"]["gap_from"], page["tombstone"]["gap_to"]) == (2, 2)
    assert [record["data"] for record in page["records"]] == ["y"]
    assert total(api, "r") == 3


def test_a_full_dest_that_discards_the_old_takes_all(api: Api) -> None:
    api.put("/v0/topics/b", {"cap_records": 2})
    route(api, "r", "a", "b")
    api.write("a", 1, 2, 3)
    page = api.diff("b")
    assert [record["data"] for record in page["records"]] == [2, 3]
    assert page["tombstone"]["reason"] == "cap"


def test_the_quota_stops_a_router_in_the_same_way(api: Api, settings: Any) -> None:
    route(api, "r", "a", "b")
    settings.GYOZA_MAX_TOTAL_BYTES = 6
    assert api.write("a", 1, 2, 3, 4).status_code == 200
    assert datas(api, "b") == [1, 2]
    settings.GYOZA_MAX_TOTAL_BYTES = 7
    assert datas(api, "b") == [1, 2, 3]
    settings.GYOZA_MAX_TOTAL_BYTES = 0
    assert datas(api, "b") == [1, 2, 3, 4]


# --- §16.5: guarantees ------------------------------------------------------------------------------------------------


def test_exactly_once_stamps_the_copies(api: Api) -> None:
    route(api, "r", "a", "b", guarantee="exactly_once")
    post(api, "a", {"data": 1, "meta": {"k": 1.50}}, {"data": 2})
    first, second = api.diff("b")["records"]
    stamp = first["meta"].pop("_topics_router")
    assert first["meta"] == {"k": 1.5}
    source = Topic.objects.get(name="a")
    assert stamp == {
        "idempotency_key": f"router:r:{source.pk}:{stamp['source_epoch']}:1",
        "router": "r",
        "source_topic": "a",
        "source_topic_id": source.pk,
        "source_epoch": stamp["source_epoch"],
        "source_seq": 1,
    }
    assert list(second["meta"]) == ["_topics_router"]
    assert second["meta"]["_topics_router"]["source_seq"] == 2
    topic = api.get("/v0/topics/b").json()
    assert topic["bytes"] == sum(
        Event.objects.filter(topic__name="b").values_list("size", flat=True)
    )


def test_other_meta_is_wrapped(api: Api) -> None:
    route(api, "r", "a", "b", guarantee="exactly_once")
    full = {f"k{number}": number for number in range(64)}
    stamped = {**{f"k{number}": number for number in range(63)}, "_topics_router": "mine"}
    metas = [[1, 2], "text", 3, full, stamped]
    post(api, "a", *({"data": 0, "meta": meta} for meta in metas))
    found = [record["meta"] for record in api.diff("b")["records"]]
    for meta, original in zip(found[:4], metas[:4], strict=True):
        assert sorted(meta) == ["_topics_original_meta", "_topics_router"]
        assert meta["_topics_original_meta"] == original
    assert found[4].pop("_topics_router")["source_seq"] == 5
    assert found[4] == {f"k{number}": number for number in range(63)}


def test_a_stamp_may_exceed_the_limit_of_meta(api: Api) -> None:
    route(api, "r", "a", "b", guarantee="exactly_once")
    post(api, "a", {"data": 1, "meta": {"k": "x" * 16_376}}, {"data": 2})
    assert datas(api, "b") == [1, 2]


def test_at_least_once_copies_once_too(api: Api) -> None:
    route(api, "r", "a", "b")
    api.write("a", *range(100))
    for _ in range(3):
        assert api.diff("b")["head_seq"] == 100


# --- §16.6, ★28: what the source lost ---------------------------------------------------------------------------------


def test_a_loss_is_announced_and_hides_nothing(api: Api) -> None:
    route(api, "r", "a", "b")
    api.write("a", 1, 2)
    assert datas(api, "b") == [1, 2]
    api.put("/v0/topics/a", {"cap_records": 2})
    # Evicted in the very write: nobody could have copied 3, 4 and 5.
    api.write("a", 3, 4, 5, 6, 7)
    page = api.diff("b")
    assert ([r["data"] for r in page["records"]], page["tombstone"]) == ([1, 2], None)
    assert (page["next_from_seq"], page["caught_up"], page["lag"]) == (2, False, 5)
    page = api.diff("b", from_seq=page["next_from_seq"])
    assert page["tombstone"] == {
        "gap_from": 3, "gap_to": 5, "reason": "source_trim", "missed_estimate": 3,
        "earliest_seq": 6, "head_seq": 7,
    }  # fmt: skip
    assert [(r["$seq"], r["data"]) for r in page["records"]] == [(6, 6), (7, 7)]
    assert page["caught_up"] is True
    state = api.get("/v0/topics/b").json()
    assert (state["head_seq"], state["earliest_seq"], state["count"]) == (7, 1, 4)
    assert total(api, "r") == 7
    # Within the gap, too.
    assert api.diff("b", from_seq=4)["tombstone"]["gap_from"] == 5
    assert api.diff("b", from_seq=5)["tombstone"] is None


def test_a_loss_below_everything_is_a_floor(api: Api) -> None:
    route(api, "r", "a", "b")
    api.put("/v0/topics/a", {"cap_records": 1})
    api.write("a", 1, 2, 3)
    page = api.diff("b")
    assert page["tombstone"] == {
        "gap_from": 1, "gap_to": 2, "reason": "source_trim", "missed_estimate": 2,
        "earliest_seq": 3, "head_seq": 3,
    }  # fmt: skip
    assert [record["data"] for record in page["records"]] == [3]
    topic = Topic.objects.get(name="b")
    assert (topic.source_floor, topic.has_gaps) == (2, False)


def test_a_gap_joins_the_floor_when_what_is_below_it_goes(api: Api) -> None:
    route(api, "r", "a", "b")
    api.write("a", 1, 2)
    assert datas(api, "b") == [1, 2]
    api.put("/v0/topics/a", {"cap_records": 1})
    api.write("a", 3, 4, 5)
    assert datas(api, "b", from_seq=2) == [5]
    api.post("/v0/topics/b/delete", {"before_seq": 3})
    page = api.diff("b")
    assert (page["tombstone"]["gap_from"], page["tombstone"]["gap_to"]) == (1, 4)
    assert page["tombstone"]["reason"] == "source_trim"
    api.put("/v0/topics/b", {"cap_records": 1})
    api.write("b", "own")
    page = api.diff("b")
    assert page["tombstone"]["reason"] == "cap"
    assert page["tombstone"]["gap_to"] == 5


def test_gaps_beside_each_other_are_one(api: Api) -> None:
    route(api, "r", "a", "b")
    api.put("/v0/topics/b", {"cap_records": 1, "discard": "reject"})
    api.write("a", 1, 2, 3)
    assert datas(api, "b") == [1]
    api.put("/v0/topics/a", {"cap_records": 1})
    assert api.diff("b", from_seq=1)["head_seq"] == 2
    api.write("a", 4)
    assert api.diff("b", from_seq=1)["tombstone"]["gap_to"] == 3
    assert [(gap.first_seq, gap.last_seq) for gap in Topic.objects.get(name="b").gaps.all()] == [
        (2, 3)
    ]
    api.post("/v0/topics/b/delete", {"before_seq": 2})
    assert datas(api, "b", from_seq=3) == [4]


def test_a_loss_goes_down_a_chain(api: Api) -> None:
    route(api, "ab", "a", "b")
    route(api, "bc", "b", "c")
    api.write("a", 1)
    assert (datas(api, "b"), datas(api, "c")) == ([1], [1])
    api.put("/v0/topics/a", {"cap_records": 1})
    api.write("a", 2, 3)
    assert datas(api, "b", from_seq=1) == [3]
    page = api.diff("c", from_seq=1)
    assert (page["tombstone"]["gap_from"], page["tombstone"]["gap_to"]) == (2, 2)
    assert [record["data"] for record in page["records"]] == [3]
    assert datas(api, "c") == [1]


def test_what_expires_in_the_source_is_lost_too(api: Api) -> None:
    api.put("/v0/topics/a", {"ttl_ms": 1000})
    api.put("/v0/topics/b", {"cap_records": 1, "discard": "reject"})
    route(api, "r", "a", "b")
    start = clock.now()
    with time_machine.travel(start, tick=False):
        api.write("a", 1, 2)
        assert datas(api, "b") == [1]
    with time_machine.travel(start + timedelta(seconds=2), tick=False):
        page = api.diff("b", from_seq=1)
        assert page["tombstone"]["reason"] == "source_trim"
        assert (page["head_seq"], page["caught_up"]) == (2, True)
        assert total(api, "r") == 2


def test_the_feed_of_runs_tells_of_gaps_too(api: Api) -> None:
    from apps.topics import queries

    route(api, "r", "a", "b")
    api.write("a", 1)
    assert datas(api, "b") == [1]
    api.put("/v0/topics/a", {"cap_records": 1})
    api.write("a", 2, 3)
    page = api.run(queries.read_feed("b", 0, 10, wait=20))
    assert ([record.data for record in page.records], page.next_after, page.has_more) == (
        ["1"],
        1,
        True,
    )
    page = api.run(queries.read_feed("b", 1, 10))
    assert page.gap is not None
    assert (page.gap.gap_from, page.gap.gap_to, page.next_after) == (2, 2, 3)


# --- §16.7, ★29: circles ----------------------------------------------------------------------------------------------


def settle(api: Api, *topics: str) -> None:
    from apps.topics.routers import forwarder

    api.run(forwarder.idle())
    for topic in topics:
        api.diff(topic)
    api.run(forwarder.idle())


def test_a_mirror_has_each_record_once_on_each_side(api: Api) -> None:
    route(api, "ab", "a", "b")
    route(api, "ba", "b", "a", allow_cycle=True)
    api.write("a", 1)
    api.write("b", 2)
    settle(api, "a", "b", "a", "b")
    assert sorted(datas(api, "a")) == sorted(datas(api, "b")) == [1, 2]
    assert (total(api, "ab"), total(api, "ba")) == (1, 1)


def test_a_ring_carries_each_record_round_once(api: Api) -> None:
    for source, dest in ("ab", "bc", "ca"):
        route(api, source + dest, source, dest, allow_cycle=True)
    for topic in "abc":
        api.write(topic, topic)
    settle(api, *"abcabc")
    for topic in "abc":
        assert sorted(datas(api, topic)) == ["a", "b", "c"]


def heads(api: Api, topics: str) -> list[int]:
    return [api.state(topic)["head_seq"] for topic in topics]


@pytest.mark.parametrize("before", [[], ["old"]], ids=["floor", "gap"])
@pytest.mark.parametrize("ring", ["ab", "abc", "abcd"])
def test_a_loss_goes_round_a_ring_once(api: Api, ring: str, before: list[str]) -> None:
    """Else it would come back as a loss to where it was lost, and go round for ever."""
    for source, dest in itertools.pairwise(ring + ring[0]):
        route(api, source + dest, source, dest, allow_cycle=True)
    for data in before:
        api.write("a", data)
    settle(api, *ring * 2)
    api.put("/v0/topics/a", {"cap_records": 2})
    api.write("a", 1, 2, 3, 4, 5)
    settle(api, *ring * 2)
    assert heads(api, ring) == [len(before) + 5] * len(ring)
    for topic in ring[1:]:
        lost = api.diff(topic, from_seq=len(before))["tombstone"]
        assert (lost["reason"], lost["missed_estimate"]) == ("source_trim", 3)
        assert datas(api, topic, from_seq=lost["gap_to"]) == [4, 5]
    assert api.diff("a", from_seq=len(before))["tombstone"]["reason"] == "cap"
    # The next one does, too.
    api.write("a", 6, 7, 8)
    settle(api, *ring * 2)
    assert heads(api, ring) == [len(before) + 8] * len(ring)


def test_a_loss_that_came_round_is_not_told_again_with_one_of_the_topics_own(api: Api) -> None:
    for source, dest in ("ab", "ba"):
        route(api, source + dest, source, dest, allow_cycle=True)
    api.write("a", "old")
    settle(api, "a", "b")
    held = Router.objects.filter(name="ab")
    held.update(is_paused=True)
    api.put("/v0/topics/b", {"cap_records": 2})
    api.write("b", 1, 2, 3, 4)
    settle(api, "a")
    # 1 and 2 were lost, 3 and 4 have come.
    assert api.state("a")["head_seq"] == 5
    api.put("/v0/topics/a", {"cap_records": 1})
    api.write("a", 5)
    held.update(is_paused=False)
    settle(api, "a", "b")
    # Of the four that went before 5, b is told of the two that were not told by itself.
    assert heads(api, "ab") == [6, 8]


def test_a_loss_leaves_a_ring_by_its_side(api: Api) -> None:
    for source, dest in ("ab", "ba", "bc"):
        route(api, source + dest, source, dest, allow_cycle=True)
    api.put("/v0/topics/a", {"cap_records": 1})
    api.write("a", 1, 2)
    settle(api, *"abcabc")
    assert heads(api, "abc") == [2, 2, 2]
    assert api.diff("c")["tombstone"]["gap_to"] == 1


def test_a_record_goes_through_eight_routers(api: Api) -> None:
    names = [f"t{number}" for number in range(11)]
    for source, dest in itertools.pairwise(names):
        route(api, f"{source}-{dest}", source, dest)
    api.write("t0", 1)
    settle(api, *names)
    assert [len(datas(api, name)) for name in names] == [1] * 9 + [0] * 2
    assert total(api, "t8-t9") == 0
    assert Router.objects.get(name="t8-t9").position == 1


def test_a_topic_fed_anew_takes_what_came_another_way(api: Api) -> None:
    """The way of a record is its own, not that of the routers there are now."""
    route(api, "ab", "a", "b")
    api.write("a", 1)
    assert datas(api, "b") == [1]
    api.delete("/v0/routers/ab")
    api.put("/v0/topics/d", {"cap_records": 1, "discard": "reject"})
    api.write("d", 0)
    route(api, "bd", "b", "d")
    route(api, "db", "d", "b", allow_cycle=True)
    api.write("b", 2)
    settle(api, "d", "b")
    api.post("/v0/topics/d/delete", {"before_seq": 2})
    settle(api, "d", "b")
    assert datas(api, "d", from_seq=1) == [2]


# --- §16.4: who else waits for copies ---------------------------------------------------------------------------------


def test_a_claim_finds_what_was_written_to_the_source(api: Api) -> None:
    api.put("/v0/topics/jobs", {"type": "queue"})
    route(api, "r", "a", "jobs")
    for number in range(5):
        api.write("a", number)
        answer = api.post("/v0/topics/jobs/claim", {"node": "w", "max": 10}).json()
        assert [job["data"] for job in answer["claimed"]] == [number]


def test_a_full_queue_takes_more_when_a_job_is_done(api: Api) -> None:
    api.put("/v0/topics/jobs", {"type": "queue", "cap_records": 1, "discard": "reject"})
    route(api, "r", "a", "jobs")
    api.write("a", 0, 1, 2)
    for number in range(3):
        answer = api.post("/v0/topics/jobs/claim", {"node": "w", "max": 10}).json()
        [job] = answer["claimed"]
        assert job["data"] == number
        api.post("/v0/topics/jobs/ack", {"seqs": [job["$seq"]], "node": "w"})


def test_a_watch_of_the_dest_is_told_of_copies(api: Api) -> None:
    route(api, "r", "a", "b")
    with api.follow(api.watch({"b": {}})) as stream:
        stream.expect("caught-up", topic="b", head_seq=0)
        api.write("a", 1)
        stream.records(1, topic="b")


def test_a_watch_meets_a_gap_where_it_is(api: Api) -> None:
    route(api, "r", "a", "b")
    api.write("a", 1, 2)
    assert datas(api, "b") == [1, 2]
    api.put("/v0/topics/a", {"cap_records": 1})
    api.write("a", 3, 4, 5)
    with api.follow(api.watch({"b": {}})) as stream:
        stream.records(1, 2, topic="b")
        stream.expect("tombstone", topic="b", reason="source_trim", gap_from=3, gap_to=4)
        stream.records(5, topic="b")
        stream.expect("caught-up", topic="b", head_seq=5)
