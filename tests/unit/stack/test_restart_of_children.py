from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from apps.stack.children import (
    Child,
    ChildSpec,
    describe_exit,
    last_lines,
    limit_log,
    restart_delay,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def child(tmp_path: Path) -> Child:
    spec = ChildSpec(name="web", argv=list, env={}, cwd=tmp_path, is_ready=lambda: True)
    return Child(spec, tmp_path)


def test_it_waits_longer_after_each_death_but_never_long():
    assert [restart_delay(deaths) for deaths in (1, 2, 3, 4)] == [0.5, 1, 2, 4]
    assert restart_delay(50) == 30


def test_deaths_in_a_row_are_counted(child: Child):
    child.started_at = 100
    assert child.note_death(101) == 0.5
    child.started_at = 102
    assert child.note_death(103) == 1
    assert child.restart_at == 104


def test_a_child_that_ran_a_minute_begins_anew(child: Child):
    child.deaths = 5
    child.started_at = 100
    assert child.note_death(160) == 0.5


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "exit code 0"),
        (3, "exit code 3"),
        (-9, "killed by SIGKILL"),
        (-99, "killed by signal 99"),
    ],
)
def test_it_says_how_a_child_ended(code: int, words: str):
    assert describe_exit(code) == words


def test_it_quotes_the_end_of_the_log(tmp_path: Path):
    log = tmp_path / "web.log"
    log.write_bytes(b"x" * 20_000 + b"\nfirst\n\nsecond \xff\nthird\n")
    assert last_lines(log, 3) == ["first", "second �", "third"]


def test_a_log_that_is_missing_has_no_lines(tmp_path: Path):
    assert last_lines(tmp_path / "none.log") == []


def test_a_log_that_has_grown_is_kept_once_and_begins_anew(tmp_path: Path):
    log = tmp_path / "web.log"
    with log.open("ab") as writer:
        writer.write(b"old\n")
        writer.flush()
        limit_log(log, limit=3)
        writer.write(b"new\n")
    assert (tmp_path / "web.log.1").read_bytes() == b"old\n"
    assert log.read_bytes() == b"new\n"


def test_a_short_log_is_left_alone(tmp_path: Path):
    log = tmp_path / "web.log"
    log.write_bytes(b"old\n")
    limit_log(log, limit=100)
    assert log.read_bytes() == b"old\n"
