from __future__ import annotations

import io
import re

import pytest

from apps.stack.showcase.runs import describe
from apps.stack.terminal import Terminal


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_step_is_one_line_without_a_terminal():
    out = io.StringIO()
    with Terminal(out).step("postgres", "starting") as step:
        step.tell("almost")
        step.result = "18.6"
    assert re.fullmatch(r"  ✓ postgres       18\.6  \d+\.\d s\n", out.getvalue())


def test_a_step_that_fails_says_so():
    out = io.StringIO()
    with pytest.raises(RuntimeError), Terminal(out).step("web", "starting"):
        raise RuntimeError
    assert out.getvalue() == "  ✗ web            starting: not finished\n"


def test_a_step_is_drawn_over_on_a_terminal(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    out = Tty()
    terminal = Terminal(out)
    terminal.draw("half")
    terminal.line("a line between")
    terminal.done("web", "ready")
    assert out.getvalue() == "half\r\x1b[2Ka line between\nhalf\r\x1b[2K  ✓ web            ready\n"


def test_a_closed_terminal_stops_nothing():
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    terminal = Terminal(Closed())
    terminal.line("nobody reads this")
    terminal.done("web", "stopped")


def test_an_event_is_one_line():
    event = {
        "run_id": "0",
        "attempt": 2,
        "type": "ERROR",
        "msg": "exit code 1\nmore",
        "t": "2026-01-02T03:04:05.678Z",
        "state": "RUNNING",
        "payload": {},
    }
    assert describe(event, "flaky", Terminal(io.StringIO())) == (
        "  03:04:05.678 flaky           #2  ERROR      exit code 1"
    )
