"""Keeps a list of children running, and stops them in order."""

from __future__ import annotations

import math
import signal
import time
from typing import TYPE_CHECKING, NoReturn

from apps.stack.children import Child, describe_exit, last_lines, limit_log
from apps.stack.errors import CannotStart

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from apps.stack.terminal import Terminal

# Often enough that a restart feels immediate, seldom enough to cost nothing.
LOOK_EVERY_S = 0.2
LIMIT_LOGS_EVERY_S = 30
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(Exception):
    """Somebody asked to stop while something was being waited for."""


class Supervisor:
    """Starts children, restarts those that die, stops them in order."""

    def __init__(self, children: Sequence[Child], terminal: Terminal) -> None:
        self._children = children
        self._terminal = terminal
        self._asked = 0
        self._logs_limited_at = time.monotonic()

    def listen(self) -> None:
        """Take Ctrl-C, SIGTERM and SIGHUP: the first asks to stop, the second forces."""
        for number in STOPPING:
            signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._asked += 1

    @property
    def is_asked_to_stop(self) -> bool:
        """Whether somebody has asked to stop."""
        return self._asked > 0

    def pause(self) -> None:
        """Wait a moment; raises Stopped if somebody has asked to stop."""
        if self.is_asked_to_stop:
            raise Stopped
        time.sleep(LOOK_EVERY_S / 4)

    def start(self, child: Child) -> None:
        """Start a child; raises CannotStart or Stopped."""
        if self.is_asked_to_stop:
            raise Stopped
        child.start()

    def wait_for(self, child: Child) -> None:
        """Return once a started child answers.

        Raises CannotStart, with the last lines of its log, if it ends or stays silent; Stopped.
        """
        began = time.monotonic()
        patience = child.spec.patience_s or math.inf
        while not child.spec.is_ready():
            code = child.exit_code()
            if code is not None:
                self._give_up(child, describe_exit(code))
            if time.monotonic() - began > patience:
                self._give_up(child, f"runs, but does not answer after {patience:g} s")
            self.pause()
        child.is_announced = True

    def _give_up(self, child: Child, reason: str) -> NoReturn:
        raise CannotStart("\n".join([f"{child.spec.name}: {reason}", *self._evidence(child)]))

    def watch(self) -> None:
        """Restart whatever dies, until somebody asks to stop."""
        while not self.is_asked_to_stop:
            for child in self._children:
                self._look_at(child)
            self._limit_logs()
            time.sleep(LOOK_EVERY_S)

    def stop(self) -> None:
        """Stop the service's processes, then the servers they need; a further signal forces."""
        before = self._asked
        service = [child for child in self._children if not child.spec.is_server]
        servers = [child for child in self._children if child.spec.is_server]
        # The web process first: nothing new comes in while the worker drains.
        for child in [*service, *reversed(servers)]:
            if child.exit_code() is None and child.process is not None:
                self._stop_one(child, before)
            child.bury()

    def _look_at(self, child: Child) -> None:
        now = time.monotonic()
        code = child.exit_code()
        if code is not None:
            delay = child.note_death(now)
            self._say(
                child,
                f"died: {describe_exit(code)}; restarting in {delay:g} s",
                mark="✗",
                colour="bad",
            )
            for line in self._evidence(child):
                self._terminal.line(f"      {self._terminal.paint('quiet', line)}")
        elif child.restart_at is not None and now >= child.restart_at:
            try:
                child.start()
            except (CannotStart, OSError) as exc:
                delay = child.note_death(now)
                self._say(child, f"{exc}; trying again in {delay:g} s", mark="✗", colour="bad")
        elif child.process is not None and not child.is_announced and child.spec.is_ready():
            child.is_announced = True
            self._say(child, f"is back (pid {child.process.pid})")

    def _limit_logs(self) -> None:
        if time.monotonic() - self._logs_limited_at >= LIMIT_LOGS_EVERY_S:
            self._logs_limited_at = time.monotonic()
            for child in self._children:
                limit_log(child.log)

    def _stop_one(self, child: Child, before: int) -> None:
        began = time.monotonic()
        self._terminal.draw(f"  … {child.spec.name:14} stopping")
        child.signal(child.spec.stop_signal)
        is_forced = False
        while child.exit_code() is None:
            is_late = time.monotonic() - began >= child.spec.grace_s
            if not is_forced and (is_late or self._asked > before):
                child.signal(child.spec.force_signal)
                is_forced = True
            time.sleep(0.02)
        took = self._terminal.paint("quiet", f"{time.monotonic() - began:.1f} s")
        self._say(child, f"{'forced to stop' if is_forced else 'stopped'}  {took}")

    def _say(self, child: Child, text: str, *, mark: str = "✓", colour: str = "good") -> None:
        self._terminal.done(child.spec.name, text, mark=mark, colour=colour)

    def _evidence(self, child: Child) -> list[str]:
        return [*last_lines(child.log), f"(more in {child.log})"]
