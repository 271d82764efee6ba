"""Whatever bytes come over HTTP/1.1, over HTTP/2 or on a socket: nothing is raised, and nothing is left when the connection is gone."""

from __future__ import annotations

import asyncio
import random
import struct
from typing import TYPE_CHECKING, Any

import h2.config
import h2.connection
import pytest
from uvicorn.config import Config
from uvicorn.server import ServerState

from apps.core.held import BODIES
from apps.stack.connections.http2.protocol import PREFACE, Http2Protocol
from apps.stack.connections.protocol import PatientProtocol
from apps.stack.connections.websocket import SocketProtocol
from tests.integration.stack.test_websockets import HANDSHAKE, raw_frame

if TYPE_CHECKING:
    from collections.abc import Callable

CONVERSATIONS = 150
OPENING = HANDSHAKE + b"\r\n"
METHODS = [b"GET", b"POST", b"HEAD", b"CONNECT", b"OPTIONS"]


class Transport:
    """Takes everything, until it is closed."""

    def __init__(self) -> None:
        self.protocol: Any = None
        self.is_closed = False
        self.is_half_closed = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def write(self, data: bytes) -> None:
        assert not self.is_half_closed

    def write_eof(self) -> None:
        self.is_half_closed = True

    def close(self) -> None:
        self.is_closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.is_closed

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer what is whole, and repeat what a socket says."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": (message.get("text") or "b") * 3})
        return
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"x" * 1000})


def socket_talk(rng: random.Random) -> bytes:
    said = OPENING
    for _ in range(rng.randint(1, 8)):
        opcode = rng.choice([0, 1, 1, 1, 2, 8, 9, 10])
        size = rng.choice([0, 2, 125]) if opcode >= 8 else rng.choice([0, 1, 300, 70_000])
        data = b"a" * size
        if opcode == 8 and size:
            data = struct.pack("!H", rng.choice([999, 1000, 3000])) + data[2:]
        said += raw_frame(data, opcode=opcode, fin=opcode >= 8 or rng.random() < 0.8)
    return said


def http2_talk(rng: random.Random) -> bytes:
    client = h2.connection.H2Connection(
        h2.config.H2Configuration(client_side=True, validate_outbound_headers=False)
    )
    client.initiate_connection()
    for _ in range(rng.randint(1, 6)):
        stream = client.get_next_available_stream_id()
        path = rng.choice(["/", "/%ff", "/a?b", "*"])
        headers = [(":method", "POST"), (":scheme", "http"), (":authority", "x"), (":path", path)]
        client.send_headers(stream, [*headers, ("x-a", "y" * rng.randint(0, 300))])
        for _ in range(rng.randint(0, 3)):
            client.send_data(stream, rng.randbytes(rng.randint(0, 2000)))
        end = rng.choice([client.end_stream, client.reset_stream, None])
        if end is not None:
            end(stream)
        if rng.random() < 0.3:
            client.ping(b"12345678")
            client.update_settings({4: rng.choice([0, 1, 65_535])})
    return client.data_to_send()


def http1_talk(rng: random.Random) -> bytes:
    said = b""
    for _ in range(rng.randint(1, 6)):
        target = rng.choice([b"/", b"/%ff?a", b"http://y/z", b"/v0/ws", b"*", b"/\xff"])
        lines = [b"%b %b HTTP/1.%d" % (rng.choice(METHODS), target, rng.random() < 0.9), b"Host: x"]
        if rng.random() < 0.4:
            lines += [b"Connection: Upgrade", b"Upgrade: " + rng.choice([b"h2c", b"websocket"])]
        body = b""
        if rng.random() < 0.3:
            lines += [b"Transfer-Encoding: " + rng.choice([b"chunked", b"gzip, chunked"])]
            body = b"3;a=b\r\nabc\r\n0\r\nX: y\r\n\r\n"
        elif rng.random() < 0.5:
            body = rng.randbytes(rng.choice([0, 1, 300]))
            lines += [b"Content-Length: %d" % len(body)]
        said += b"\r\n".join([*lines, b"X: " + b"y" * rng.choice([1, 100, 70_000]), b"", body])
    return said


def mutated(rng: random.Random, said: bytes, *, since: int) -> bytes:
    """Return what was said with some bytes changed, left out, put in or said twice."""
    data = bytearray(said)
    for _ in range(rng.choice([0, 1, 1, 3, 10])):
        at = rng.randrange(since, max(len(data), since + 1))
        kind = rng.random()
        if kind < 0.5:
            data[at : at + 1] = rng.randbytes(1)
        elif kind < 0.7:
            del data[at : at + rng.randint(1, 20)]
        else:
            data[at:at] = rng.randbytes(rng.randint(1, 20)) if kind < 0.9 else data[at : at + 200]
    return bytes(data)


@pytest.mark.parametrize(
    ("protocol_class", "talk", "since"),
    [
        (SocketProtocol, socket_talk, len(OPENING)),
        (Http2Protocol, http2_talk, len(PREFACE)),
        (PatientProtocol, http1_talk, 0),
    ],
    ids=["socket", "http2", "http1"],
)
@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_raised_and_nothing_is_left(
    protocol_class: Any, talk: Callable[[random.Random], bytes], since: int, seed: int
):
    rng = random.Random(seed)
    failures: list[dict[str, Any]] = []

    async def converse(config: Config) -> None:
        state = ServerState()
        transport = Transport()
        transport.set_protocol(protocol_class(config, state, {}))
        transport.protocol.connection_made(transport)
        said = mutated(rng, talk(rng), since=since)
        # The handshake comes whole, or the application would not be reached often.
        at, step = 0, since
        while at < len(said):
            transport.protocol.data_received(said[at : at + step])
            at, step = at + step, rng.choice([1, 9, 50, 5000, 100_000])
            if rng.random() < 0.3:
                await asyncio.sleep(0)
        for _ in range(8):
            await asyncio.sleep(0)
        transport.protocol.connection_lost(None)
        for _ in range(12):
            await asyncio.sleep(0)
        assert not state.connections
        assert not state.tasks
        assert BODIES.total == 0

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: failures.append(context))
        config = Config(
            app,
            ws=SocketProtocol,
            lifespan="off",
            log_config=None,
            access_log=False,
            ws_max_size=100_000,
            ws_per_message_deflate=False,
        )
        config.load()
        for _ in range(CONVERSATIONS):
            await converse(config)

    asyncio.run(scene())
    assert failures == []
