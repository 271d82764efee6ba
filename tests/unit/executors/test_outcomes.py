from __future__ import annotations

import pytest

from apps.runs.executors.base import Handle, Outcome
from apps.runs.executors.supervision.outcomes import describe, merge


@pytest.mark.parametrize(
    ("ending", "error"),
    [
        ({"exit_code": 0, "number": None, "tail": "noise"}, ""),
        ({"exit_code": 2, "number": None, "tail": "why"}, "why"),
        ({"exit_code": 2, "number": None, "tail": ""}, "exit code 2"),
        ({"exit_code": None, "number": 9, "tail": ""}, "killed by signal 9 (SIGKILL)"),
        ({"exit_code": None, "number": 11, "tail": "x"}, "killed by signal 11 (SIGSEGV)\nx"),
        ({"exit_code": None, "number": 40, "tail": ""}, "killed by signal 40 (unknown signal)"),
        (
            {"exit_code": 0, "number": None, "tail": "", "stopped": True},
            "stopped on request (exit code 0)",
        ),
        (
            {"exit_code": None, "number": 15, "tail": "", "timeout_s": 1.5},
            "timed out after 1.5 s (killed by signal 15 (SIGTERM))",
        ),
    ],
)
def test_an_ending_is_put_in_words(ending, error):
    assert describe(**ending) == error


def test_what_is_handed_in_as_a_whole_wins_over_what_was_said():
    assert merge({"a": 1, "b": 1}, {"b": 2}) == ({"a": 1, "b": 2}, "")


def test_both_together_keep_the_limit():
    outputs, problem = merge({"a": "x" * 600_000}, {"b": "x" * 600_000})
    assert outputs is None
    assert "over the limit" in problem


@pytest.mark.parametrize(
    ("outcome", "succeeded"),
    [
        (Outcome(exit_code=0), True),
        (Outcome(exit_code=0, error="outputs file is empty"), False),
        (Outcome(exit_code=1), False),
        (Outcome(signal=9), False),
        (Outcome(started=False), False),
    ],
)
def test_success_is_status_0_without_a_complaint(outcome, succeeded):
    assert outcome.succeeded is succeeded


def test_a_handle_is_json_and_back():
    handle = Handle("process", "a-1-l", 5, "boot:7")
    assert Handle.from_dict(handle.to_dict()) == handle
