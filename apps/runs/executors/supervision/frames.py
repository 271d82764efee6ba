"""How executor, nursery and warm children talk: frames over stream sockets."""

from __future__ import annotations

import struct
from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

# kind, lengths of (attempt id, meta, body), two times in seconds, one small number
_HEADER = struct.Struct("!BHIIddi")
_SIZE = _HEADER.size

LAUNCH, STOP, FORGET, OUTCOME, NEWS, RUN, DONE = range(1, 8)

# Bytes taken at a time. Most frames are small, and a buffer big enough to be mapped anew for each
# read costs more than everything else about an attempt.
READ_SIZE = 1 << 14

# What DONE says of the child, in `number`.
DIRTY = 1  # the op left something in its directory
SPENT = 2  # the op left processes or threads behind, or broke something: use no further


class Frame(NamedTuple):
    """One message; what the times and the number mean depends on the kind."""

    kind: int
    attempt_id: bytes
    meta: bytes = b""
    body: bytes = b""
    time: float = 0.0  # LAUNCH, RUN: timeout, negative = none · STOP: grace · DONE: seconds taken
    grace: float = 0.0
    number: int = (
        0  # LAUNCH: GPU, negative = none · RUN: 1 = reuse the last directory · DONE: flags
    )


def encode(frame: Frame) -> bytes:
    """Return the bytes of a frame."""
    kind, attempt_id, meta, body, time, grace, number = frame
    header = _HEADER.pack(kind, len(attempt_id), len(meta), len(body), time, grace, number)
    return b"".join((header, attempt_id, meta, body))


def decode(data: bytes) -> tuple[list[Frame], bytes]:
    """Return the whole frames at the beginning of `data`, and the rest."""
    found = []
    position, end = 0, len(data)
    while end - position >= _SIZE:
        kind, id_size, meta_size, body_size, time, grace, number = _HEADER.unpack_from(
            data, position
        )
        meta = position + _SIZE + id_size
        body = meta + meta_size
        after = body + body_size
        if after > end:
            break
        attempt_id = data[position + _SIZE : meta]
        found.append(
            Frame(kind, attempt_id, data[meta:body], data[body:after], time, grace, number)
        )
        position = after
    return found, data[position:] if position else data


class Channel:
    """A non-blocking end of a socket that keeps what the other side has no room for yet."""

    def __init__(self, sock: socket.socket, *, longest_frame: float = float("inf")) -> None:
        sock.setblocking(False)
        self._longest_frame = longest_frame
        self.socket = sock
        self.fd = sock.fileno()
        self.unsent = b""
        self._unread = b""

    def send(self, data: bytes) -> bool:
        """Send now what can be sent; False if something remains. Raises OSError when cut off."""
        data = self.unsent + data if self.unsent else data
        try:
            sent = self.socket.send(data)
        except BlockingIOError:
            sent = 0
        self.unsent = data[sent:]
        return not self.unsent

    def receive(self) -> list[Frame] | None:
        """Return the frames that are complete by now; None when the other side is gone or talks nonsense."""
        try:
            data = self.socket.recv(READ_SIZE)
        except BlockingIOError:
            return []
        except ConnectionResetError:
            # The peer died with mail of ours unread. That is told once, and before what it has sent.
            return self.receive()
        except OSError:
            return None
        if not data:
            return None
        frames, self._unread = decode(self._unread + data if self._unread else data)
        return frames if len(self._unread) <= self._longest_frame else None
