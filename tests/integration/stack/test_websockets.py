"""WebSocket connections as the web process holds them, with an application that repeats what it hears."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from apps.core.held import BODIES
from apps.stack.connections.protocol import PatientProtocol
from apps.stack.connections.websocket import MOST_FRAGMENTS, PIECE_BYTES, SocketProtocol
from tests.integration.stack.test_request_heads import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from websockets.sync.client import ClientConnection

MOST = 1024 * 1024
HANDSHAKE = (
    b"GET /v0/ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


class Echo:
    """Says again what it hears, as often as the message says; and knows how many sockets are open."""

    heard = 0
    open = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        await receive()
        if scope["query_string"] == b"refuse":
            head = {"status": 403, "headers": [(b"content-type", b"application/json")]}
            await send({"type": "websocket.http.response.start", **head})
            await send({"type": "websocket.http.response.body", "body": b"{}"})
            return
        await send({"type": "websocket.accept"})
        self.open += 1
        try:
            while (message := await receive())["type"] == "websocket.receive":
                self.heard += 1
                text = message["text"]
                for _ in range(int(text[0])):
                    await send({"type": "websocket.send", "text": text})
        except OSError:
            pass  # gone while it was spoken to
        finally:
            self.open -= 1


ECHO = Echo()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        ECHO,
        http=PatientProtocol,
        ws=SocketProtocol,
        ws_max_size=MOST,
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        access_log=False,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
    thread.start()
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join()


@pytest.fixture
def client(port: int) -> Iterator[ClientConnection]:
    with connect(f"ws://127.0.0.1:{port}/v0/ws", max_size=None) as opened:
        yield opened


def closed_with(client: ClientConnection) -> tuple[int, str]:
    """Return the code and the reason of the server's closing, which comes next."""
    with pytest.raises(ConnectionClosed) as caught:
        client.recv(timeout=30)
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code, caught.value.rcvd.reason


def answer_to(port: int, head: bytes) -> tuple[int, dict[str, str], Any]:
    """Send a head, and return status, headers and JSON of the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as link:
        link.sendall(head + b"\r\n")
        said = b""
        while part := link.recv(65536):
            said += part
    top, _, body = said.partition(b"\r\n\r\n")
    first, *lines = top.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return int(first.split()[1]), headers, json.loads(body) if body else None


def raw_frame(
    data: bytes, *, opcode: int = 1, fin: bool = True, length: int | None = None
) -> bytes:
    """Return a frame as a client sends it, masked with zeros; it may lie about its length."""
    size = len(data) if length is None else length
    head = bytes([(0x80 if fin else 0) | opcode])
    return head + b"\xff" + struct.pack("!Q", size) + b"\0\0\0\0" + data


@pytest.fixture
def raw(port: int) -> Iterator[socket.socket]:
    """A socket after the handshake."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as link:
        link.sendall(HANDSHAKE + b"\r\n")
        said = b""
        while not said.endswith(b"\r\n\r\n"):
            said += link.recv(1)
        assert said.startswith(b"HTTP/1.1 101")
        yield link


def until_closed(link: socket.socket) -> bytes:
    said = b""
    try:
        while part := link.recv(65536):
            said += part
    except ConnectionResetError:
        pass
    return said


def test_messages_go_both_ways(client: ClientConnection):
    client.send("2 hello é")
    assert [client.recv(), client.recv()] == ["2 hello é", "2 hello é"]


def test_a_long_message_comes_in_pieces_that_make_one(client: ClientConnection):
    text = "2" + "é" * (3 * PIECE_BYTES)
    client.send(text)
    pieces = [str(piece) for piece in client.recv_streaming()]
    assert max(len(piece.encode()) for piece in pieces) <= PIECE_BYTES + 4
    assert len(pieces) > 3
    assert "".join(pieces) == text
    assert client.recv() == text
    client.send("1 and on")
    assert client.recv() == "1 and on"


def test_a_message_in_fragments_is_one(client: ClientConnection):
    client.send(["1", "he", "llo"])
    assert client.recv() == "1hello"


def test_nothing_is_compressed(port: int):
    head = HANDSHAKE + b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=30) as link:
        link.sendall(head + b"\r\n")
        said = link.recv(65536)
    assert said.startswith(b"HTTP/1.1 101")
    assert b"extensions" not in said.lower()


def test_a_connection_that_has_served_requests_may_become_a_socket():
    with (
        serving(ECHO, ws=SocketProtocol, timeout_keep_alive=1) as port,
        socket.create_connection(("127.0.0.1", port), timeout=30) as link,
    ):
        link.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert link.recv(65536).startswith(b"HTTP/1.1 204")
        link.sendall(HANDSHAKE + b"\r\n")
        assert link.recv(65536).startswith(b"HTTP/1.1 101")
        # It is no longer one that waits for requests.
        link.settimeout(1.5)
        with pytest.raises(TimeoutError):
            link.recv(1)


# --- What is refused before it is a socket


def test_a_wrong_handshake_is_refused_in_plain_http(port: int):
    for spoilt in (
        HANDSHAKE.replace(b"13", b"8"),
        HANDSHAKE.replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"short"),
        HANDSHAKE.replace(b"Sec-WebSocket-Key", b"X-Key"),
    ):
        status, headers, body = answer_to(port, spoilt)
        assert (status, body["error"]["code"]) == (426, "upgrade_required")
        assert body["error"].keys() == {"code", "message"}  # topics v0 §2.5
        assert headers["content-type"] == "application/json"
        assert headers["upgrade"] == "websocket"


def test_a_handshake_with_long_headers_is_refused_in_plain_http(port: int):
    status, _, body = answer_to(port, HANDSHAKE + b"X-Long: " + b"x" * 20_000 + b"\r\n")
    assert (status, body["error"]["code"]) == (400, "invalid_request")


def test_a_refusal_by_the_application_is_no_failure_of_it(port, caplog):
    status, _, body = answer_to(port, HANDSHAKE.replace(b"/v0/ws", b"/v0/ws?refuse") + b"\r\n")
    assert (status, body) == (403, {})
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_elsewhere_the_wish_is_ignored(port: int):
    for path in (b"/v0/topics", b"/v0/wsx", b"/"):
        head = HANDSHAKE.replace(b"/v0/ws", path).replace(b"Upgrade\r\n", b"Upgrade, close\r\n")
        assert answer_to(port, head)[0] == 204


def test_only_get_becomes_a_socket(port: int):
    head = HANDSHAKE.replace(b"GET", b"POST").replace(b"Upgrade\r\n", b"Upgrade, close\r\n")
    assert answer_to(port, head + b"Content-Length: 0\r\n")[0] == 204


# --- What a socket may not bring


def test_a_message_over_the_limit_is_told_and_closes(client: ClientConnection):
    client.send("0" * MOST)
    client.send("1" * (MOST + 1))
    error = json.loads(client.recv())
    assert (error["op"], error["code"]) == ("error", "payload_too_large")
    assert str(MOST) in error["message"]
    assert closed_with(client)[0] == 1009


def test_the_limit_holds_over_fragments_and_before_they_are_here(raw: socket.socket):
    raw.sendall(raw_frame(b"0" * 1000, fin=False))
    raw.sendall(raw_frame(b"", opcode=0, length=MOST))
    assert b"payload_too_large" in until_closed(raw)


def test_a_message_in_too_many_fragments_closes(raw: socket.socket):
    raw.sendall(raw_frame(b"0", fin=False) + raw_frame(b"0", opcode=0, fin=False) * MOST_FRAGMENTS)
    assert struct.pack("!H", 1008) in until_closed(raw)


def test_text_that_is_no_utf_8_closes(raw: socket.socket):
    raw.sendall(raw_frame(b"0\xff"))
    assert struct.pack("!H", 1007) in until_closed(raw)


def test_what_comes_behind_a_failure_is_passed_over(raw: socket.socket):
    ping, text = raw_frame(b"", opcode=9), raw_frame(b"1")
    raw.sendall((raw_frame(b"0\xff") + ping + text) * 3)
    assert struct.pack("!H", 1007) in until_closed(raw)
    while ECHO.open:
        pass


def test_a_frame_that_is_none_closes(raw: socket.socket):
    raw.sendall(b"\x01\x05hello")
    assert struct.pack("!H", 1002) in until_closed(raw)


def test_what_is_not_done_with_counts_as_a_body_does(client: ClientConnection, settings):
    """One budget for all that the process has read and not answered."""
    settings.GYOZA_MAX_HELD_BYTES = 100_000
    BODIES.total += 1
    try:
        client.send("0" * 100_000)
        error = json.loads(client.recv())
        assert (error["op"], error["code"]) == ("error", "throttled")
        assert closed_with(client)[0] == 1013
    finally:
        BODIES.total -= 1
    assert BODIES.total == 0


def test_a_message_that_stops_coming_is_given_up(raw: socket.socket, settings):
    settings.GYOZA_STALLED_SECONDS = 0.05
    raw.sendall(raw_frame(b"0" * 1000, length=2000))
    assert until_closed(raw) == b""


def test_pings_are_answered_while_a_message_comes(raw: socket.socket):
    raw.sendall(raw_frame(b"1", fin=False) + raw_frame(b"are you there", opcode=9))
    said = b""
    while not said.endswith(b"are you there"):
        said += raw.recv(100)
    raw.sendall(raw_frame(b"yes", opcode=0))
    assert raw.recv(100).endswith(b"1yes")


# --- Clients that don't read


def test_a_client_that_never_reads_is_given_up(raw: socket.socket, settings):
    settings.GYOZA_STALLED_SECONDS = 0.05
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    before = ECHO.heard
    raw.sendall(raw_frame(b"9" * MOST))
    raw.sendall(raw_frame(b"9" * MOST))
    while ECHO.heard == before:
        pass
    while ECHO.open:
        pass
    assert len(until_closed(raw)) < 9 * MOST


def test_pings_of_a_client_that_never_reads_are_read_no_more(raw: socket.socket, settings):
    """Their answers would be kept for it."""
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.settimeout(0.5)
    pings = raw_frame(b"x" * 125, opcode=9) * 10_000
    with pytest.raises(OSError, match="timed out"):
        raw.sendall(pings * 20)


def test_nothing_is_held_of_those_who_go_in_the_middle(port: int):
    with socket.create_connection(("127.0.0.1", port), timeout=30) as link:
        link.sendall(HANDSHAKE + b"\r\n")
        while not link.recv(65_536).endswith(b"\r\n\r\n"):
            pass
        link.sendall(
            raw_frame(b"0" * 1000, fin=False) + raw_frame(b"0" * 1000, opcode=0, length=5000)
        )
        while not BODIES.total:
            pass
    while ECHO.open or BODIES.total:
        pass


def test_nothing_is_held_of_those_who_have_gone(port: int):
    with connect(f"ws://127.0.0.1:{port}/v0/ws") as client:
        client.send("1")
        client.recv()
        client.socket.shutdown(socket.SHUT_RDWR)
    while ECHO.open or BODIES.total:
        pass
