"""What the web process takes in before it knows who is calling."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn

from apps.stack.connections.head import MOST_HEAD_BYTES
from apps.stack.connections.protocol import PatientProtocol

if TYPE_CHECKING:
    from collections.abc import Iterator

START = b"GET /some/path HTTP/1.1\r\nHost: localhost\r\n"


async def hello(scope: Any, receive: Any, send: Any) -> None:
    headers = [(b"content-length", b"5")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"hello"})


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Greet; where a body is read, with the names of the headers that are there behind it."""
    if scope["path"] != "/body":
        await hello(scope, receive, send)
        return
    while (message := await receive()).get("more_body"):
        pass
    if message["type"] == "http.disconnect":
        return
    names = b" ".join(name for name, _ in scope["headers"])
    headers = [(b"content-length", b"%d" % len(names))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": names})


@contextmanager
def serving(app: Any, **options: Any) -> Iterator[int]:
    """Serve a small application, and give its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    usual: dict[str, Any] = {
        "ws": "none",
        "lifespan": "off",
        "log_config": None,
        "access_log": False,
        # Whatever is left open is a failure of the test, and not to be waited for.
        "timeout_graceful_shutdown": 5,
    }
    config = uvicorn.Config(app, http=PatientProtocol, **{**usual, **options})
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
    thread.start()
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serving(app) as port:
        yield port


def answer_to(port: int, *pieces: bytes) -> bytes:
    """Send pieces until the server hangs up, and return what it said."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        try:
            for piece in pieces:
                client.sendall(piece)
        except OSError:
            pass  # it has hung up already
        said = b""
        try:
            while part := client.recv(65536):
                said += part
        except ConnectionResetError:
            pass
        return said


def refusal(said: bytes) -> tuple[int, str]:
    head, _, body = said.partition(b"\r\n\r\n")
    assert b"content-type: application/json" in head
    return int(head.split()[1]), json.loads(body)["error"]["code"]


def test_a_usual_head_is_answered(port):
    long = b"X-Long: " + b"x" * (MOST_HEAD_BYTES // 2) + b"\r\n"
    said = answer_to(port, START, long, b"Connection: close\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 200")
    assert said.endswith(b"hello")


@pytest.mark.parametrize(
    "pieces",
    [
        [START, b"X: " + b"x" * MOST_HEAD_BYTES, b"\r\n\r\n"],
        [START, *[b"X: x\r\n" * 2000] * 20, b"\r\n"],
        [b"GET /" + b"x" * (2 * MOST_HEAD_BYTES)],
        [b"GET /", *[b"x" * 1000] * 1000],
    ],
    ids=["one header", "many headers", "one url", "a url in pieces"],
)
def test_a_head_that_is_too_long_is_refused_as_soon_as_it_is(port, pieces):
    said = answer_to(port, *pieces)
    # A client that still sends may hear of the hanging up before it reads the answer.
    assert said == b"" or refusal(said) == (431, "head_too_large")


def test_a_refused_head_is_told_why(port):
    whole = START + b"X: " + b"x" * MOST_HEAD_BYTES + b"\r\n\r\n"
    assert refusal(answer_to(port, whole)) == (431, "head_too_large")


def test_many_small_headers_are_a_long_head(port):
    few, many = (START + b"a:\r\n" * count + b"Connection: close\r\n\r\n" for count in (1000, 2000))
    assert answer_to(port, few).endswith(b"hello")
    assert refusal(answer_to(port, many)) == (431, "head_too_large")


def test_what_is_no_http_is_refused_in_json(port):
    for said in (b"hello?\r\n\r\n", b"\x16\x03\x01\x02\x00", b"\x00"):
        assert refusal(answer_to(port, said)) == (400, "invalid_request")


@pytest.mark.parametrize("path", [b"/runs", b"/api/v1/pipelines/"])
def test_what_an_application_does_not_answer_is_told_in_json(path):
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("on purpose")

    with serving(broken) as port:
        said = answer_to(port, b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % path)
    body = json.loads(said.partition(b"\r\n\r\n")[2])
    assert said.startswith(b"HTTP/1.1 500 ")
    assert "internal" in (body.get("error_code"), body.get("error", {}).get("code"))


V1 = b"GET /api/v1/pipelines/?limit=5 HTTP/1.1\r\nX-Correlation-ID: mine\r\nHost: localhost\r\n"


def refusal_on_v1(said: bytes) -> tuple[int, dict[str, Any]]:
    head, _, body = said.partition(b"\r\n\r\n")
    assert b"x-correlation-id: mine\r\n" in head
    return int(head.split()[1]), json.loads(body)


def test_under_api_v1_it_is_refused_as_everything_there_is(port):
    status, body = refusal_on_v1(
        answer_to(port, V1 + b"X: " + b"x" * MOST_HEAD_BYTES + b"\r\n\r\n")
    )
    assert status == 431
    assert body.keys() == {"detail", "error_code", "correlation_id", "timestamp"}
    assert (body["error_code"], body["correlation_id"]) == ("head_too_large", "mine")
    status, body = refusal_on_v1(answer_to(port, V1 + b"no header\r\n\r\n"))
    assert status == 422
    assert body["detail"][0]["msg"] == "not an HTTP request"


@pytest.mark.parametrize(
    "line",
    [b"GET /api/v1/events/" + b"x" * 2 * MOST_HEAD_BYTES, b"GET /api/v1/events/ SPDY/3\r\n\r\n"],
)
def test_of_a_request_line_the_path_counts_as_far_as_it_has_come(port, line):
    said = answer_to(port, line)
    assert said == b"" or "detail" in json.loads(said.partition(b"\r\n\r\n")[2])


def test_the_path_of_the_request_before_says_nothing(port):
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(V1 + b"\r\n")
        answer = b""
        while not answer.endswith(b"hello"):
            answer += client.recv(65536)
        client.sendall(b"hello?\r\n\r\n")
        assert refusal(client.recv(65536)) == (400, "invalid_request")


@pytest.mark.parametrize("pieces", [[], [b"GET / HT"], [START, b"X: y\r\n"]])
def test_a_client_that_does_not_finish_a_head_is_given_up(port, pieces, settings):
    settings.GYOZA_STALLED_SECONDS = 0.05
    assert answer_to(port, *pieces) == b""


def test_a_second_request_on_the_connection_counts_from_zero(port):
    request = START + b"X: " + b"x" * (MOST_HEAD_BYTES - 1000) + b"\r\n\r\n"
    last = START + b"Connection: close\r\n\r\n"
    assert answer_to(port, request, request, last).count(b"hello") == 3


CHUNKED = (
    b"POST /body HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n"
)


def test_trailers_do_not_pass_for_headers(port):
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(CHUNKED + b"0\r\nX-Api-Key: somebody else's\r\n\r\n")
        answer = b""
        while not answer.endswith(b"\r\n\r\nhost transfer-encoding"):
            piece = client.recv(65536)
            assert piece, answer
            answer += piece


@pytest.mark.parametrize(
    "pieces",
    [
        [b"0\r\n", *[b"X: x\r\n" * 2000] * 20],
        [b"0\r\nX: ", *[b"x" * 10_000] * 20],
        [b"4;", *[b"x" * 10_000] * 20],
    ],
    ids=["many trailers", "one trailer", "an extension of a chunk"],
)
def test_what_is_around_a_body_is_limited_like_a_head(port, pieces):
    said = answer_to(port, CHUNKED, *pieces)
    assert said == b"" or refusal(said) == (431, "head_too_large")


def test_a_client_that_does_not_begin_a_body_is_given_up(port, settings):
    settings.GYOZA_STALLED_SECONDS = 0.05
    head = b"POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n"
    assert refusal(answer_to(port, head)) == (408, "request_timeout")


WITH_BODY = b"POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbody"


@pytest.mark.parametrize("behind", [b"hello?\r\n\r\n", b"er", b"GET / HTTP/9.9\r\n\r\n"])
@pytest.mark.parametrize("requests", [1, 3])
def test_what_is_no_request_leaves_those_before_it_their_answers(port, requests, behind):
    """Its refusal would pass for one of them."""
    said = answer_to(port, WITH_BODY * requests + behind)
    assert said.count(b"HTTP/1.1 200 OK") == requests
    assert said.endswith(b"host content-length")
    assert b"HTTP/1.1 4" not in said
    assert said.count(b"connection: close") == 1


def test_endless_nonsense_behind_a_request_is_not_listened_to(port):
    assert answer_to(port, WITH_BODY + b"?" * 65536, *[b"?" * 65536] * 100).count(b"HTTP/1.1") <= 1


def drip_until_the_end(client: socket.socket, piece: bytes) -> bytes:
    """Send a piece now and then until the server hangs up; return what it has said."""
    said = b""
    client.settimeout(0.01)
    for _ in range(3000):
        try:
            part = client.recv(65536)
        except TimeoutError:
            client.sendall(piece)
        except ConnectionResetError:
            return said
        else:
            if not part:
                return said
            said += part
    raise AssertionError("the server still listens")


UNREAD = b"POST /some/path HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"Content-Length: 1000000\r\n\r\n", b"x"),
        (b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    ],
)
def test_a_body_that_drips_behind_its_answer_is_not_waited_for(port, settings, head, piece):
    settings.GYOZA_STALLED_SECONDS = 0.2
    settings.GYOZA_BODY_BYTES_PER_SECOND = 10**6
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(UNREAD + head)
        assert drip_until_the_end(client, piece).endswith(b"hello")


def test_a_body_that_stops_behind_its_answer_is_not_waited_for(port, settings):
    settings.GYOZA_STALLED_SECONDS = 0.2
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(UNREAD + b"Content-Length: 1000000\r\n\r\n")
        said = b""
        while not said.endswith(b"hello"):
            said += client.recv(65536)
        client.sendall(b"x")
        assert client.recv(65536) == b""


def test_a_body_that_comes_behind_its_answer_leaves_the_connection_to_others(port):
    body = b"x" * 5_000_000
    request = UNREAD + b"Content-Length: %d\r\n\r\n" % len(body)
    assert answer_to(port, request, body, START + b"Connection: close\r\n\r\n").count(b"hello") == 2


def test_a_connection_is_not_kept_for_ever_behind_such_a_body():
    with (
        serving(hello, timeout_keep_alive=0.2) as port,
        socket.create_connection(("127.0.0.1", port), timeout=30) as client,
    ):
        client.sendall(UNREAD + b"Content-Length: 2\r\n\r\n")
        said = b""
        while not said.endswith(b"hello"):
            said += client.recv(65536)
        client.sendall(b"x")
        client.sendall(b"x")
        assert client.recv(65536) == b""


@pytest.mark.parametrize("line", [b"POST / HTTP/1.0", b"POST / HTTP/1.1\r\nConnection: close"])
def test_the_last_answer_is_heard_by_a_client_that_still_sends(port, line):
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(line + b"\r\nHost: x\r\nContent-Length: 20000000\r\n\r\n")
        for _ in range(20):
            client.sendall(b"x" * 1_000_000)
        said = b""
        while part := client.recv(65536):
            said += part
    assert said.endswith(b"hello")
    assert said.count(b"connection: close") == 1


def test_a_refusal_is_heard_by_a_client_that_still_sends(port):
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(UNREAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n")
        for _ in range(20):
            client.sendall(b"x" * 1_000_000)
        said = b""
        while part := client.recv(65536):
            said += part
    assert refusal(said) == (501, "unimplemented")


def test_a_client_that_does_not_hang_up_is_hung_up_on(port, monkeypatch):
    monkeypatch.setattr("apps.stack.connections.head.LINGER_SECONDS", 0.2)
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(b"hello?\r\n\r\n")
        while client.recv(65536):
            pass
        assert not has_room_for_ever(client)


def has_room_for_ever(client: socket.socket) -> bool:
    end = time.monotonic() + 30
    try:
        while time.monotonic() < end:
            client.sendall(b"x")
    except ConnectionError:
        return False
    return True


def test_empty_lines_do_not_keep_a_connection():
    with (
        serving(hello, timeout_keep_alive=0.2) as port,
        socket.create_connection(("127.0.0.1", port), timeout=30) as client,
    ):
        client.sendall(START + b"\r\n")
        assert drip_until_the_end(client, b"\r\n").endswith(b"hello")


def test_an_empty_line_before_a_request_is_passed_over(port):
    assert answer_to(port, b"\r\n" + START + b"Connection: close\r\n\r\n").endswith(b"hello")
