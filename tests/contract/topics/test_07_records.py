"""topics v0 §7: records, what they hold and how they are numbered."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

import pytest

from apps.topics import services
from apps.topics.models import Event, Topic

if TYPE_CHECKING:
    from tests.contract.topics.conftest import Api


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
