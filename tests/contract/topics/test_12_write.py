"""topics v0 §12: write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from apps.topics.models import Topic
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
