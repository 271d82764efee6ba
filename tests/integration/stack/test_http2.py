"""HTTP/2 by prior knowledge on the port of HTTP/1.1 (topics v0 §2.1), with a small application."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings
import httpx
import pytest
import uvicorn
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
)

from apps.stack.connections.head import MOST_HEAD_BYTES
from apps.stack.connections.http2.protocol import MOST_STREAMS, PREFACE, TABLE_BYTES, Http2Protocol
from apps.stack.connections.http2.toll import BURST, MOST_FRAME_BYTES, RESET_PRICE
from apps.stack.connections.protocol import PatientProtocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from h2.events import Event


class App:
    """Echoes, streams, waits: as the path says. Knows what it was asked and what is under way."""

    def __init__(self) -> None:
        self.scopes: list[Any] = []
        self.open = 0
        self.disconnects = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        self.open += 1
        try:
            await ANSWERS[scope["path"]](receive, send)
        finally:
            self.open -= 1

    async def echo(self, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.disconnects += 1
                return
            body, more = body + message["body"], message["more_body"]
        length = str(len(body)).encode()
        headers = [(b"Content-Length", length), (b"connection", b"close"), (b"x-kind", b"echo")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def early(self, receive: Any, send: Any) -> None:
        """Refuse a body unread."""
        await send({"type": "http.response.start", "status": 413, "headers": []})
        await send({"type": "http.response.body", "body": b"too much"})

    async def stream(self, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(3):
            await send({"type": "http.response.body", "body": b"%d\n" % number, "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        self.disconnects += 1

    async def large(self, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(64):
            await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def nothing(self, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def broken(self, receive: Any, send: Any) -> None:
        raise RuntimeError("on purpose")

    async def broken_off(self, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})


APP = App()
ANSWERS = {
    "/echo": APP.echo,
    "/é x": APP.echo,
    "/early": APP.early,
    "/stream": APP.stream,
    "/large": APP.large,
    "/nothing": APP.nothing,
    "/broken": APP.broken,
    "/broken-off": APP.broken_off,
}


class Server(uvicorn.Server):
    def install_signal_handlers(self) -> None:
        """It isn't in the main thread."""


@contextmanager
def serving() -> Iterator[tuple[int, Server]]:
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        APP,
        http=PatientProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=5,
    )
    server = Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
    thread.start()
    try:
        yield listener.getsockname()[1], server
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serving() as (number, _):
        yield number


@pytest.fixture
def http(port: int) -> Iterator[httpx.Client]:
    with httpx.Client(
        http1=False, http2=True, base_url=f"http://127.0.0.1:{port}", timeout=30
    ) as client:
        yield client


class Raw:
    """A client that sends what it likes."""

    def __init__(self, port: int, *, preface: bool = True) -> None:
        self.link = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        )
        self.waiting: list[Event] = []
        if preface:
            self.h2.initiate_connection()
            self.flush()

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.link.close()

    def flush(self) -> None:
        self.link.sendall(self.h2.data_to_send())

    def ask(
        self, path: str, *headers: tuple[str, str], ends: bool = True, method: str = "GET"
    ) -> int:
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(
            stream,
            [
                (":method", method),
                (":scheme", "http"),
                (":authority", "localhost"),
                (":path", path),
                *headers,
            ],
            end_stream=ends,
        )
        return stream

    def get(self, *args: Any, **options: Any) -> int:
        stream = self.ask(*args, **options)
        self.flush()
        return stream

    def until(self, kind: type[Event], **members: Any) -> Any:
        """Return the next event of a kind; None when the server hangs up."""
        while True:
            while self.waiting:
                event = self.waiting.pop(0)
                if isinstance(event, kind) and all(
                    getattr(event, name) == value for name, value in members.items()
                ):
                    return event
            try:
                data = self.link.recv(65_536)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self.waiting += self.h2.receive_data(data)

    def end(self) -> int | None:
        """Return the code of the server's goodbye."""
        event = self.until(h2.events.ConnectionTerminated)
        return None if event is None else event.error_code

    def try_to_send(self, data: bytes) -> None:
        with suppress(OSError):  # it has hung up
            self.link.sendall(data)


@pytest.fixture
def raw(port: int) -> Iterator[Raw]:
    with Raw(port) as client:
        yield client


CALM = h2.errors.ErrorCodes.ENHANCE_YOUR_CALM


# --- Requests and answers


def test_both_versions_are_spoken_on_one_port(port: int, http: httpx.Client):
    answer = http.post("/echo", content=b"two")
    assert (answer.http_version, answer.content) == ("HTTP/2", b"two")
    answer = httpx.post(f"http://127.0.0.1:{port}/echo", content=b"one")
    assert (answer.http_version, answer.content) == ("HTTP/1.1", b"one")


def test_the_scope_is_that_of_http_1(http: httpx.Client):
    http.get("/é x?q=1&r=%20", headers={"X-Mine": "yes", "Cookie": "a=1; b=2"})
    scope = APP.scopes[-1]
    headers = dict(scope["headers"])
    assert (scope["method"], scope["scheme"], scope["http_version"]) == ("GET", "http", "2")
    assert (scope["path"], scope["raw_path"]) == ("/é x", b"/%C3%A9%20x")
    assert scope["query_string"] == b"q=1&r=%20"
    assert headers[b"host"].startswith(b"127.0.0.1:")
    assert (headers[b"x-mine"], headers[b"cookie"]) == (b"yes", b"a=1; b=2")
    assert scope["client"][0] == "127.0.0.1"
    assert not any(name.startswith(b":") for name in headers)


def test_cookies_that_come_apart_are_one(raw: Raw):
    stream = raw.get("/echo", ("cookie", "a=1"), ("cookie", "b=2"))
    raw.until(h2.events.StreamEnded, stream_id=stream)
    assert dict(APP.scopes[-1]["headers"])[b"cookie"] == b"a=1; b=2"


def test_headers_of_a_connection_are_left_out(http: httpx.Client):
    answer = http.post("/echo", content=b"x")
    assert "connection" not in answer.headers
    assert (answer.headers["content-length"], answer.headers["x-kind"]) == ("1", "echo")


def test_large_bodies_pass_both_ways(http: httpx.Client):
    body = bytes(range(256)) * 20_000
    assert http.post("/echo", content=body).content == body
    assert len(http.get("/large").content) == 64 * 65_536


def test_many_requests_are_answered_at_once(port: int):
    async def ask() -> list[bytes]:
        async with httpx.AsyncClient(
            http1=False, http2=True, base_url=f"http://127.0.0.1:{port}", timeout=30
        ) as client:
            found = await asyncio.gather(
                *(client.post("/echo", content=b"%d" % n * 1000) for n in range(300))
            )
            return [answer.content for answer in found]

    assert asyncio.run(ask()) == [b"%d" % n * 1000 for n in range(300)]


def test_small_requests_cost_their_client_nothing(raw: Raw):
    """Two frames each that carry next to nothing, and many more than the budget has."""
    for _ in range(30):
        for _ in range(MOST_STREAMS):
            stream = raw.ask("/echo", ends=False, method="POST")
            raw.h2.send_data(stream, b"x")
            raw.h2.end_stream(stream)
        raw.flush()
        assert raw.until(h2.events.StreamEnded, stream_id=stream)


def test_head_and_204_have_no_body(http: httpx.Client):
    assert http.head("/echo").content == b""
    assert http.get("/nothing").status_code == 204


def test_a_body_that_is_refused_unread_is_let_pass(http: httpx.Client):
    answer = http.post("/early", content=b"x" * 10_000_000)
    assert (answer.status_code, answer.content) == (413, b"too much")
    assert http.post("/echo", content=b"x").content == b"x"


def test_a_failing_application_is_told_as_everywhere(http: httpx.Client, raw: Raw):
    answer = http.get("/broken")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
    stream = raw.get("/broken-off")
    assert raw.until(h2.events.StreamReset, stream_id=stream).error_code == 2


def refused(raw: Raw, stream: int) -> tuple[int, Any]:
    """Return status and body of an answer in JSON, which leaves the connection as it was."""
    head = dict(raw.until(h2.events.ResponseReceived, stream_id=stream).headers)
    assert head["content-type"] == "application/json"
    assert head["x-correlation-id"]
    body = b""
    while len(body) < int(head["content-length"]):
        body += raw.until(h2.events.DataReceived, stream_id=stream).data
    assert raw.until(h2.events.StreamEnded, stream_id=raw.get("/echo"))
    return int(head[":status"]), json.loads(body)


@pytest.mark.parametrize("path", ["*", "nowhere", "http://x/", "/\xff"])
def test_a_target_that_is_none_is_refused(raw: Raw, path: str):
    raw.h2.config.validate_outbound_headers = False
    status, body = refused(raw, raw.get(path))
    assert (status, body["error"]["code"]) == (400, "invalid_request")


def test_no_target_at_all_is_none_to_h2_already(raw: Raw):
    raw.h2.config.validate_outbound_headers = False
    raw.get("")
    assert raw.end() is not None


def test_nothing_is_connected_to(raw: Raw):
    stream = raw.h2.get_next_available_stream_id()
    raw.h2.send_headers(stream, [(":method", "CONNECT"), (":authority", "elsewhere:443")])
    raw.flush()
    status, body = refused(raw, stream)
    assert (status, body["error"]["code"]) == (501, "unimplemented")


# --- Streams, clients that leave, clients that don't take


def test_a_stream_comes_as_it_is_made_and_ends_with_its_client(http: httpx.Client):
    before = APP.disconnects
    with http.stream("GET", "/stream") as answer:
        lines = answer.iter_lines()
        assert [next(lines) for _ in range(3)] == ["0", "1", "2"]
        # Others are answered beside it.
        assert http.post("/echo", content=b"x").content == b"x"
    http.close()
    while APP.disconnects == before:
        pass


def test_resetting_a_stream_ends_that_one(raw: Raw):
    before = APP.disconnects
    stream, other = raw.get("/stream"), raw.get("/stream")
    for one in (stream, other):
        raw.until(h2.events.DataReceived, stream_id=one)
    raw.h2.reset_stream(stream)
    raw.flush()
    while APP.disconnects == before:
        pass
    assert APP.open == 1
    last = raw.get("/echo")
    assert raw.until(h2.events.StreamEnded, stream_id=last)


def test_a_body_that_nobody_reads_is_not_taken_on(raw: Raw):
    """No more than a window of it, and others' bodies still come."""
    stream = raw.get("/stream", ends=False, method="POST")
    raw.until(h2.events.DataReceived, stream_id=stream)
    other = raw.get("/echo", ends=False, method="POST")
    raw.h2.send_data(other, b"x" * 10_000, end_stream=True)
    raw.flush()
    assert raw.until(h2.events.StreamEnded, stream_id=other)


def test_a_stream_without_room_waits_and_others_do_not(raw: Raw):
    large = raw.get("/large")
    raw.until(h2.events.ResponseReceived, stream_id=large)
    raw.h2.increment_flow_control_window(1_000_000)
    stream = raw.get("/echo")
    assert raw.until(h2.events.StreamEnded, stream_id=stream)
    raw.h2.increment_flow_control_window(10_000_000)
    raw.h2.increment_flow_control_window(10_000_000, large)
    raw.flush()
    assert raw.until(h2.events.StreamEnded, stream_id=large)


def test_a_stream_that_gets_no_room_is_given_up(raw: Raw, settings):
    raw.until(h2.events.RemoteSettingsChanged)
    settings.GYOZA_STALLED_SECONDS = 0.05
    large = raw.get("/large")
    event = raw.until(h2.events.StreamReset, stream_id=large)
    assert event.error_code == h2.errors.ErrorCodes.CANCEL
    while APP.open:
        pass


def test_a_body_that_does_not_come_is_given_up(raw: Raw, settings):
    raw.until(h2.events.RemoteSettingsChanged)
    settings.GYOZA_STALLED_SECONDS = 0.05
    stream = raw.get("/echo", ends=False, method="POST")
    event = raw.until(h2.events.StreamReset, stream_id=stream)
    assert event.error_code == h2.errors.ErrorCodes.CANCEL
    while APP.open:
        pass


def test_a_client_that_never_reads_is_given_up(port: int, settings):
    with Raw(port) as raw:
        raw.until(h2.events.RemoteSettingsChanged)
        settings.GYOZA_STALLED_SECONDS = 0.05
        raw.link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 2**31 - 1})
        raw.h2.increment_flow_control_window(2**31 - 1 - 65_535)
        before = len(APP.scopes)
        # Together: nothing more is read of who takes nothing.
        raw.ask("/large")
        raw.ask("/large")
        raw.flush()
        while len(APP.scopes) < before + 2:
            pass
        while APP.open:
            pass


# --- What a client may not do


def test_a_hundred_streams_are_open_at_most(raw: Raw):
    for _ in range(MOST_STREAMS):
        raw.until(h2.events.DataReceived, stream_id=raw.get("/stream"))
    raw.h2.remote_settings[h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS] = 1000
    raw.h2.remote_settings.acknowledge()
    raw.get("/stream")
    assert raw.end() is not None
    while APP.open:
        pass


def frames(*made: Any) -> bytes:
    return b"".join(frame.serialize() for frame in made)


def test_taking_back_requests_at_once_is_stopped(raw: Raw):
    """CVE-2023-44487: each has been begun by then."""
    head = raw.h2.encoder.encode(
        [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/stream")]
    )
    before = len(APP.scopes)
    flood = b"".join(
        frames(
            HeadersFrame(number, head, flags=["END_HEADERS", "END_STREAM"]),
            RstStreamFrame(number, error_code=8),
        )
        for number in range(1, 20_001, 2)
    )
    raw.try_to_send(flood)
    assert raw.end() in {CALM, None}
    assert len(APP.scopes) - before <= BURST / RESET_PRICE + MOST_STREAMS
    while APP.open:
        pass


@pytest.mark.parametrize(
    "frame",
    [
        PingFrame(0, b"12345678"),
        SettingsFrame(0, settings={4: 65_535}),
        DataFrame(1, b""),
        RstStreamFrame(1, error_code=8),
    ],
    ids=["pings", "settings", "empty data", "resets"],
)
def test_a_flood_of_frames_that_carry_nothing_is_stopped(raw: Raw, frame: Any):
    """CVE-2019-9512, -9514, -9515, -9518."""
    raw.get("/stream", ends=False, method="POST")
    raw.try_to_send(frames(frame) * 20_000)
    assert raw.end() in {CALM, None}
    while APP.open:
        pass


def test_a_flood_of_continuations_is_stopped(raw: Raw):
    """CVE-2024-27316: a head that never ends."""
    raw.try_to_send(frames(HeadersFrame(1, b"")))
    raw.try_to_send(frames(ContinuationFrame(1, b"\0" * 1000)) * 200)
    # By its bytes, or by its frames: which comes first is a matter of how they arrive.
    assert raw.end() in {CALM, h2.errors.ErrorCodes.PROTOCOL_ERROR}


def long_head(size: int) -> list[tuple[str, str]]:
    return [(f"x-{number}", "x" * 1000) for number in range(size // 1000)]


@pytest.mark.parametrize("size", [MOST_HEAD_BYTES, 3 * MOST_HEAD_BYTES // 2])
def test_a_head_that_is_too_long_is_refused_alone(raw: Raw, size: int):
    status, body = refused(raw, raw.get("/api/v1/events/", *long_head(size)))
    assert (status, body["error_code"]) == (431, "head_too_large")


def test_a_head_that_is_much_too_long_ends_the_connection(raw: Raw):
    raw.get("/echo", *long_head(2 * MOST_HEAD_BYTES))
    assert raw.end() is not None


def test_a_head_that_unpacks_to_much_more_is_stopped(raw: Raw):
    """CVE-2016-6581: one long header, named again and again."""
    long = ("x-long", "x" * 3000)
    raw.h2.encoder.header_table_size = TABLE_BYTES
    raw.get("/echo", *[long] * 1000)
    assert raw.end() is not None


def test_a_frame_that_is_too_long_is_refused_before_it_has_come(raw: Raw):
    raw.try_to_send((MOST_FRAME_BYTES + 1).to_bytes(3, "big") + b"\0\0\0\0\0\1")
    assert raw.end() == h2.errors.ErrorCodes.FRAME_SIZE_ERROR


def test_what_a_client_has_us_remember_is_little(port: int):
    with Raw(port) as raw:
        raw.h2.update_settings({h2.settings.SettingCodes.HEADER_TABLE_SIZE: 2**31})
        for _ in range(3):
            raw.until(h2.events.StreamEnded, stream_id=raw.get("/echo"))
        assert raw.h2.decoder.header_table_size <= TABLE_BYTES


@pytest.mark.parametrize(
    "garbage",
    [
        b"\0" * 1000,
        b"\xff" * 1000,
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        frames(HeadersFrame(1, b"\xff\xff\xff\xff", flags=["END_HEADERS"])),
        frames(HeadersFrame(2, b"\x82", flags=["END_HEADERS", "END_STREAM"])),
    ],
)
def test_garbage_closes_the_connection(port: int, garbage: bytes):
    with Raw(port) as raw:
        raw.try_to_send(garbage)
        assert raw.end() is not None
        assert raw.until(h2.events.Event) is None


def test_a_preface_in_pieces_is_one(port: int):
    with Raw(port, preface=False) as raw:
        raw.link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        raw.h2.initiate_connection()
        for byte in raw.h2.data_to_send():
            raw.link.sendall(bytes([byte]))
        assert raw.until(h2.events.StreamEnded, stream_id=raw.get("/echo"))


def test_what_begins_like_a_preface_may_be_http_1(port: int):
    with socket.create_connection(("127.0.0.1", port), timeout=30) as link:
        link.sendall(b"P")
        link.sendall(
            b"OST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"
        )
        said = b""
        while part := link.recv(65_536):
            said += part
    assert said.startswith(b"HTTP/1.1 200")
    assert said.endswith(b"hi")
    assert PREFACE.startswith(b"P")


# --- Ends


def test_a_connection_without_requests_is_closed(port: int, settings):
    settings.GYOZA_STALLED_SECONDS = 0.05
    with Raw(port) as raw:
        assert raw.end() == 0
        assert raw.until(h2.events.Event) is None


def test_a_stopping_server_answers_what_it_has_begun():
    with serving() as (port, server), Raw(port) as raw:
        stream = raw.get("/echo", ends=False, method="POST")
        while not APP.open:
            pass
        server.should_exit = True
        assert raw.end() == 0
        raw.link.sendall(frames(DataFrame(stream, b"last", flags=["END_STREAM"])))
        said = b""
        while part := raw.link.recv(65_536):
            said += part
        assert b"last" in said
    assert APP.open == 0


def test_nothing_is_left_of_connections_that_have_gone(http: httpx.Client):
    http.get("/echo")
    assert Http2Protocol is not None
    http.close()
    while APP.open:
        pass
