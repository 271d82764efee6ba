"""topics v0 §16.1, §16.2, §11.4, §3.3, §3.4: routers are made, changed, shown, listed and deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from apps.access.models import AuditEntry
from apps.topics.models import Router, Topic
from tests.cast import make_key
from tests.contract.topics.conftest import refused

if TYPE_CHECKING:
    from tests.contract.topics.conftest import Api

DEFAULTS = {
    "preserve_node": True,
    "preserve_tag": True,
    "filter": None,
    "allow_cycle": False,
    "guarantee": "at_least_once",
}


def route(
    api: Api, name: str, source: str, dest: str, *, key: str | None = None, **over: Any
) -> Any:
    return api.put(f"/v0/routers/{name}", {"source": source, "dest": dest, **over}, key=key)


def flags(name: str) -> tuple[bool, bool]:
    topic = Topic.objects.get(name=name)
    return topic.has_listeners, topic.is_fed


# --- PUT --------------------------------------------------------------------------------------------------------------


def test_it_makes_a_router_and_the_topics_at_its_ends(api: Api) -> None:
    answer = route(api, "r", "a", "b")
    assert answer.status_code == 201
    body = answer.json()
    assert body.pop("performance") == {"server_total_ms": pytest.approx(0, abs=60_000)}
    assert body == {"router": "r", "created": True, "source": "a", "dest": "b", **DEFAULTS}
    assert flags("a") == (True, False)
    assert flags("b") == (False, True)
    assert api.get("/v0/topics/a").json()["config"]["durability"] == "disk"


def test_the_source_is_made_whatever_create_dest_says(api: Api) -> None:
    api.write("b", 1)
    assert route(api, "r", "a", "b", create_dest=False).status_code == 201
    assert Topic.objects.filter(name="a").exists()


def test_a_change_keeps_position_and_counters(api: Api) -> None:
    route(api, "r", "a", "b")
    api.write("a", 1, 2)
    assert api.get("/v0/routers/r").json()["forwarded_total"] == 2
    answer = route(api, "r", "a", "b", preserve_tag=False, filter="x*", guarantee="exactly_once")
    assert answer.status_code == 200
    assert answer.json()["created"] is False
    shown = api.get("/v0/routers/r").json()
    assert shown["filter"] == ["tag", "Glob", "x*"]
    assert (shown["preserve_tag"], shown["guarantee"]) == (False, "exactly_once")
    assert shown["forwarded_total"] == 2
    # What is left out is the default again.
    route(api, "r", "a", "b")
    assert api.get("/v0/routers/r").json()["filter"] is None


def test_a_repeated_put_changes_nothing(api: Api) -> None:
    route(api, "r", "a", "b", filter="x")
    before = AuditEntry.objects.count()
    assert route(api, "r", "a", "b", filter=["tag", "Eq", "x"]).json()["created"] is False
    assert AuditEntry.objects.count() == before


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (None, None),
        ("v", ["tag", "Eq", "v"]),
        ("p*", ["tag", "Glob", "p*"]),
        ("*", ["tag", "Glob", "*"]),
        (["tag", "Eq", "a*"], ["tag", "Eq", "a*"]),
        (["tag", "Glob", "ü\0*"], ["tag", "Glob", "ü\0*"]),
    ],
)
def test_a_filter_is_shown_as_an_array(api: Api, given: Any, shown: Any) -> None:
    assert route(api, "r", "a", "b", filter=given).json()["filter"] == shown
    assert api.get("/v0/routers/r").json()["filter"] == shown


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        {"dest": "b"},
        {"source": "a"},
        {"source": None, "dest": "b"},
        {"source": "a", "dest": 1},
        {"source": "a", "dest": "b", "preserve_node": "yes"},
        {"source": "a", "dest": "b", "allow_cycle": None},
        {"source": "a", "dest": "b", "guarantee": "twice"},
        {"source": "a", "dest": "b", "filter": 1},
        {"source": "a", "dest": "b", "filter": ["tag", "Eq"]},
        {"source": "a", "dest": "b", "filter": ["tag", "glob", "x*"]},
        {"source": "a", "dest": "b", "filter": ["node", "Eq", "x"]},
        {"source": "a", "dest": "b", "filter": ["tag", "Glob", "x"]},
        {"source": "a", "dest": "a"},
        {"source": "-a", "dest": "b"},
        {"source": "a", "dest": "b/c"},
        {"source": "a>", "dest": "b"},
        {"source": "a" * 256, "dest": "b"},
        {"source": "a\0", "dest": "b"},
    ],
)
def test_it_refuses_what_is_no_router(api: Api, body: Any) -> None:
    refused(api.put("/v0/routers/r", body), 400, "invalid_request")
    assert not Topic.objects.exists()
    assert not Router.objects.exists()


def test_it_wants_json(api: Api) -> None:
    answer = api.put("/v0/routers/r", b'{"source":"a","dest":"b"}', content_type="text/plain")
    refused(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize("name", ["a->b", "r", "a:b>c.d_e", "0" * 255])
def test_it_takes_names_with_arrows(api: Api, name: str) -> None:
    assert route(api, quote(name, safe=""), "a", "b").json()["router"] == name
    assert api.get(f"/v0/routers/{quote(name, safe='')}").json()["router"] == name
    assert api.delete(f"/v0/routers/{name}").json()["deleted"] is True


@pytest.mark.parametrize("name", [">a", "-a", "a b", "ä", "a%00", "a" * 256])
def test_it_refuses_other_names(api: Api, name: str) -> None:
    refused(route(api, quote(name, safe="%"), "a", "b"), 400, "invalid_request")


def test_a_missing_dest_is_not_made_unless_wanted(api: Api) -> None:
    detail = refused(route(api, "r", "a", "b", create_dest=False), 404, "topic_not_found")
    assert detail == {"topic": "b"}
    assert not Topic.objects.exists()


def test_a_topic_is_fed_from_one_topic_only(api: Api) -> None:
    route(api, "r", "a", "c")
    assert refused(route(api, "s", "b", "c"), 409, "topic_exists_incompatible") == {
        "topic": "c",
        "reason": "router_dest_fan_in",
    }
    # From the same one by several routers: each copies.
    assert route(api, "s", "a", "c").status_code == 201
    api.write("a", 1)
    assert [record["data"] for record in api.diff("c")["records"]] == [1, 1]


def test_the_ends_of_a_router_are_fixed(api: Api) -> None:
    route(api, "r", "a", "b")
    for source, dest in (("c", "b"), ("a", "c"), ("b", "a")):
        assert refused(route(api, "r", source, dest), 409, "topic_exists_incompatible") == {
            "router": "r",
            "reason": "router_repoint_forbidden",
            "existing_source": "a",
            "existing_dest": "b",
        }
    api.delete("/v0/routers/r")
    assert route(api, "r", "b", "a").status_code == 201


def test_there_are_so_many_routers_and_no_more(api: Api, settings: Any) -> None:
    settings.GYOZA_MAX_ROUTERS = 2
    waiting = [
        api.begin("PUT", f"/v0/routers/r{n}", {"source": f"a{n}", "dest": f"b{n}"})
        for n in range(8)
    ]
    answers = [future.result(60) for future in waiting]
    assert sorted(answer.status_code for answer in answers) == [201] * 2 + [429] * 6
    for answer in answers:
        if answer.status_code == 429:
            assert refused(answer, 429, "throttled") == {"limit": "max_routers", "max": 2}
            assert answer.headers["retry-after"] == "1"
    # Before any topic is made; changing one is never refused.
    assert Topic.objects.count() == 4
    name = Router.objects.select_related("source", "dest").first()
    assert name is not None
    assert route(api, name.name, name.source.name, name.dest.name).status_code == 200


def test_without_room_for_its_topics_there_is_no_router(api: Api, settings: Any) -> None:
    settings.GYOZA_MAX_TOPICS = 1
    detail = refused(route(api, "r", "a", "b"), 429, "throttled")
    assert detail == {"limit": "max_topics", "max": 1}
    assert not Router.objects.exists()
    assert not Topic.objects.exists()


def test_it_refuses_to_close_a_circle(api: Api) -> None:
    route(api, "ab", "a", "b")
    route(api, "bc", "b", "c")
    detail = refused(route(api, "ca", "c", "a"), 409, "router_cycle")
    assert detail == {"cycle": ["c", "a", "b", "c"]}
    assert refused(route(api, "ba", "b", "a"), 409, "router_cycle")["cycle"] == ["b", "a", "b"]
    assert route(api, "ca", "c", "a", allow_cycle=True).status_code == 201
    # Repeating a PUT never closes one; withdrawing the permission does.
    assert route(api, "ca", "c", "a", allow_cycle=True).status_code == 200
    assert route(api, "ab", "a", "b").status_code == 200
    refused(route(api, "ca", "c", "a"), 409, "router_cycle")


def test_of_two_halves_of_a_circle_one_is_made(api: Api) -> None:
    waiting = [
        api.begin("PUT", f"/v0/routers/{source}{dest}", {"source": source, "dest": dest})
        for source, dest in ("ab", "bc", "ca")
    ]
    assert sorted(future.result(60).status_code for future in waiting) == [201, 201, 409]


def test_the_first_failing_check_answers(api: Api, settings: Any) -> None:
    route(api, "ab", "a", "b")
    settings.GYOZA_MAX_ROUTERS = 1
    # Fan-in before re-point before the number before the circle.
    refused(route(api, ">", "a", "a"), 400, "invalid_request")
    refused(route(api, "r", "x", "none", create_dest=False), 404, "topic_not_found")
    assert refused(route(api, "r", "x", "b"), 409, "topic_exists_incompatible")["reason"] == (
        "router_dest_fan_in"
    )
    refused(route(api, "r", "b", "a"), 429, "throttled")


# --- GET, list, DELETE ------------------------------------------------------------------------------------------------


def test_it_shows_a_router_with_all_it_has_copied(api: Api) -> None:
    route(api, "r", "a", "b")
    api.write("a", 1, 2, 3)
    body = api.get("/v0/routers/r").json()
    body.pop("performance")
    assert body == {
        "router": "r", "source": "a", "dest": "b", **DEFAULTS, "forwarded_total": 3,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["r", "%00", "a/b", "-"])
def test_an_absent_router_is_not_found(api: Api, name: str) -> None:
    if "/" in name:
        refused(api.get(f"/v0/routers/{name}"), 404, "not_found")
        return
    detail = refused(api.get(f"/v0/routers/{name}"), 404, "router_not_found")
    assert detail == {"router": "\0" if name == "%00" else name}
    answer = api.delete(f"/v0/routers/{name}").json()
    assert answer["deleted"] is False


def test_a_deleted_router_leaves_its_copies(api: Api) -> None:
    route(api, "r", "a", "b")
    api.write("a", 1)
    assert api.diff("b")["head_seq"] == 1
    body = api.delete("/v0/routers/r").json()
    assert list(body) == ["router", "deleted", "performance"]
    assert body["deleted"] is True
    api.write("a", 2)
    assert api.diff("b")["head_seq"] == 1
    assert flags("a") == flags("b") == (False, False)


def test_the_topics_know_their_routers_exactly(api: Api) -> None:
    route(api, "ab", "a", "b")
    route(api, "ab2", "a", "b")
    route(api, "bc", "b", "c")
    api.delete("/v0/routers/ab")
    assert (flags("a"), flags("b"), flags("c")) == ((True, False), (True, True), (False, True))
    api.delete("/v0/routers/ab2")
    assert (flags("a"), flags("b"), flags("c")) == ((False, False), (True, False), (False, True))


def test_it_lists_routers_page_by_page(api: Api) -> None:
    names = ["a->b", "b", "c", "d"]
    for name in names:
        route(api, name, f"s{name[0]}", "d-" + name[0], guarantee="exactly_once")
    first = api.get("/v0/routers?page_size=2").json()
    assert first["routers"][0] == {
        "router": "a->b", "source": "sa", "dest": "d-a", "guarantee": "exactly_once",
        "forwarded_total": 0,
    }  # fmt: skip
    second = api.get(f"/v0/routers?page_size=2&cursor={first['next_cursor']}").json()
    assert "next_cursor" not in second
    assert [row["router"] for row in first["routers"] + second["routers"]] == names
    refused(api.get("/v0/routers?cursor=%25"), 400, "invalid_request")


def test_it_lists_routers_by_name_and_ends(api: Api) -> None:
    for name, source, dest in (("ab", "a", "b"), ("ac", "a", "c"), ("cd", "c", "d")):
        route(api, name, source, dest)

    def listed(query: str) -> list[str]:
        return [row["router"] for row in api.get(f"/v0/routers?{query}").json()["routers"]]

    assert listed("prefix=a") == ["ab", "ac"]
    assert listed("source=a") == ["ab", "ac"]
    assert listed("dest=c") == ["ac"]
    assert listed("source=a&dest=b&prefix=a") == ["ab"]
    assert listed("source=b") == listed("source=%00") == listed("dest=") == []


# --- Topics that go ---------------------------------------------------------------------------------------------------


def test_a_topic_takes_its_routers_with_it(api: Api) -> None:
    for name, source, dest in (("z", "a", "b"), ("y", "b", "c"), ("x", "b", "d"), ("w", "d", "e")):
        route(api, name, source, dest)
    body = api.delete("/v0/topics/b").json()
    assert body["routers_removed"] == ["x", "y", "z"]
    assert [router.name for router in Router.objects.all()] == ["w"]
    assert (flags("a"), flags("c"), flags("d")) == ((False, False), (False, False), (True, False))
    refused(api.get("/v0/routers/z"), 404, "router_not_found")
    # The next topic of that name has none.
    api.write("b", 1)
    assert flags("b") == (False, False)


def test_a_topic_that_stays_keeps_its_routers(api: Api) -> None:
    route(api, "r", "a", "b")
    api.write("a", 1)
    refused(api.delete("/v0/topics/a?if_empty=true"), 409, "topic_not_empty")
    assert flags("a") == (True, False)
    assert api.delete("/v0/topics/none").json()["routers_removed"] == []


# --- Who may ----------------------------------------------------------------------------------------------------------


def test_each_route_needs_its_scope(api: Api) -> None:
    everything = {"read", "write", "delete", "admin"}
    for method, scope in (("GET", "read"), ("PUT", "admin"), ("DELETE", "delete")):
        key = make_key(f"no {scope}", "+".join(everything - {scope}))
        body = {"source": "a", "dest": "b"} if method == "PUT" else None
        refused(api.call(method, "/v0/routers/r", body, key=key), 403, "forbidden")
    refused(api.get("/v0/routers", key=make_key("writer", "write")), 403, "forbidden")
    refused(api.get("/v0/routers"), 401, "unauthorized")
    key = make_key("any", "read")
    refused(api.post("/v0/routers/r", {}, key=key), 405, "method_not_allowed")


def test_all_three_names_must_be_within_the_prefixes(api: Api) -> None:
    boss, key = make_key("boss"), make_key("tenant", "read+write+delete+admin", "t:", "u:")
    refused(route(api, "r", "t:a", "t:b", key=key), 403, "forbidden")
    for source, dest, bad in (("x", "t:b", "x"), ("t:a", "x", "x")):
        assert refused(route(api, "t:r", source, dest, key=key), 403, "forbidden") == {"topic": bad}
    assert not Topic.objects.exists()
    # What is malformed is told before what is forbidden, and that before a bad name.
    refused(route(api, "t:r", "x", "t:b", filter=[], key=key), 400, "invalid_request")
    assert refused(route(api, "t:r", "x/", "x/", key=key), 403, "forbidden") == {"topic": "x/"}
    assert route(api, "t%3Ar", "t:a", "u:b", key=key).status_code == 201
    assert route(api, "t:s", "t:a", "x", key=boss).status_code == 201
    assert route(api, "s", "t:a", "t:c", key=boss).status_code == 201
    assert refused(api.get("/v0/routers/t:s", key=key), 403, "forbidden") == {"topic": "x"}
    assert refused(api.delete("/v0/routers/t:s", key=key), 403, "forbidden") == {"topic": "x"}
    refused(api.get("/v0/routers/s", key=key), 403, "forbidden")
    refused(api.get("/v0/routers/t:none", key=key), 404, "router_not_found")
    assert api.delete("/v0/routers/t:none", key=key).json()["deleted"] is False
    listed = api.get("/v0/routers?page_size=1", key=key).json()
    assert [row["router"] for row in listed["routers"]] == ["t:r"]
    assert "next_cursor" not in listed
    assert api.delete("/v0/routers/t:r", key=key).json()["deleted"] is True


def test_what_is_done_to_a_router_is_written_down(api: Api) -> None:
    key = make_key("owner")
    route(api, "r", "a", "b", key=key)
    route(api, "r", "a", "b", preserve_node=False, key=key)
    api.delete("/v0/routers/r", key=key)
    entries = AuditEntry.objects.filter(target="router:r").order_by("id")
    assert [entry.action for entry in entries] == [
        "router.create", "router.configure", "router.delete",
    ]  # fmt: skip
