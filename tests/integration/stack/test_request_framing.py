"""Where a request ends and for whom it is: whatever two readers could read in two ways is refused (RFC 9112 §3.2, §6)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.stack.test_request_heads import answer_to, refusal, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNKS = b"1\r\na\r\n0\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Tell what was understood of a request."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    names = sorted(name.decode() for name, _ in scope["headers"])
    hosts = [value.decode() for name, value in scope["headers"] if name == b"host"]
    told = json.dumps([scope["method"], scope["path"], body.decode(), names, hosts]).encode()
    headers = [(b"content-length", b"%d" % len(told))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": told})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serving(echo) as port:
        yield port


def post(
    *lines: bytes, body: bytes = CHUNKS, version: bytes = b"1.1", path: bytes = b"/a"
) -> bytes:
    head = [b"POST %b HTTP/%b" % (path, version), b"Host: x", *lines, b"", body]
    return b"\r\n".join(head)


def understood(said: bytes) -> list[list[Any]]:
    """Return what the server tells of the requests that it took."""
    answers = [part for part in said.split(b"HTTP/1.1 ") if part]
    assert all(answer.startswith(b"200") for answer in answers), said
    return [json.loads(answer.partition(b"\r\n\r\n")[2]) for answer in answers]


@pytest.mark.parametrize(
    "lines",
    [
        [b"Transfer-Encoding: gzip, chunked"],
        [b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked"],
        [b"transfer-encoding: , chunked"],
    ],
)
def test_a_transfer_coding_that_nobody_undoes_is_unimplemented(port, lines):
    assert refusal(answer_to(port, post(*lines) + NEXT)) == (501, "unimplemented")


def test_under_api_v1_that_is_said_as_everything_there_is(port):
    said = answer_to(port, post(b"Transfer-Encoding: gzip, chunked", path=b"/api/v1/pipelines/"))
    assert said.startswith(b"HTTP/1.1 501 ")
    body = json.loads(said.partition(b"\r\n\r\n")[2])
    assert body.keys() == {"detail", "error_code", "correlation_id", "timestamp"}
    assert body["error_code"] == "unimplemented"


@pytest.mark.parametrize(
    "lines",
    [
        [b"Transfer-Encoding: gzip"],
        [b"Transfer-Encoding: chunked, gzip"],
        [b"Transfer-Encoding: chunked, chunked"],
        [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: identity"],
        [b"Transfer-Encoding:"],
        [b"Transfer-Encoding: xchunked"],
        [b"Transfer-Encoding: \x0bchunked"],
        [b"Transfer-Encoding : chunked"],
        [b"Transfer-Encoding:\r\n chunked"],
        [b"X: a\r\n b", b"Content-Length: 11"],
        [b"X: a\rContent-Length: 11", b"Transfer-Encoding: chunked"],
        [b"X: a\nContent-Length: 11"],
        [b"X: a\0b", b"Content-Length: 11"],
        [b"Transfer-Encoding: chunked", b"Content-Length: 11"],
        [b"Content-Length: 11", b"Transfer-Encoding: chunked"],
        [b"Content-Length: 11", b"Content-Length: 11"],
        [b"Content-Length: 11, 11"],
        [b"Content-Length: +11"],
        [b"Content-Length: 99999999999999999999999"],
    ],
)
def test_a_body_of_uncertain_length_is_refused(port, lines):
    assert refusal(answer_to(port, post(*lines) + NEXT)) == (400, "invalid_request")


@pytest.mark.parametrize(
    "chunks",
    [b"0x1\r\na\r\n0\r\n\r\n", b"1\na\n0\n\n", b"1 \r\na\r\n0\r\n\r\n", b"1\r\naXX0\r\n\r\n"],
)
def test_chunks_are_read_strictly(port, chunks):
    said = answer_to(port, post(b"Transfer-Encoding: chunked", body=chunks) + NEXT)
    assert refusal(said) == (400, "invalid_request")


def test_http_1_0_has_no_chunks(port):
    request = post(b"Connection: keep-alive", b"Transfer-Encoding: chunked", version=b"1.0")
    assert refusal(answer_to(port, request + NEXT)) == (400, "invalid_request")


def test_http_1_0_is_not_told_to_continue(port):
    request = post(b"Expect: 100-continue", b"Content-Length: 1", version=b"1.0", body=b"a")
    assert understood(answer_to(port, request))[0][2] == "a"


def test_chunked_is_read_in_any_case(port):
    said = understood(answer_to(port, post(b"transfer-encoding: Chunked") + NEXT))
    assert [(path, body) for _, path, body, *_ in said] == [("/a", "a"), ("/next", "")]


@pytest.mark.parametrize("hosts", [b"", b"Host: a\r\nHost: b\r\n", b"Host: a\r\nHost: a\r\n"])
def test_a_request_has_one_host(port, hosts):
    said = answer_to(port, b"GET /a HTTP/1.1\r\n" + hosts + b"\r\n")
    assert refusal(said) == (400, "invalid_request")


@pytest.mark.parametrize(
    ("target", "host"),
    [(b"/a", "x"), (b"http://elsewhere:80/a?b", "elsewhere:80"), (b"/http://y/", "x")],
)
def test_the_host_of_a_target_counts(port, target, host):
    said = answer_to(port, b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % target)
    assert understood(said)[0][4] == [host]


def test_http_1_0_needs_no_host(port):
    assert understood(answer_to(port, b"GET /a HTTP/1.0\r\n\r\n"))[0][:2] == ["GET", "/a"]


@pytest.mark.parametrize("line", [b"GET /a", b"GET /a HTTP/2.0", b"GET /a HTTP/0.9"])
def test_other_versions_are_refused(port, line):
    assert refusal(answer_to(port, line + b"\r\nHost: x\r\n\r\n")) == (400, "invalid_request")


@pytest.mark.parametrize("target", [b"elsewhere:443", b"/a"])
def test_nothing_is_connected_to(port, target):
    said = answer_to(port, b"CONNECT %b HTTP/1.1\r\nHost: x\r\n\r\n" % target + NEXT)
    assert refusal(said) == (501, "unimplemented")


@pytest.mark.parametrize(
    ("length", "body"), [(b"Content-Length: 3", b"abc"), (b"Transfer-Encoding: chunked", CHUNKS)]
)
@pytest.mark.parametrize("wish", [b"h2c", b"websocket", b"TLS/1.0"])
def test_a_wish_for_another_protocol_costs_no_body(port, wish, length, body):
    """The body would pass for the next request else."""
    request = post(b"Connection: Upgrade", b"Upgrade: " + wish, length, body=body)
    for pieces in ([request + NEXT], [request[: -len(body)], body, NEXT]):
        first, second = understood(answer_to(port, *pieces))
        assert first[:3] == ["POST", "/a", "abc" if body == b"abc" else "a"]
        assert "upgrade" not in first[3]
        assert second[:2] == ["GET", "/next"]


def test_wishes_may_follow_one_upon_another(port):
    wish = b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    assert len(understood(answer_to(port, wish * 3000 + NEXT))) == 3001


@pytest.mark.parametrize(
    "pieces",
    [
        [b"GET /api/v1/caf\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n"],
        [b"GET /api/v1/", b"caf\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n"],
        [b"GET /api/v1/x?a=\xff HTTP/1.1\r\nHost: x\r\n\r\n"],
        [b"GET http://x/api/v1/\xff HTTP/1.1\r\nHost: x\r\n\r\n"],
        [b"JUMP /api/v1/x HTTP/1.1\r\nHost: x\r\n\r\n"],
    ],
)
def test_what_no_parser_takes_has_a_path_all_the_same(port, pieces):
    said = answer_to(port, *pieces)
    assert said.startswith(b"HTTP/1.1 422 ")
    assert "loc" in json.loads(said.partition(b"\r\n\r\n")[2])["detail"][0]
