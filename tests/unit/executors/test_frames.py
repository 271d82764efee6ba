from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from apps.runs.executors.supervision.frames import Frame, decode, encode

FRAMES = st.builds(
    Frame,
    st.integers(1, 7),
    st.binary(max_size=40),
    st.binary(max_size=40),
    st.binary(max_size=40),
    st.floats(0, 1e6),
    st.floats(0, 1e6),
    st.integers(-1, 100),
)


@given(st.lists(FRAMES, max_size=5), st.integers(1, 50))
def test_frames_arrive_whole_however_the_stream_is_cut(sent, size):
    stream = b"".join(map(encode, sent))
    unread, received = b"", []
    for start in range(0, len(stream), size):
        frames, unread = decode(unread + stream[start : start + size])
        received += frames
    assert received == sent
    assert unread == b""
