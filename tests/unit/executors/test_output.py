from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.runs.executors.supervision import output
from apps.runs.executors.supervision.output import Capture


class Caught:
    def __init__(self) -> None:
        self.log = b""
        self.lines: list[dict[str, Any]] = []
        self.capture = Capture(self._log, lambda line: self.lines.append(json.loads(line)))

    def _log(self, data: bytes) -> None:
        self.log += data

    def feed(self, *chunks: bytes) -> Caught:
        for chunk in chunks:
            self.capture.stdout(chunk)
        self.capture.close()
        return self

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [{k: v for k, v in line.items() if k != "at"} for line in self.lines]


def test_lines_and_messages_part():
    caught = Caught().feed(b'one\n{"gyoza":"progress","value":7}\ntwo\n')
    assert caught.log == b"one\ntwo\n"
    assert caught.messages == [{"kind": "progress", "value": 7}]


TEXT = b'a\n{"gyoza":"info","msg":"x"}\n{"b":1}\nc {"gyoza":1}\n  {"gyoza":"output","name":"n","value":[1]}\nend'


@given(st.lists(st.integers(0, len(TEXT)), max_size=12).map(sorted))
def test_it_makes_no_difference_how_the_output_is_cut(cuts):
    edges = [0, *cuts, len(TEXT)]
    caught = Caught().feed(*(TEXT[a:b] for a, b in itertools.pairwise(edges)))
    assert caught.log == b'a\n{"b":1}\nc {"gyoza":1}\nend'
    assert [m["kind"] for m in caught.messages] == ["info", "output"]
    assert caught.capture.outputs == {"n": [1]}


def test_the_last_line_needs_no_newline():
    assert Caught().feed(b'{"gyoza":"progress","value":1}').messages[0]["value"] == 1


def test_an_unfinished_line_is_in_the_log_at_once_unless_it_may_be_a_message():
    caught = Caught()
    caught.capture.stdout(b"10 %\r20 %\r")
    assert caught.log == b"10 %\r20 %\r"
    caught.capture.stdout(b'30 %\n{"gyo')
    assert caught.log == b"10 %\r20 %\r30 %\n"


def test_a_long_line_that_began_like_a_message_becomes_log():
    line = b"{" + b"x" * output.LINE_LIMIT + b"\n"
    caught = Caught()
    for start in range(0, len(line), 100_000):
        caught.capture.stdout(line[start : start + 100_000])
    assert caught.log == line


@pytest.mark.parametrize(
    ("line", "notice"),
    [
        (b'{"gyoza":"progress"}', b"progress needs a number"),
        (b'{"gyoza":"progress","value":true}', b"progress needs a number"),
        (b'{"gyoza":"progress","value":1e999}', b"has a number beyond 64 bits at value"),
        (b'{"gyoza":"info","msg":5}', b"info needs a text"),
        (b'{"gyoza":"info","payload":[]}', b"info needs an object"),
        (b'{"gyoza":"info","payload":{"a":"\\u0000"}}', b"contains the character U+0000"),
        (b'{"gyoza":"output","name":"a"}', b"output needs a name and a value"),
        (b'{"gyoza":"output","name":"","value":1}', b"output needs a name"),
        (b'{"gyoza":"output","name":"a","value":18446744073709551616}', b"beyond 64 bits"),
        (b'{"gyoza":"output","name":"a","value":"\\ud800"}', b"unpaired surrogate"),
        (b'{"gyoza":"dance"}', b"unknown kind"),
    ],
)
def test_a_bad_message_stays_log_with_a_notice(line, notice):
    caught = Caught().feed(line + b"\n")
    assert caught.messages == []
    assert caught.log.startswith(b"[gyoza: message not taken: ")
    assert notice in caught.log
    assert caught.log.endswith(line + b"\n")


@pytest.mark.parametrize(
    "line", [b'["gyoza"]\n', b'{"gyoza"\n', b'{"a":"gyoza"}\n', b'{"a":{"gyoza":1}}\n']
)
def test_what_only_looks_like_a_message_is_log(line):
    assert Caught().feed(line).log == line


@pytest.mark.parametrize(("value", "shown"), [(-5, 0), (99.9, 99), (1000, 100)])
def test_progress_is_a_whole_number_from_0_to_100(value, shown):
    line = json.dumps({"gyoza": "progress", "value": value}).encode()
    assert Caught().feed(line).messages[0]["value"] == shown


def test_text_that_no_column_holds_is_replaced():
    caught = Caught().feed(b'{"gyoza":"info","msg":"a\\u0000b\\ud800 \xff"}\n')
    assert caught.messages[0]["msg"] == "a\ufffdb? \ufffd"


def test_the_log_is_cut_once_and_says_so(monkeypatch):
    monkeypatch.setattr(output, "LOG_LIMIT", 10)
    caught = Caught()
    for _ in range(3):
        caught.capture.stdout(b"1234\n")
        caught.capture.stderr(b"abcd\n")
    caught.feed(b'{"gyoza":"output","name":"n","value":1}\n')
    assert caught.log == b"1234\nabcd\n" + output.LOG_NOTICE
    assert caught.capture.outputs == {"n": 1}


def test_messages_are_bounded_but_outputs_still_count(monkeypatch):
    monkeypatch.setattr(output, "MESSAGES_LIMIT", 200)
    caught = Caught().feed(
        b'{"gyoza":"progress","value":1}\n' * 50, b'{"gyoza":"output","name":"n","value":1}\n'
    )
    assert 0 < len(caught.messages) < 10
    assert caught.log == output.MESSAGES_NOTICE
    assert caught.capture.outputs == {"n": 1}


def test_outputs_said_are_bounded():
    line = json.dumps({"gyoza": "output", "name": "n", "value": "x" * 600_000}).encode()
    caught = Caught().feed(line + b"\n" + line + b"\n")
    assert "over the limit" in caught.capture.outputs_problem


def test_the_end_of_stderr_is_its_last_20_lines():
    capture = Caught().capture
    capture.stderr(b"".join(b"%d\r\n" % n for n in range(5000)))
    assert capture.stderr_tail().split("\n") == [str(n) for n in range(4980, 5000)]


def test_the_end_of_stderr_is_text_whatever_it_was():
    capture = Caught().capture
    capture.stderr(b"a\0\xff\n")
    assert capture.stderr_tail() == "a\ufffd\ufffd"
