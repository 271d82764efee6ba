"""topics v0 §2.2 with a client that means harm: every endpoint refuses in JSON, and nothing is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from apps.topics.models import Event, Topic
from tests.contract.topics.conftest import JSON

if TYPE_CHECKING:
    from tests.contract.topics.conftest import Api

ENDPOINTS = [
    ("PUT", "/v0/topics/new"),
    ("POST", "/v0/topics/new"),
    ("POST", "/v0/topics/t/diff"),
    ("POST", "/v0/topics/t/delete"),
]
# The members that take numbers, of every endpoint.
NUMBERS = {
    "PUT": ("ttl_ms", "cap_records", "cap_bytes", "idempotency_window_ms", "lease_ms", "priority"),
    "/v0/topics/t/diff": ("from_seq", "limit", "wait_ms", "max_batch_bytes"),
    "/v0/topics/t/delete": ("before_seq",),
}
NOT_JSON = [
    b"{",
    b"}",
    b'"',
    b"nul",
    b"{'a':1}",
    b'{"a":1,}',
    b'{"a"}',
    b"{a:1}",
    b'{"a":01}',
    b'{"a":+1}',
    b'{"a":.5}',
    b'{"a":NaN}',
    b'{"a":Infinity}',
    b'{"a":"\x00"}',
    b'{"a":"\n"}',
    b'{"a":"\\x"}',
    b'{"a":"\\ud800"}',
    b'{"a":"\xff"}',
    b'{"a":"\xed\xa0\x80"}',
    b'{"a":"\xc0\xaf"}',
    b"\xef\xbb\xbf{}",
    b"\xff\xfe{\x00}\x00",
    b"{} {}",
    b"{}\x00",
    b"/**/{}",
    b'{"a":' * 200_000,
    b"[" * 200_000,
    b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b"1" * 100_000,
]
NOT_AN_OBJECT = [b"[]", b"null", b"true", b"1", b'"x"', b"[{}]"]
NOT_WHOLE = [
    "1.0",
    "1e3",
    "-1.5",
    "-0.0",
    '"1"',
    "true",
    "[]",
    "{}",
    "18446744073709551616",
    "9" * 4_000,
]


def refused(answer: Any) -> None:
    assert answer.headers["content-type"] == JSON
    assert answer.status_code in {400, 413}, answer.text[:200]
    assert answer.json()["error"]["code"] in {"invalid_request", "payload_too_large"}


@pytest.mark.parametrize("body", NOT_JSON + NOT_AN_OBJECT, ids=lambda body: repr(body[:24]))
def test_what_is_no_json_object_is_refused_everywhere(api: Api, body: bytes):
    api.write("t", 1)
    for method, path in ENDPOINTS:
        answer = api.call(method, path, body, content_type=JSON)
        refused(answer)
    assert not Topic.objects.filter(name="new").exists()
    assert Event.objects.count() == 1


@pytest.mark.parametrize("number", NOT_WHOLE, ids=lambda number: number[:24])
def test_what_is_no_unsigned_integer_is_refused_everywhere(api: Api, number: str):
    """Integers are written as integers: not 5.0, 1e3, "5"; and end at 2^64."""
    api.write("t", 1)
    for method, path in ENDPOINTS:
        for name in NUMBERS.get(path, NUMBERS.get(method, ())):
            refused(api.call(method, path, f'{{"{name}":{number}}}'.encode()))
            if name != "priority":
                refused(api.call(method, path, f'{{"{name}":-1}}'.encode()))
    body = f'{{"records":[{{"data":1}}],"config":{{"cap_bytes":{number}}}}}'.encode()
    refused(api.post("/v0/topics/new", body))
    assert not Topic.objects.filter(name="new").exists()


def test_of_a_member_that_comes_twice_the_last_counts(api: Api):
    """§2.2: in the body, in a record, in a config."""
    body = b'{"records":[{"data":1}],"records":[{"data":2,"data":3,"tag":"a","tag":"b"}],"config":{"ttl_ms":1,"ttl_ms":0}}'
    assert api.post("/v0/topics/t", body).status_code == 201
    page = api.post("/v0/topics/t/diff", b'{"from_seq":9,"from_seq":0,"include_tags":true}').json()
    assert [(r["data"], r["$tag"]) for r in page["records"]] == [(3, "b")]
    api.put("/v0/topics/t", b'{"ttl_ms":5,"ttl_ms":0}')
    assert api.state("t")["config"]["ttl_ms"] == 0


@pytest.mark.parametrize(
    "data",
    [
        b"9" * 4_000,
        b"-0.0e-999",
        b"1e999999",
        b'"' + b"\\u0000" * 1000 + b'"',
        b'{"' + b"k" * 100_000 + b'":1}',
        b"[" + b"0," * 200_000 + b"0]",
        b'{"$seq":5,"$ts":0,"$type":"x"}',
        b'"</script>"',
        b'"\xe2\x80\xa8"',
    ],
    ids=lambda data: repr(data[:20]),
)
def test_what_json_allows_is_kept_as_it_is(api: Api, data: bytes):
    assert api.post("/v0/topics/t", b'{"records":[{"data":%b}]}' % data).status_code == 201
    assert b'"data":%b}' % data in api.post("/v0/topics/t/diff", {}).content


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v0/topics/t/diff", b'{"node":[%b""]}'),
        ("/v0/topics/t/delete", b'{"match":[%b""]}'),
        ("/v0/watch", b'{"topics":{"t":{}},"node":[%b""]}'),
    ],
)
def test_a_list_has_an_end(api: Api, path: str, body: bytes):
    """Else one request could fill the memory, and hold up all others while it is read."""
    api.write("t", 1)
    answer = api.post(path, body % (b'"",' * 10_001))
    refused(answer)
    assert "10000" in answer.json()["error"]["message"]
    if path != "/v0/topics/t/delete":
        assert api.post(path, body % (b'"",' * 9_000)).status_code == 200


@pytest.mark.parametrize(
    "query",
    [
        "?return_seqs=%00",
        "?return_seqs[]=1",
        "?touch=2&touch",
        "?" + "a=1&" * 900,
        "?%FF=%FE",
        "?page_size=" + "9" * 5_000,
        "?prefix=%F0%9F%98%80&cursor=",
        "?&&&=&=",
        "?if_empty=TRUE",
    ],
    ids=lambda query: query[:20],
)
def test_a_strange_query_is_no_error(api: Api, query: str):
    """§2.3: what does not parse is the default."""
    assert api.post(f"/v0/topics/t{query}", b'{"records":[{"data":1}]}').status_code == 201
    assert api.get(f"/v0/topics/t{query}").status_code == 200
    assert api.get(f"/v0/topics{query}").status_code == 200
    assert api.delete(f"/v0/topics/t{query}").json()["deleted"] is True


@pytest.mark.parametrize(
    "path",
    [
        "/v0/topics/%00",
        "/v0/topics/%FF",
        "/v0/topics/%C0%AF",
        "/v0/topics/..%2F..%2Fetc",
        "/v0/topics/%2E%2E",
        "/v0/topics/a%0D%0AX-Evil:%201",
        "/v0/topics/" + "a" * 60_000,
        "/v0/topics/%25%30%30",
        "/v0/topics/a;b",
        "/v0/topics/a|b'\"",
    ],
    ids=lambda path: path[:40],
)
def test_a_strange_name_is_no_topic(api: Api, path: str):
    for method, body in (("GET", None), ("PUT", {}), ("DELETE", None)):
        answer = api.call(method, path, body)
        assert answer.status_code in {200, 400, 404}
        assert answer.headers["content-type"] == JSON
        assert "x-evil" not in answer.headers
    assert api.post(f"{path}/diff", {}).status_code == 404
    assert not Topic.objects.exists()


@pytest.mark.parametrize("member", ["data", "meta"])
@pytest.mark.parametrize("blank", ["", " "])
def test_a_record_is_nested_500_deep_at_most(api: Api, member: str, blank: str):
    def write(depth: int) -> Any:
        value = "[" * depth + blank + "]" * depth
        other = "" if member == "data" else '"data": 1, '
        return api.post("/v0/topics/t", f'{{"records": [{{{other}"{member}": {value}}}]}}'.encode())

    assert write(500).status_code == 201
    for depth in (501, *range(960, 1000)):
        answer = write(depth)
        assert answer.status_code == 400
        assert "nested" in answer.json()["error"]["message"]
