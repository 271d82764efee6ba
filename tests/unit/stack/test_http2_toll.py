"""What a client pays for its frames."""

from __future__ import annotations

import pytest
from hyperframe.frame import ContinuationFrame, DataFrame, HeadersFrame, PingFrame, RstStreamFrame

from apps.stack.connections.http2.toll import (
    BURST,
    MOST_FRAME_BYTES,
    RESET_PRICE,
    Excess,
    Oversize,
    Toll,
)


def toll() -> Toll:
    return Toll(0.0, most_head_bytes=1000)


PING = PingFrame(0, b"12345678").serialize()
RESET = RstStreamFrame(1).serialize()


@pytest.mark.parametrize("step", [1, 2, 9, 16, 17, 1000])
def test_frames_are_counted_however_they_come(step: int):
    counted = toll()
    data = PING * int(BURST)
    for at in range(0, len(data), step):
        counted.count(data[at : at + step], 0.0)
    with pytest.raises(Excess):
        counted.count(PING, 0.0)


def test_the_budget_fills_up_with_time_but_no_further():
    counted = toll()
    counted.count(PING * int(BURST), 0.0)
    counted.count(PING * 500, 0.5)
    with pytest.raises(Excess):
        counted.count(PING, 0.5)
    counted = toll()
    with pytest.raises(Excess):
        counted.count(PING * int(BURST + 1), 1_000_000.0)


def test_a_reset_costs_more():
    counted = toll()
    counted.count(RESET * int(BURST / RESET_PRICE), 0.0)
    with pytest.raises(Excess):
        counted.count(RESET, 0.0)


def test_requests_and_bodies_cost_nothing():
    counted = toll()
    request = HeadersFrame(1, b"x" * 100, flags=["END_HEADERS"]).serialize()
    body = DataFrame(1, b"x" * 1000).serialize()
    counted.count((request + body) * 5000, 0.0)


def test_small_pieces_of_a_body_cost():
    with pytest.raises(Excess):
        toll().count(DataFrame(1, b"x").serialize() * int(BURST + 1), 0.0)


def test_credit_is_given_for_what_we_send():
    counted = toll()
    counted.count(PING * int(BURST), 0.0)
    counted.give(2.0)
    counted.count(PING * 2, 0.0)


def test_a_head_is_as_long_as_all_its_frames():
    first = HeadersFrame(1, b"x" * 600).serialize()
    last = ContinuationFrame(1, b"x" * 400, flags=["END_HEADERS"]).serialize()
    counted = toll()
    counted.count((first + last) * 3, 0.0)
    with pytest.raises(Excess):
        counted.count(first + ContinuationFrame(1, b"x" * 401).serialize(), 0.0)


def test_an_overlong_frame_is_known_by_its_head():
    with pytest.raises(Oversize):
        toll().count((MOST_FRAME_BYTES + 1).to_bytes(3, "big") + b"\0\0\0\0\0\1", 0.0)
