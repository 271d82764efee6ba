"""What a client pays for its HTTP/2 frames, counted before any is looked into. Pure.

Frames that bring a request or its body are paid for by the limits on those. All others are work that a client could have
done without end: pings, settings, resets, empty frames. Each costs a little of a budget that fills up again with time.
"""

from __future__ import annotations

from enum import IntEnum

HEAD_BYTES = 9
# RFC 9113 §4.2: what every receiver takes; we ask for no more.
MOST_FRAME_BYTES = 16_384
# Together, a client does so much at once and so much in a second, which is a hundred streams that it takes back.
BURST = 1000.0
PER_SECOND = 1000.0
RESET_PRICE = 10.0
# A body that comes in smaller pieces costs what they are.
_SMALL_DATA = 256
# The rest of a head costs as much as a frame for each of these: 128 KiB are what a client can do once a second.
_SMALL_HEAD = 128
_END_HEADERS = 0x4


class FrameType(IntEnum):
    DATA = 0
    HEADERS = 1
    RESET = 3
    CONTINUATION = 9


class Excess(Exception):
    """A client sends what no client needs to."""


class Oversize(Excess):
    """A frame is longer than we have said that we take."""


class Toll:
    """Counts the frames of one connection."""

    def __init__(self, now: float, *, most_head_bytes: int) -> None:
        self._left = BURST
        self._paid_at = now
        self._most_head_bytes = most_head_bytes
        # Of the frame that is on its way: its head so far, and how much of its body is still to come.
        self._head = b""
        self._rest = 0
        # Of a header block, which may go over several frames.
        self._block_bytes = 0

    def give(self, credit: float) -> None:
        """Let a client have more: it is to answer what we send it."""
        self._left = min(self._left + credit, BURST)

    def count(self, data: bytes, now: float) -> None:
        """Count what has come; raises Excess."""
        self.give((now - self._paid_at) * PER_SECOND)
        self._paid_at = now
        at = 0
        while at < len(data):
            if self._rest:
                skipped = min(self._rest, len(data) - at)
                self._rest -= skipped
                at += skipped
                continue
            taken = data[at : at + HEAD_BYTES - len(self._head)]
            self._head += taken
            at += len(taken)
            if len(self._head) == HEAD_BYTES:
                self._rest = int.from_bytes(self._head[:3], "big")
                self._charge(self._head[3], self._head[4], self._rest)
                self._head = b""

    def _charge(self, kind: int, flags: int, length: int) -> None:
        if length > MOST_FRAME_BYTES:
            raise Oversize(f"a frame has {length} bytes; at most {MOST_FRAME_BYTES} are taken")
        if kind in {FrameType.HEADERS, FrameType.CONTINUATION}:
            self._block_bytes += length
            if self._block_bytes > self._most_head_bytes:
                raise Excess(f"the head of a request is over {self._most_head_bytes} bytes")
            if flags & _END_HEADERS:
                self._block_bytes = 0
            # What goes on may be long: it is bounded, and as a head that is refused it is to be heard to its end.
            self._pay(0 if kind == FrameType.HEADERS else 1 + length // _SMALL_HEAD)
            return
        if kind == FrameType.DATA and length >= _SMALL_DATA:
            return
        # What is long takes longer to read.
        self._pay(RESET_PRICE if kind == FrameType.RESET else 1 + length // 64)

    def _pay(self, price: float) -> None:
        self._left -= price
        if self._left < 0:
            raise Excess("too many frames that carry nothing")
