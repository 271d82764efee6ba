"""topics v0 §12 (write), with §7 (records), §2.10 (idempotency) and §8.3 (full topics) as a writer meets them."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

from apps.topics import services
from apps.topics.models import Event, IdempotencyKey, Topic
from tests.contract.topics.conftest import refused

if TYPE_CHECKING:
    from tests.contract.topics.conftest import Api


def test_it_answers_as_the_example(api: Api):
    """§12: the example, on a fresh topic."""
    answer = api.post(
        "/v0/topics/parcels:north",
        {
            "node": "depot-7",
            "records": [
                {"data": {"parcel": "PX-31", "event": "arrived"}, "tag": "parcel/PX-31"},
                {
                    "data": {"parcel": "PX-32", "event": "arrived"},
                    "tag": "parcel/PX-32",
                    "node": "depot-7b",
                    "meta": {"scanner": 4},
                },
            ],
        },
        Idempotency_Key="scan-run-0007",
    )
    body = answer.json()
    performance = body.pop("performance")
    assert answer.status_code == 201
    assert body == {
        "topic": "parcels:north",
        "first_seq": 1,
        "last_seq": 2,
        "seqs": [1, 2],
        "head_seq": 2,
        "count": 2,
        "created": True,
        "deduped": False,
    }
    assert set(performance) == {"server_total_ms", "wal_append_ms", "fsync_ms"}
    assert performance["fsync_ms"] == 0.0
    again = api.write("parcels:north", 1)
    assert (again.status_code, again.json()["created"], again.json()["seqs"]) == (200, False, [3])


def test_seqs_can_be_left_out(api: Api):
    answer = api.post("/v0/topics/t?return_seqs=false", {"records": [{"data": 1}, {"data": 2}]})
    assert "seqs" not in answer.json()
    assert api.post("/v0/topics/t?return_seqs=nonsense", {"records": [{"data": 1}]}).json()[
        "seqs"
    ] == [3]  # §2.3


@pytest.mark.parametrize(
    "data",
    [
        b'{"b": 1.0,  "a":12345678901234567890123, "a" : 1e400}',
        b'"\\u0000\\ud83d\\ude00 \xf0\x9f\x98\x80"',
        b"null",
        b"[\n 1 ,\t2 ]",
        b"-0",
        b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]",
    ],
)
def test_payloads_come_back_byte_for_byte(api: Api, data: bytes):
    """§7.3 ★16."""
    body = b'{"records":[{"data":%b,"meta":%b}]}' % (data, data)
    assert api.post("/v0/topics/t", body).status_code == 201
    text = api.post("/v0/topics/t/diff", {}).content
    assert b'"data":' + data in text
    assert (b'"meta":' + data in text) == (data != b"null")


def test_strings_may_hold_anything_unicode_can(api: Api):
    tag, node = 'say "\\" \0 ü \U0001f600 \n', "nöde\0"
    api.post("/v0/topics/t", {"node": node, "records": [{"data": 1, "tag": tag}]})
    [record] = api.diff("t", include_tags=True)["records"]
    assert (record["$tag"], record["$node"]) == (tag, node)


def test_sizes_are_those_of_compact_json(api: Api):
    """§7.4."""
    api.post("/v0/topics/t", b'{"records":[{"data":{ "a" : "x y" }, "meta": [ 1 ], "tag":"no"}]}')
    assert Topic.objects.get().bytes == len('{"a":"x y"}') + len("[1]")


def test_all_records_of_a_write_have_one_time(api: Api):
    """§7.5."""
    api.write("t", 1, 2, 3)
    assert len({record["$ts"] for record in api.diff("t")["records"]}) == 1


BAD_BODIES = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"{}",
    b'{"records":null}',
    b'{"records":{}}',
    b'{"records":[]}',
    b'{"records":[{}]}',
    b'{"records":[{"tag":"x"}]}',
    b'{"records":[{"data":1,"tag":5}]}',
    b'{"records":[{"data":1,"node":["a"]}]}',
    b'{"records":[{"data":1}],"create":1}',
    b'{"records":[{"data":1}],"config":{"ttl_ms":-1}}',
    b'{"records":[{"data":1}],"config":{"ttl_ms":5.0}}',
    b'{"records":[{"data":1}],"config":{"ttl_ms":null}}',
    b'{"records":[{"data":1}],"config":{"cap_bytes":18446744073709551616}}',
    b'{"records":[{"data":1}],"config":{"type":"stack"}}',
    b'{"records":[{"data":1}],"disable_backpressure":"yes"}',
    b'{"records":[{"data":"\xff"}]}',
    b'{"records":[{"data":1}],"\xff":1}',
    b'{"records":[{"data":"a\nb"}]}',
    b'{"records":[{"data":01}]}',
    b'{"records":[{"data":NaN}]}',
    b'{"records":[{"data":1}]}}',
    b'{"records":[{"data":' + b"[" * 5000 + b"]" * 5000 + b"}]}",
]


@pytest.mark.parametrize("body", BAD_BODIES, ids=lambda body: repr(body[:50]))
def test_a_malformed_body_is_refused(api: Api, body: bytes):
    """§2.2."""
    refused(api.post("/v0/topics/t", body, content_type="application/json"), 400, "invalid_request")
    assert not Topic.objects.exists()


def test_unknown_members_are_passed_over(api: Api):
    """§2.2, at every level."""
    body = {"x": 1, "records": [{"data": 1, "y": {}}], "config": {"z": 1}}
    assert api.post("/v0/topics/t", body).status_code == 201


def test_nullable_members_may_be_null(api: Api):
    record = {"data": None, "tag": None, "node": None, "meta": None}
    body = {
        "records": [record],
        "node": None,
        "idempotency_key": None,
        "create": None,
        "config": None,
    }
    assert api.post("/v0/topics/t", body).status_code == 201
    [stored] = api.diff("t", include_tags=True)["records"]
    assert stored["data"] is None
    assert set(stored) == {"$seq", "$ts", "data"}


@pytest.mark.parametrize("declared", ["", "text/plain", "application/jso"])
def test_the_content_type_must_be_json(api: Api, declared: str):
    answer = api.post("/v0/topics/t", b'{"records":[{"data":1}]}', content_type=declared)
    refused(answer, 415, "unsupported_media_type")
    # §2.6: judged before the JSON is.
    answer = api.post("/v0/topics/t", b"{", content_type=declared)
    refused(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "declared", ["application/json; charset=utf-8", " application/json", "APPLICATION/JSON"]
)
def test_parameters_and_case_of_the_content_type_do_not_matter(api: Api, declared: str):
    answer = api.post("/v0/topics/t", b'{"records":[{"data":1}]}', content_type=declared)
    assert answer.status_code == 201


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


def test_the_first_bad_record_decides(api: Api):
    """§12: per record, in order."""
    records = [{"data": 1}, {"data": "x" * 1_100_000}, {"data": 1, "tag": "x" * 300}]
    refused(api.post("/v0/topics/t", {"records": records}), 400, "record_too_large")


def test_a_topic_is_created_only_if_the_writer_lets_it(api: Api):
    """§12, ⚑13."""
    detail = refused(api.write("t", 1, create=False), 404, "topic_not_found")
    assert detail == {"topic": "t"}
    refused(api.write("t", 1, config={"auto_create": False}), 404, "topic_not_found")
    assert api.write("t", 1, create=True, config={"auto_create": False}).status_code == 201
    assert api.write("t", 1, create=False).status_code == 200


def test_a_config_counts_only_when_the_write_creates(api: Api):
    api.write("t", 1, config={"ttl_ms": 5000, "durability": "fsync", "type": "queue"})
    topic = Topic.objects.get()
    assert (topic.ttl_ms, topic.durability, topic.kind) == (5000, "fsync", "queue")
    api.write("t", 1, config={"ttl_ms": 1})
    assert Topic.objects.get().ttl_ms == 5000
    refused(api.write("t", 1, config={"ttl_ms": "1"}), 400, "invalid_request")


@pytest.mark.parametrize("name", ["-a", ".a", "a b", "ä", "a" * 256, "a%00b", "a%3Eb"])
def test_a_bad_name_is_refused_when_it_would_be_created(api: Api, name: str):
    """§5: create:false → 404 first, then the bad name → 400."""
    refused(api.write(name, 1, create=False), 404, "topic_not_found")
    refused(api.write(name, 1), 400, "invalid_request")


@pytest.mark.parametrize("name", ["a", "A.b_c:d-e", "0" * 255, "parcels%3Anorth"])
def test_names_are_decoded_and_may_be_long(api: Api, name: str):
    assert api.write(name, 1).status_code == 201


def test_the_dead_letter_topic_must_be_possible(api: Api):
    """§6."""
    detail = refused(api.write("q", 1, config={"dead_letter": "a b"}), 400, "invalid_request")
    assert detail == {"dead_letter": "a b"}
    config = {"type": "queue", "dead_letter": "q"}
    refused(api.write("q", 1, config=config), 400, "invalid_request")
    assert api.write("q", 1, config={"dead_letter": "q"}).status_code == 201


def test_fsync_topics_say_how_long_the_disk_took(api: Api):
    """§2.7."""
    answer = api.write("t", 1, config={"durability": "fsync"}).json()
    assert answer["performance"]["fsync_ms"] > 0
    assert api.write("t", 1).json()["performance"]["fsync_ms"] > 0


def test_acknowledged_seqs_are_reserved_before_the_disk_has_them(api: Api):
    """Appendix B.12: the ceiling is flushed, and 256 seqs later again."""
    api.write("t", 1)
    assert Topic.objects.get().reserved == 0 + 0  # the creation itself was flushed
    api.write("t", 1)
    assert Topic.objects.get().reserved == 2 + 256
    api.write("t", *range(300))
    topic = Topic.objects.get()
    assert topic.reserved == 302 + 256


# --- §2.10: idempotency --------------------------------------------------------------------------


def test_a_repeated_key_reports_the_first_write(api: Api):
    first = api.write("t", 1, 2, idempotency_key="k").json()
    api.write("t", 3)
    again = api.write("t", "another payload", idempotency_key="k")
    assert again.status_code == 200
    body = again.json()
    assert (body["deduped"], body["created"]) == (True, False)
    for member in ("first_seq", "last_seq", "seqs", "count", "head_seq"):
        assert body[member] == first[member]
    assert set(body["performance"]) == {"server_total_ms"}
    assert Event.objects.count() == 3


def test_the_body_key_wins_over_the_header(api: Api):
    api.post("/v0/topics/t", {"records": [{"data": 1}]}, Idempotency_Key="header")
    write = {"records": [{"data": 1}], "idempotency_key": "body"}
    assert not api.post("/v0/topics/t", write, Idempotency_Key="header").json()["deduped"]
    write = {"records": [{"data": 1}]}
    assert api.post("/v0/topics/t", write, Idempotency_Key="header").json()["deduped"]
    assert not api.post("/v0/topics/t", write, Idempotency_Key="h\x7f").json()["deduped"]
    assert not api.post("/v0/topics/t", write, Idempotency_Key="h\x7f").json()["deduped"]


@pytest.mark.parametrize("key", ["", "\0", "ü" * 128])
def test_any_string_of_256_bytes_is_a_key(api: Api, key: str):
    assert not api.write("t", 1, idempotency_key=key).json()["deduped"]
    assert api.write("t", 1, idempotency_key=key).json()["deduped"]


def test_a_longer_key_is_refused(api: Api):
    refused(api.write("t", 1, idempotency_key="x" * 257), 400, "invalid_request")
    body = {"records": [{"data": 1}]}
    refused(api.post("/v0/topics/t", body, Idempotency_Key="x" * 257), 400, "invalid_request")


def test_a_key_belongs_to_its_topic_and_its_incarnation(api: Api):
    api.write("t", 1, idempotency_key="k")
    assert not api.write("u", 1, idempotency_key="k").json()["deduped"]
    Topic.objects.get(name="t").delete()
    assert not api.write("t", 1, idempotency_key="k").json()["deduped"]


def test_a_key_is_forgotten_after_its_window(api: Api):
    """A hit requires now − created ≤ window, with the window of now."""
    api.write("t", 1, idempotency_key="k", config={"idempotency_window_ms": 1000})
    IdempotencyKey.objects.update(created_ts=0)
    assert api.write("t", 1, idempotency_key="k").json()["seqs"] == [2]
    assert api.write("t", 1, idempotency_key="k").json()["deduped"]
    IdempotencyKey.objects.update(created_ts=0)
    Topic.objects.update(idempotency_window_ms=2**64 - 1)
    assert api.write("t", 1, idempotency_key="k").json()["deduped"]


def test_of_concurrent_writes_with_one_key_one_appends(api: Api):
    answers = [
        api.begin("POST", "/v0/topics/t", {"records": [{"data": n}], "idempotency_key": "k"})
        for n in range(20)
    ]
    bodies = [answer.result(60).json() for answer in answers]
    assert [body["deduped"] for body in bodies].count(False) == 1
    assert {body["first_seq"] for body in bodies} == {1}
    assert Event.objects.count() == 1


def test_a_refused_write_remembers_nothing(api: Api):
    api.write("t", 1, config={"cap_records": 1, "discard": "reject"})
    refused(api.write("t", 1, idempotency_key="k"), 422, "topic_full")
    assert not IdempotencyKey.objects.exists()


# --- §8.3: full topics ---------------------------------------------------------------------------


def test_a_full_topic_that_rejects_says_how_full_it_is(api: Api):
    api.write("t", 1, 2, config={"cap_records": 3, "discard": "reject"})
    detail = refused(api.write("t", 3, 4), 422, "topic_full")
    assert detail == {
        "topic": "t",
        "cap_records": 3,
        "cap_bytes": 0,
        "head_seq": 2,
        "earliest_seq": 1,
    }
    assert api.write("t", 3).status_code == 200
    refused(api.write("t", 1, 2, 3, 4), 400, "record_too_large")  # could never fit
    assert Event.objects.count() == 3


def test_bytes_fill_a_topic_too(api: Api):
    api.write("t", "12345678", config={"cap_bytes": 20, "discard": "reject"})
    assert api.write("t", "12345678").status_code == 200
    refused(api.write("t", 1), 422, "topic_full")
    refused(api.write("t", "x" * 19), 400, "record_too_large")


def test_a_full_topic_that_discards_keeps_the_newest(api: Api):
    api.write("t", 1, 2, 3, 4, 5, config={"cap_records": 2})
    page = api.diff("t")
    assert [record["$seq"] for record in page["records"]] == [4, 5]
    assert page["earliest_seq"] == 4
    api.write("t", 6)
    assert [record["$seq"] for record in api.diff("t", from_seq=4)["records"]] == [5, 6]


def test_room_is_shared_out_in_order_of_arrival(api: Api):
    """Writes that go into one transaction are judged one after the other."""
    api.write("t", 0, config={"cap_records": 6, "discard": "reject"})
    answers = [api.begin("POST", "/v0/topics/t", {"records": [{"data": n}]}) for n in range(20)]
    statuses = [answer.result(60).status_code for answer in answers]
    assert statuses.count(200) == 5
    assert statuses.count(422) == 15


def test_a_refused_write_creates_no_topic(api: Api):
    """★22."""
    config = {"cap_bytes": 2, "discard": "reject"}
    refused(api.write("t", "xxxx", config=config), 400, "record_too_large")
    assert not Topic.objects.exists()
    assert api.write("t", 1, create=True).status_code == 201


# --- §4.2: caps ----------------------------------------------------------------------------------


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


# --- concurrency ---------------------------------------------------------------------------------


def test_one_bad_write_does_not_fail_its_neighbours(api: Api):
    api.write("good", 0)
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("good", {"records": [{"data": 1}]}),
        ("a%00b", {"records": [{"data": 1}]}),
        ("good", {"records": [{"data": 2}], "idempotency_key": "k"}),
        ("missing", {"records": [{"data": 1}], "create": False}),
        ("new", {"records": [{"data": 1}]}),
    ]
    answers = [api.begin("POST", f"/v0/topics/{name}", body) for name, body in bodies]
    assert [answer.result(60).status_code for answer in answers] == [200, 400, 200, 404, 201]


def test_seqs_are_contiguous_whoever_writes(api: Api):
    """§7.5, with writers over HTTP and in the service itself at once."""

    def write_inside() -> None:
        from django.db import connection, transaction

        for number in range(20):
            with transaction.atomic():
                services.append_events([services.NewEvent("t", str(number))])
        connection.close()

    thread = threading.Thread(target=write_inside)
    thread.start()
    answers = [
        api.begin("POST", f"/v0/topics/{'tu'[n % 2]}", {"records": [{"data": n}] * 3})
        for n in range(100)
    ]
    seqs = [answer.result(60).json() for answer in answers]
    thread.join()
    for name, total in (("t", 170), ("u", 150)):
        rows = Event.objects.filter(topic__name=name).order_by("seq")
        assert list(rows.values_list("seq", flat=True)) == list(range(1, total + 1))
    for answer in seqs:
        assert answer["seqs"] == list(range(answer["first_seq"], answer["first_seq"] + 3))
    by_seq = {
        seq: json.loads(data)
        for seq, data in Event.objects.filter(topic__name="u").values_list("seq", "data")
    }
    for number, answer in enumerate(seqs):
        if answer["topic"] == "u":
            assert {by_seq[seq] for seq in answer["seqs"]} == {number}


def test_after_a_crash_of_postgres_no_acknowledged_seq_is_used_again(api: Api):
    """§7.5, §9: a hole of at most 256."""
    api.write("t", 1)
    api.write("t", 2)
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM topics_intact")
    assert api.diff("t", from_seq=2)["next_from_seq"] == 258
    assert api.write("t", 3).json()["seqs"] == [259]
    assert api.diff("t", from_seq=2)["tombstone"] is None
